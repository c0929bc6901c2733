"""Register DRN's name, so that mmaction2's other models can be imported."""

from mmaction.registry import MODELS
from torch import nn


@MODELS.register_module()
class DRN(nn.Module):
    """Holds the registered name; a config that builds it gets an error.

    Raises:
        NotImplementedError: Always, saying where the real DRN is.
    """

    def __init__(self, *args, **kwargs):
        raise NotImplementedError(
            'the installed mmaction2 lacks the localizer DRN: its wheel was '
            'built without mmaction/models/localizers/drn '
            '(https://github.com/open-mmlab/mmaction2/issues/2714). Install '
            'mmaction2 from a checkout of its repository to use DRN'
        )
