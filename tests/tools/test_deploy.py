"""infer.py and export.py from the command line."""

import io
import subprocess
import sys
import textwrap

import pytest
import torch
from demos import CONFIGS, trained
from PIL import Image

from cgnl_mm.ops.torch_versions import TORCH

CONFIG = CONFIGS / 'r18_cgnl_digits.py'


@pytest.fixture(scope='module')
def model():
    return trained(CONFIG.stem)[1]


@pytest.fixture(scope='module')
def checkpoint(model, tmp_path_factory):
    path = tmp_path_factory.mktemp('weights') / 'weights.pth'
    meta = dict(dataset_meta=dict(classes=list('中bcdefghij')))
    torch.save(dict(state_dict=model.state_dict(), meta=meta), path)
    return path


def test_infer(run_here, checkpoint, monkeypatch, tmp_path):
    """A terminal that knows no Chinese loses no prediction."""
    Image.new('RGB', (32, 32)).save(tmp_path / '中.png')
    terminal = io.TextIOWrapper(io.BytesIO(), 'latin-1', write_through=True)
    monkeypatch.setattr(sys, 'stdout', terminal)
    out = tmp_path / 'out'
    run_here('infer', CONFIG, checkpoint, tmp_path, '--out', out)
    printed = terminal.buffer.getvalue().decode('latin-1')
    assert r'[1/1] \u4e2d.png: ' in printed
    assert (out / 'pictures/中.png.png').is_file()


def test_export_runs_without_this_project(
    run_tool, warm_torch, model, checkpoint, tmp_path
):
    """What is exported runs where neither the hosts nor we are installed."""
    if TORCH < (2, 6):
        pytest.skip('needs torch 2.6')
    done = run_tool(
        'export.py', CONFIG, checkpoint, '--out', 'sub/net.pt2', cwd=tmp_path
    )
    assert 'largest difference' in done.stdout
    code = """
        import sys
        import torch
        net = torch.export.load('sub/net.pt2').module()
        x = torch.arange(5 * 3 * 32 * 32).reshape(5, 3, 32, 32) % 256
        torch.save(net(x.float()), 'scores.pt')
        assert not {'cgnl_mm', 'mmengine', 'mmpretrain'} & set(sys.modules)
    """
    command = [warm_torch, '-c', textwrap.dedent(code)]
    subprocess.run(command, check=True, cwd=tmp_path, timeout=120)
    x = torch.arange(5 * 3 * 32 * 32).reshape(5, 3, 32, 32) % 256
    with torch.no_grad():
        results = model.test_step(dict(inputs=x.to(torch.uint8).flip(1)))
    expected = torch.stack([result.pred_score for result in results])
    scores = torch.load(tmp_path / 'scores.pt')
    torch.testing.assert_close(scores, expected, rtol=0, atol=1e-4)
