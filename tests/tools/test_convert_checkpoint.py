"""The tool on files as the author's train_val.py writes them."""

import argparse
import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from cgnl_mm.convert import Network
from cgnl_mm.ops.versions import TORCH

spec = importlib.util.spec_from_file_location(
    'reference', Path(__file__).parents[1] / 'convert/reference.py'
)
reference = importlib.util.module_from_spec(spec)
spec.loader.exec_module(reference)


def save(path, kind='cgnl', legacy=True, **more):
    """His checkpoint: DataParallel, SGD with momentum, warmed up.

    With --warmup his learning rate is a number of numpy; the file format is
    that of PyTorch 0.4 and 1.0.
    """
    network = nn.DataParallel(reference.Classifier(block=kind))
    reference.train_a_little(network)
    sgd = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9)
    network.module.fc.weight.sum().backward()
    sgd.step()
    sgd.param_groups[0]['lr'] = np.linspace(1e-5, 0.01, 10)[3]
    checkpoint = dict(
        epoch=4,
        state_dict=network.state_dict(),
        best_prec1=torch.tensor(80.5),
        optimizer=sgd.state_dict(),
        **more,
    )
    torch.save(checkpoint, path, _use_new_zipfile_serialization=not legacy)
    return network


@pytest.fixture
def tool(load_tool, monkeypatch, capsys, tmp_path):
    """Run it here, in an empty folder; return what it prints."""
    if TORCH < (2, 6):
        pytest.skip('torch < 2.6 reads no numbers of numpy safely, as his are')
    monkeypatch.chdir(tmp_path)
    module = load_tool('convert_checkpoint')

    def run(*args, fails=False):
        monkeypatch.setattr(sys, 'argv', ['convert', *map(str, args)])
        if not fails:
            module.run(module.main)
            return capsys.readouterr().out
        before = sorted(tmp_path.rglob('*'))
        with pytest.raises(SystemExit) as end:
            module.run(module.main)
        assert end.value.code == 2
        assert sorted(tmp_path.rglob('*')) == before
        error = capsys.readouterr().err
        assert error.startswith('error: ') and 'Traceback' not in error
        assert 'weights_only=False' not in error
        return error

    return run


@pytest.mark.parametrize('legacy', [True, False])
def test_there_and_back(tool, tmp_path, legacy):
    theirs = save('model_best.pth.tar', legacy=legacy)
    out = tool('model_best.pth.tar', 'new/ours.pth')
    assert 'R-50' in out and '200 classes' in out
    assert 'CGNL2d after unit 4 of layer3, 8 groups' in out
    assert 'tools/test.py configs/r50_cgnl_cub.py new/ours.pth' in out
    assert 'configs/r50_cgnlx_cub.py' in out
    ours = torch.load('new/ours.pth', weights_only=True)
    assert ours['meta']['author']['best_prec1'] == 80.5
    weight = ours['state_dict']['backbone.layer3.cgnl_4.norm.weight']
    assert torch.equal(weight, theirs.module.layer3[5].gn.weight)

    out = tool(
        'new/ours.pth', 'model_best.pth.tar', '--to', 'author', '--force'
    )
    assert "--dataset 'cub' --arch '50' --nl-type 'cgnl' --nl-nums 1" in out
    assert 'cgnlx' in out and 'groups=8' not in out
    back = torch.load('model_best.pth.tar', weights_only=True)
    assert back['epoch'] == 4 and back['best_prec1'] == 80.5
    expected = theirs.state_dict()
    assert list(back['state_dict']) == list(expected)
    assert all(
        torch.equal(back['state_dict'][k], expected[k]) for k in expected
    )
    assert {p.name for p in tmp_path.rglob('*')} == {
        'new',
        'ours.pth',
        'model_best.pth.tar',
    }


