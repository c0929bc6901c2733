CODE = """
import cgnl_mm, torch
from mmaction.models import I3DHead
from mmaction.structures import ActionDataSample

head = I3DHead(num_classes=3, in_channels=4)
scores = torch.tensor([[0.5, 2, 1], [3, 1, 0]])
samples = [ActionDataSample().set_gt_label(k) for k in (1, 2)]
wide = head.loss_by_feat(scores, samples)
losses = head.loss_by_feat(scores.bfloat16(), samples)
assert losses['loss_cls'].dtype == torch.float32
for name, value in wide.items():
    assert torch.equal(losses[name], value), name
print(float(losses['top1_acc']))
"""


def test_scores_in_bfloat16_are_counted(python, needs):
    needs('mmaction_bfloat16')
    off = python('-c', CODE, off='-mmaction_bfloat16', status=1)
    assert 'unsupported ScalarType BFloat16' in off
    assert python('-c', CODE).endswith('0.5\n')
