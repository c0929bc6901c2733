"""ops/ serves anybody: it needs PyTorch and nothing else."""

from pathlib import Path

PACKAGE = Path(__file__).parents[2] / 'cgnl_mm'


def test_needs_no_openmmlab(python):
    code = (
        'import sys, torch, ops\n'
        'x = torch.ones(1, 8, 3)\n'
        'assert ops.cgnl_attention(x, x, x, groups=4).eq(6).all()\n'
        'loaded = {m.split(".")[0] for m in sys.modules}\n'
        'print(sorted(loaded & {"mmengine", "mmcv", "mmpretrain", "mmdet", '
        '"mmaction", "cgnl_mm"}))\n'
    )
    assert python('-c', code, off='', cwd=PACKAGE) == '[]\n'
