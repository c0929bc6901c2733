"""A classification head of the author's recipe, for mmpretrain."""

from typing import Tuple

from mmpretrain.models.heads import LinearClsHead
from mmpretrain.registry import MODELS
from torch import Tensor, nn


@MODELS.register_module()
class DropoutLinearClsHead(LinearClsHead):
    """Dropout before a linear classifier, as in the author's CUB network.

    mmaction2's heads have a dropout, mmpretrain's linear one does not.

    Args:
        num_classes (int): Number of classes.
        in_channels (int): Channels of the pooled features.
        dropout_ratio (float): Probability of zeroing a feature.
            Defaults to 0.5.
        **kwargs: Other arguments of LinearClsHead (``loss``, ``topk``,
            ``cal_acc``, ``init_cfg``).
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        dropout_ratio: float = 0.5,
        **kwargs,
    ) -> None:
        super().__init__(num_classes, in_channels, **kwargs)
        self.dropout = nn.Dropout(dropout_ratio)

    def pre_logits(self, feats: Tuple[Tensor, ...]) -> Tensor:
        """Features of the last stage, (B, C), some of them zeroed."""
        return self.dropout(super().pre_logits(feats))