@pytest.mark.parametrize('kind, options, config, loads', [
    ('nl', [], 'configs/r50_nl_cub.py', 'tools/test.py'),
    (None, [], 'configs/r50_cub.py', 'tools/test.py'),
    ('nl', ['--to', 'mmdet', '--backbone-only'],
     'configs/mask_rcnn_r50_fpn_nl_coco.py', 'load_from=out.pth'),
    (None, ['--backbone-only'], 'configs/r50_cub.py', 'load_from=out.pth'),
])  # fmt: skip
def test_config_that_fits(kind, options, config, loads, tool):
    save('in.pth', kind)
    out = tool('in.pth', 'out.pth', *options)
    (line,) = [x for x in out.splitlines() if x.startswith('use: ')]
    assert config in line and loads in line
    assert 'cgnlx' not in out


def test_detector(tool):
    detector = reference.DetectorC4('cgnl', width=8)
    torch.save(dict(model=detector.state_dict(), iteration=9), 'c4.pth')
    error = tool('c4.pth', 'out.pth', '--to', 'mmdet', fails=True)
    assert 'rpn.head.cls_logits.weight' in error
    assert '--backbone-only' in error
    out = tool('c4.pth', 'out.pth', '--to', 'mmdet', '--backbone-only')
    assert 'configs/mask_rcnn_r50_c4_cgnl_coco.py' in out
    assert 'data_preprocessor.mean=[102.9801,115.9465,122.7717]' in out


def test_overwriting(tool):
    save('in.pth')
    Path('out.pth').write_text('precious')
    assert '--force' in tool('in.pth', 'out.pth', fails=True)
    assert Path('out.pth').read_text() == 'precious'


def test_interrupted(tool, monkeypatch):
    """No half file, and the old one stays."""
    save('in.pth')
    Path('out.pth').write_text('precious')

    def full_disk(_, path):
        Path(path).write_bytes(b'half')
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(torch, 'save', full_disk)
    error = tool('in.pth', 'out.pth', '--force', fails=True)
    assert 'No space left on device. Make room' in error
    assert Path('out.pth').read_text() == 'precious'
    assert {p.name for p in Path().iterdir()} == {'in.pth', 'out.pth'}


def test_missing_key(tool):
    checkpoint = dict(state_dict=reference.Classifier().state_dict())
    del checkpoint['state_dict']['layer3.5.bn1.weight']
    torch.save(checkpoint, 'in.pth')
    assert '  layer3.5.bn1.weight' in tool('in.pth', 'out.pth', fails=True)


def test_unsafe_file(tool):
    save('in.pth', args=argparse.Namespace(arch='50'), legacy=False)
    error = tool('in.pth', 'out.pth', fails=True)
    assert 'argparse.Namespace' in error and "['state_dict']" in error


@pytest.mark.parametrize(
    'content', [b'', b'text', b'PK\x03\x04', b'\x80\x02}q\x00.']
)
def test_no_checkpoint(content, tool):
    Path('in.pth').write_bytes(content)
    error = tool('in.pth', 'out.pth', fails=True)
    assert 'in.pth is no' in error


@pytest.mark.parametrize('legacy', [True, False])
def test_truncated(legacy, tool):
    save('in.pth', legacy=legacy)
    content = Path('in.pth').read_bytes()
    Path('in.pth').write_bytes(content[:-5000])
    assert 'in.pth is no' in tool('in.pth', 'out.pth', fails=True)


def test_no_file(tool):
    assert "IN: no file 'in.pth'" in tool('in.pth', 'out.pth', fails=True)
    Path('folder').mkdir()
    assert "no file 'folder'" in tool('folder', 'out.pth', fails=True)


@pytest.mark.parametrize('network, told, untold', [
    (('CGNL2d', 8, 1000), "--dataset 'imagenet' --arch '101'", 'edited'),
    (('CGNL2d', 4, 200), 'edited to 4', 'no data set'),
    (('NonLocal2d', 1, 200), "--nl-type 'nl'", 'cgnlx'),
    ((None, None, 200), "--arch '101' --valid", 'nl-type'),
    (('CGNL2d', 8, 37), 'no data set of 37 classes', '--valid'),
])  # fmt: skip
def test_advice_for_the_authors_code(network, told, untold, load_tool):
    """What his train_val.py would not take, or take for something else."""
    advise = load_tool('convert_checkpoint').advise_author
    text = advise(Network(101, *network))
    assert told in text and untold not in text
