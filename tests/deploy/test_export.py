"""export.py: every format of every host's network, run by its own runtime."""

import importlib.util
import subprocess
import sys
import textwrap
from importlib import import_module
from pathlib import Path

import pytest
import torch
from demos import CONFIGS, IN_BLOCK, trained
from mmengine.config import Config
from mmengine.registry import DefaultScope

from cgnl_mm.errors import SetupError
from cgnl_mm.ops.versions import TORCH

TOOLS = Path(__file__).parents[2] / 'tools'
SHAPES = {
    'r18{}_digits': (32, 32),
    'i3d_r18{}_movingdigits': (8, 32, 32),
    'mask_rcnn_r18_fpn{}_digitscenes': (64, 64),
}
FORMATS = dict(onnx='.onnx', torch_export='.pt2', torchscript='.pt')
pytestmark = [
    pytest.mark.filterwarnings('ignore:`torch.jit'),
    pytest.mark.filterwarnings('ignore::torch.jit.TracerWarning'),
]


def networks_and_formats(number, chosen):
    """The product, of which the fast tier has the chosen (network, format).

    Args:
        number (int): Of networks.
        chosen (str): For each of them, its format.
    """
    for name, fast in zip(list(SHAPES)[:number], chosen.split()):
        for kind in FORMATS:
            marks = () if kind == fast else pytest.mark.nightly
            yield pytest.param(name, kind, marks=marks)


@pytest.fixture
def tool(monkeypatch):
    """The module that exports."""
    monkeypatch.syspath_prepend(str(TOOLS))
    for name in ('_export', 'export'):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return import_module('_export')


@pytest.fixture
def command(tool, monkeypatch):
    """The tool itself, ``command(config, checkpoint, *options)``."""
    module = import_module('export')

    def run(*argv):
        monkeypatch.setattr(sys, 'argv', ['export.py', *map(str, argv)])
        module.main()

    run.module = module
    return run


OLD_TORCH = TORCH < (2, 6)


def need(kind):
    if OLD_TORCH and kind != 'torchscript':
        pytest.skip('torch < 2.6 exports torchscript alone')
    if kind == 'onnx':
        for name in ('onnx', 'onnxscript', 'onnxruntime'):
            pytest.importorskip(name, reason=f'{name} is not installed')


def export(tool, network, kind, shape, tmp_path):
    from cgnl_mm.deploy.model import random_pixels

    out = tmp_path / f'exported{FORMATS[kind]}'
    example = random_pixels(shape, tool.TRACED)
    with torch.no_grad():
        tool.EXPORTERS[kind](network, example, out, None)
    return tool.load(out, kind)


@pytest.mark.parametrize('name, kind', [
    *networks_and_formats(3, 'onnx torch_export torchscript'),
    ('i3d_r18_nl_movingdigits', 'torchscript'),
    pytest.param('i3d_r18_nl_movingdigits', 'onnx', marks=pytest.mark.nightly),
])  # fmt: skip
def test_backbone(tool, name, kind, tmp_path):
    need(kind)
    shape = SHAPES[name.replace('_nl', '{}')]
    cfg, model = trained(name.format('_cgnl'))
    network = tool.Exported(
        model, cfg.default_scope, 'backbone', len(shape)
    ).eval()
    loaded = export(tool, network, kind, shape, tmp_path)
    assert tool.largest_difference(network, loaded, shape) <= 1e-4

    # the block is in what was exported: without it, the check fails
    for key, tensor in model.state_dict().items():
        if key.endswith(('norm.weight', 'norm.bias', 'bn.weight', 'bn.bias')):
            if IN_BLOCK(key):
                tensor.zero_()
    assert tool.largest_difference(network, loaded, shape) > 1e-2


@pytest.mark.parametrize(
    'name, kind', networks_and_formats(2, 'torchscript onnx')
)
def test_scores_are_those_of_the_host(tool, name, kind, tmp_path):
    """What test_step says for the same picture, to 1e-4, batch 3."""
    need(kind)
    shape = SHAPES[name]
    cfg, model = trained(name.format('_cgnl'))
    host = cfg.default_scope
    network = tool.Exported(model, host, 'model', len(shape)).eval()
    loaded = export(tool, network, kind, shape, tmp_path)

    pixels = torch.randint(0, 256, (3, 3, *shape), dtype=torch.uint8)
    expected = host_scores(model, host, pixels)
    (scores,) = loaded(pixels.float())
    torch.testing.assert_close(scores, expected, rtol=0, atol=1e-4)
    assert scores.std() > 1e-3


def host_scores(model, host, rgb):
    if host == 'mmpretrain':
        from mmpretrain.structures import DataSample

        # its pipelines load BGR
        samples = [DataSample() for _ in rgb]
        batch = dict(inputs=rgb.flip(1), data_samples=samples)
    else:
        from mmaction.structures import ActionDataSample

        samples = [ActionDataSample() for _ in rgb]
        batch = dict(inputs=list(rgb[:, None]), data_samples=samples)
    with torch.no_grad():
        results = model.test_step(batch)
    return torch.stack([result.pred_score for result in results])


