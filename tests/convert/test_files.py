"""Files as the author's train_val.py writes them."""

import argparse
import runpy
from pathlib import Path

import numpy as np
import pytest
import reference
import torch
from torch import nn

from cgnl_mm.cli.errors import setup_message
from cgnl_mm.errors import SetupError
from cgnl_mm.hosts import HOME
from cgnl_mm.ops.torch_versions import TORCH


@pytest.fixture
def save(monkeypatch, tmp_path):
    """Write a checkpoint of the author's code into an empty folder."""
    if TORCH < (2, 6):
        pytest.skip('torch < 2.6 reads no numbers of numpy safely, as his are')
    monkeypatch.chdir(tmp_path)

    def save(path, kind='cgnl', legacy=True, **more):
        """DataParallel, SGD with momentum, warmed up.

        With --warmup the learning rate is a number of numpy; the file format
        is that of PyTorch 0.4 and 1.0.
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

    return save


@pytest.fixture
def convert(save, capsys):
    """Convert a file by the tool, and return what is printed."""

    def convert(source, out, to='mmpretrain', backbone=False, force=False):
        flags = ['--backbone-only'] * backbone + ['--force'] * force
        tool = runpy.run_path(str(HOME / 'tools/convert_checkpoint.py'))
        tool['main']([source, out, '--to', to, *flags])
        return capsys.readouterr().out

    return convert


@pytest.fixture
def error_of(convert, tmp_path):
    """Expect one line, and that no file is made or changed."""

    def error_of(source='in.pth', out='out.pth', **options):
        before = sorted(tmp_path.rglob('*'))
        with pytest.raises(SetupError) as error:
            convert(source, out, **options)
        assert sorted(tmp_path.rglob('*')) == before
        message = str(error.value)
        assert message.isprintable() and 'weights_only=False' not in message
        return message

    return error_of


@pytest.mark.parametrize('legacy', [True, False])
def test_file_of_the_author(save, convert, tmp_path, legacy):
    theirs = save('model_best.pth.tar', legacy=legacy)
    out = convert('model_best.pth.tar', 'new/ours.pth')
    assert 'R-50' in out and '200 classes' in out
    assert 'CGNL2d(groups=8) after unit 4' in out
    assert 'tools/test.py configs/r50_cgnl_cub.py new/ours.pth' in out
    assert 'cgnlx' in out
    ours = torch.load('new/ours.pth', weights_only=True)
    weight = ours['state_dict']['backbone.layer3.cgnl_4.norm.weight']
    assert torch.equal(weight, theirs.module.layer3[5].gn.weight)

    names = {path.name for path in tmp_path.rglob('*')}
    assert names == {'new', 'ours.pth', 'model_best.pth.tar'}


@pytest.mark.parametrize('kind, options, config, loads', [
    ('nl', (), 'configs/r50_nl_cub.py', 'tools/test.py'),
    (None, (), 'configs/r50_cub.py', 'tools/test.py'),
    ('nl', ('mmdet', True),
     'configs/mask_rcnn_r50_fpn_nl_coco.py', 'load_from=out.pth'),
    (None, ('mmpretrain', True), 'configs/r50_cub.py', 'load_from=out.pth'),
])  # fmt: skip
def test_config_that_fits(kind, options, config, loads, save, convert):
    save('in.pth', kind)
    Path('out.pth').touch()
    out = convert('in.pth', 'out.pth', *options, force=True)
    (line,) = [x for x in out.splitlines() if x.startswith('use: ')]
    assert config in line and loads in line
    assert 'cgnlx' not in out


def test_place_that_cannot_be_written(save, error_of):
    save('in.pth')
    Path('out.pth').write_text('precious')
    assert '--force' in error_of()
    assert Path('out.pth').read_text() == 'precious'
    assert "'out.pth' is not a folder" in error_of(out='out.pth/x.pth')
    Path('folder').mkdir()
    assert "'folder' is not a file" in error_of(out='folder', force=True)


def test_interrupted(save, convert, monkeypatch):
    """No half file, and the old one stays."""
    save('in.pth')
    Path('out.pth').write_text('precious')

    def full_disk(_, path):
        Path(path).write_bytes(b'half')
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(torch, 'save', full_disk)
    with pytest.raises(OSError) as error:
        convert('in.pth', 'out.pth', force=True)
    assert 'device. Make room' in setup_message(error.value)
    assert Path('out.pth').read_text() == 'precious'
    assert {p.name for p in Path().iterdir()} == {'in.pth', 'out.pth'}


def test_unsafe_file(save, error_of):
    save('in.pth', args=argparse.Namespace(arch='50'), legacy=False)
    error = error_of()
    assert 'argparse.Namespace' in error and "['state_dict']" in error


@pytest.mark.parametrize(
    'content', [b'', b'text', b'PK\x03\x04', b'\x80\x02}q\x00.']
)
def test_no_checkpoint(content, error_of):
    Path('in.pth').write_bytes(content)
    error = error_of()
    assert 'in.pth is not' in error or 'not a checkpoint' in error


def test_no_file(error_of):
    assert "IN: no file 'in.pth'" in error_of()
    Path('folder').mkdir()
    assert "no file 'folder'" in error_of('folder')
