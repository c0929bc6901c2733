"""Count the correct scores of mmaction2's heads in bfloat16.

Symptom: ``TypeError: Got unsupported ScalarType BFloat16`` in the first
training step with ``AmpOptimWrapper(dtype='bfloat16')`` or FSDP in bfloat16.

Versions: mmaction2 <= 1.2.0: the head hands its scores to numpy, which has
no bfloat16, to count the correct ones.

Upstream: none; float16 has no such defect.

Cure: ``BaseHead.loss_by_feat`` gets bfloat16 scores as float32. The loss is
computed in float32 under autocast anyway.

Delete when: mmaction2 widens the scores itself.
"""

import functools

import torch

from .imports import after_import

PACKAGE = 'mmaction'


def mend(heads) -> None:
    """Replace ``BaseHead.loss_by_feat`` of ``mmaction.models.heads.base``."""
    original = heads.BaseHead.loss_by_feat

    @functools.wraps(original)
    def loss_by_feat(self, cls_scores, data_samples):
        if cls_scores.dtype == torch.bfloat16:
            cls_scores = cls_scores.float()
        return original(self, cls_scores, data_samples)

    heads.BaseHead.loss_by_feat = loss_by_feat


def apply() -> None:
    after_import('mmaction.models.heads.base', mend)