@pytest.mark.parametrize('name, key', [
    ('r18_digits', 'to_rgb'),
    ('i3d_r18_movingdigits', 'to_rgb'),
    ('mask_rcnn_r18_fpn_digitscenes', 'bgr_to_rgb'),
])  # fmt: skip
@pytest.mark.parametrize('turned', [True, False])
def test_normalisation_is_that_of_the_host(tool, name, key, turned):
    """Both channel orders, a mean and std of their own for each channel."""
    cfg = Config.fromfile(CONFIGS / f'{name}.py').model.data_preprocessor
    cfg = dict(
        cfg, **{key: turned}, mean=[10.0, 20.0, 30.0], std=[1.0, 2.0, 4.0]
    )
    host = dict(r='mmpretrain', i='mmaction', m='mmdet')[name[0]]
    cfg.setdefault('type', 'ClsDataPreprocessor')
    with DefaultScope.overwrite_default_scope(host):
        theirs = import_module(f'{host}.registry').MODELS.build(cfg)
    shape = (4, 32, 32) if host == 'mmaction' else (32, 32)
    rgb = torch.randint(0, 256, (2, 3, *shape), dtype=torch.uint8)
    loaded = rgb if host == 'mmaction' else rgb.flip(1)
    if host == 'mmpretrain':
        expected = theirs(dict(inputs=loaded))['inputs']
    else:
        batch = dict(inputs=list(loaded), data_samples=None)
        expected = theirs(batch)['inputs']
    ours = tool.Normalise(theirs, host, len(shape))
    torch.testing.assert_close(ours(rgb.float()), expected)


def test_normalised_leaves_the_preprocessor_out(tool):
    cfg, model = trained('r18_cgnl_digits')
    host = cfg.default_scope
    x = torch.randn(2, 3, 32, 32)
    network = tool.Exported(model, host, 'model', 2, normalised=True).eval()
    with torch.no_grad():
        expected = model(x, mode='tensor').softmax(-1)
        torch.testing.assert_close(network(x), expected)


@pytest.mark.parametrize('bad', ['value', 'nan', 'shape'])
def test_check_sees_what_differs(tool, bad):
    cfg, model = trained('r18_cgnl_digits')
    network = tool.Exported(model, cfg.default_scope, 'model', 2).eval()

    def loaded(x):
        scores = network(x).clone()
        if bad == 'shape':
            return [scores[:, 1:]]
        scores[-1, 0] = float('nan') if bad == 'nan' else scores[-1, 0] + 2e-4
        return [scores]

    difference = tool.largest_difference(network, loaded, (32, 32))
    assert not difference <= 1e-4


def test_nothing_is_written_that_differs(command, monkeypatch, tmp_path):
    config = CONFIGS / 'r18_cgnl_digits.py'
    out = tmp_path / 'x.pt'
    monkeypatch.setattr(command.module, 'TOLERANCE', -1)
    with pytest.raises(SetupError, match='nothing was written'):
        command(config, 'none', '--format', 'torchscript', '--out', out)
    assert not list(tmp_path.iterdir())


def test_command_and_a_runtime_without_this_project(
    run_tool, warm_torch, tmp_path
):
    """What is exported runs where neither the hosts nor we are installed."""
    need('torch_export')
    _, model = trained('r18_cgnl_digits')
    checkpoint = tmp_path / 'weights.pth'
    torch.save(dict(state_dict=model.state_dict()), checkpoint)
    out = tmp_path / 'sub/net.pt2'
    done = run_tool(
        'export.py',
        *(CONFIGS / 'r18_cgnl_digits.py', checkpoint, '--out', out),
        *('--format', 'torch_export'),
        cwd=tmp_path,
    )
    assert 'largest difference' in done.stdout
    code = f"""
        import sys
        import torch
        net = torch.export.load({str(out)!r}).module()
        x = torch.arange(5 * 3 * 32 * 32).reshape(5, 3, 32, 32) % 256
        torch.save(net(x.float()), {str(tmp_path / 'scores.pt')!r})
        assert not {{'cgnl_mm', 'mmengine', 'mmpretrain'}} & set(sys.modules)
    """
    subprocess.run(
        [warm_torch, '-c', textwrap.dedent(code)],
        check=True,
        cwd=tmp_path,
        timeout=120,
    )
    x = torch.arange(5 * 3 * 32 * 32).reshape(5, 3, 32, 32) % 256
    scores = torch.load(tmp_path / 'scores.pt')
    expected = host_scores(model, 'mmpretrain', x.to(torch.uint8)[:3])
    torch.testing.assert_close(scores[:3], expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize('name, options, message', [
    ('r18_digits', ('--out', 'a.pt'), 'ends in .pt2'),
    ('r18_digits', ('--out', 'a.pt2', '--opset', '18'), '--opset is of ONNX'),
    ('mask_rcnn_r18_fpn_digitscenes', ('--out', 'a.pt2', '--part', 'model'),
     'exported by MMDeploy'),
])  # fmt: skip
def test_wrong_use(command, monkeypatch, tmp_path, name, options, message):
    monkeypatch.chdir(tmp_path)
    config = CONFIGS / f'{name}.py'
    with pytest.raises(SetupError, match=message):
        command(config, 'none', '--format', 'torch_export', *options)


@pytest.mark.parametrize('having, wanting, message', [
    ('', '_cgnl', 'missing keys in source state_dict: backbone.layer3.cgnl_0'),
    ('_cgnl', '', 'unexpected key in source state_dict: backbone.layer3.cgnl'),
])  # fmt: skip
def test_checkpoint_of_another_network(
    command, tmp_path, having, wanting, message
):
    """The twin with or without the block, which would load in silence."""
    _, model = trained(f'r18{having}_digits')
    checkpoint = tmp_path / 'weights.pth'
    torch.save(dict(state_dict=model.state_dict()), checkpoint)
    config = CONFIGS / f'r18{wanting}_digits.py'
    options = '--format', 'torchscript', '--out', tmp_path / 'a.pt'
    with pytest.raises(SetupError, match=message):
        command(config, checkpoint, *options)


def test_onnx_says_what_to_install(command, monkeypatch):
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(SetupError, match='pip install onnx onnxscript onnxr'):
        command.module.require_onnx()
