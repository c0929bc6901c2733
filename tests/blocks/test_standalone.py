"""The blocks need PyTorch and nothing else."""

CODE = """
import sys
sys.modules['mmcv'] = sys.modules['mmengine'] = None
import torch
from cgnl_mm.blocks import CGNL1d, CGNL2d, CGNL3d

for cls in (CGNL1d, CGNL2d, CGNL3d):
    for kind in ('GN', 'BN', 'IN', 'SyncBN', torch.nn.GroupNorm):
        norm_cfg = dict(type=kind, affine=True)
        block = cls(16, groups=4, norm_cfg=norm_cfg).eval()
        block.init_weights()
        x = torch.randn(2, 16, *(5,) * cls.rank)
        y = block(x)
        assert torch.equal(y, x)
        y.sum().backward()
        assert block.norm.weight.grad.any()
try:
    CGNL2d(16, norm_cfg=dict(type='MMSyncBN'))
except ValueError as error:
    print(error)
loaded = {name.split('.')[0] for name in sys.modules if sys.modules[name]}
print(sorted(loaded & {'mmengine', 'mmcv', 'mmpretrain', 'matplotlib'}))
"""


def test_blocks_need_no_openmmlab(python):
    said = python('-c', CODE, off='').splitlines()
    assert "'MMSyncBN' is not registered" in said[0]
    assert said[1] == '[]'
