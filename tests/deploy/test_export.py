"""Every format of every host's network, run by its own runtime."""

import importlib.util
from pathlib import Path

import pytest
import torch
from demos import CONFIGS, IN_BLOCK, trained
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

from cgnl_mm.cli import load_config
from cgnl_mm.deploy import export as module
from cgnl_mm.deploy.export import Exported, export, largest_difference
from cgnl_mm.deploy.model import as_views, build_model, random_pixels
from cgnl_mm.errors import SetupError
from cgnl_mm.ops.torch_versions import TORCH

PURE = str(Path(__file__).with_name('pure_{}.py'))
SHAPES = {
    str(CONFIGS / 'r18_cgnl_digits.py'): (32, 32),
    str(CONFIGS / 'i3d_r18_cgnl_movingdigits.py'): (8, 32, 32),
    PURE.format('mmaction'): (4, 32, 32),
    PURE.format('mmpretrain'): (32, 32),
    str(CONFIGS / 'mask_rcnn_r18_fpn_cgnl_digitscenes.py'): (64, 64),
    str(CONFIGS / 'i3d_r18_nl_movingdigits.py'): (8, 32, 32),
}
DIGITS, CLIPS, SEGMENTS, PLAIN, SCENES, NON_LOCAL = SHAPES
# (config, format) of the fast tier; the product is nightly
MODELS_FAST = {
    (DIGITS, 'torchscript'), (CLIPS, 'onnx'), (SEGMENTS, 'torch_export'),
    (PLAIN, 'torchscript'),
}  # fmt: skip
BACKBONES_FAST = {
    (DIGITS, 'onnx'), (CLIPS, 'torch_export'), (SCENES, 'torchscript'),
    (NON_LOCAL, 'torchscript'),
}  # fmt: skip
# of a block's last norm
ENDS = ('norm.weight', 'norm.bias', 'bn.weight', 'bn.bias')
pytestmark = pytest.mark.filterwarnings('ignore:`torch.jit')


def cases(configs, fast):
    """Give each config with each format, most of them nightly."""
    for config in configs:
        for form in module.SUFFIXES:
            marks = () if (config, form) in fast else pytest.mark.nightly
            name = f'{Path(config).stem}-{form}'
            yield pytest.param(config, form, marks=marks, id=name)


def network_of(config):
    """The config and its network, without the identity of fresh blocks."""
    if Path(config).parent == CONFIGS:
        return trained(Path(config).stem)
    cfg = load_config(config)
    return cfg, build_model(cfg, None)


def exported(config, form, part, folder):
    """Write a network and read it back; needs what the format needs."""
    if TORCH < (2, 6) and form != 'torchscript':
        pytest.skip('torch < 2.6 exports torchscript alone')
    for name in module.ONNX if form == 'onnx' else ():
        pytest.importorskip(name, reason=f'{name} is not installed')
    cfg, model = network_of(config)
    network = Exported(model, cfg, part).eval()
    out = folder / f'exported{module.SUFFIXES[form]}'
    example = random_pixels(SHAPES[config], module.TRACED)
    module.write(network, example, out, form)
    return cfg, model, network, module.load(out, form)


@pytest.mark.parametrize('config, form', cases(SHAPES, BACKBONES_FAST))
def test_backbone(config, form, tmp_path):
    _, model, network, loaded = exported(config, form, 'backbone', tmp_path)
    assert largest_difference(network, loaded, SHAPES[config]) <= 1e-4
    # the block is in what was exported: without it, the check fails
    blocks = False
    for key, tensor in model.state_dict().items():
        if IN_BLOCK(key) and key.endswith(ENDS):
            tensor.zero_()
            blocks = True
    changed = largest_difference(network, loaded, SHAPES[config]) > 1e-2
    assert changed == blocks


@pytest.mark.parametrize('config, form', cases(list(SHAPES)[:4], MODELS_FAST))
def test_scores_are_those_of_the_host(config, form, tmp_path):
    """What test_step says for the same pixels, to 1e-4, batch 3."""
    cfg, model, _, loaded = exported(config, form, 'model', tmp_path)
    rgb = torch.randint(0, 256, (3, 3, *SHAPES[config]), dtype=torch.uint8)
    inputs = rgb.flip(1)  # mmpretrain's pipelines load BGR
    if rgb.dim() == 5:
        inputs = list(as_views(rgb, config == SEGMENTS))
    with torch.no_grad():
        batch = dict(inputs=inputs)
        if rgb.dim() == 5:
            from mmaction.structures import ActionDataSample

            batch['data_samples'] = [ActionDataSample() for _ in rgb]
        results = model.test_step(batch)
    expected = torch.stack([result.pred_score for result in results])
    (scores,) = loaded(rgb.float())
    torch.testing.assert_close(scores, expected, rtol=0, atol=1e-4)
    assert scores.std() > 1e-3


@pytest.mark.parametrize('name, key', [
    ('r18_digits', 'to_rgb'),
    ('i3d_r18_movingdigits', 'to_rgb'),
    ('mask_rcnn_r18_fpn_digitscenes', 'bgr_to_rgb'),
])  # fmt: skip
@pytest.mark.parametrize('turned', [True, False])
def test_normalisation_is_that_of_the_host(name, key, turned):
    """Both channel orders, a mean and std of their own for each channel."""
    cfg = Config.fromfile(CONFIGS / f'{name}.py')
    host, cfg = cfg.default_scope, cfg.model.data_preprocessor
    cfg.update({key: turned}, mean=[10.0, 20.0, 30.0], std=[1.0, 2.0, 4.0])
    cfg.setdefault('type', 'ClsDataPreprocessor')
    with DefaultScope.overwrite_default_scope(host):
        theirs = MODELS.build(cfg)
    shape = (4, 32, 32) if host == 'mmaction' else (32, 32)
    rgb = torch.randint(0, 256, (2, 3, *shape), dtype=torch.uint8)
    batch = list(rgb if host == 'mmaction' else rgb.flip(1))
    expected = theirs(dict(inputs=batch, data_samples=None))['inputs']
    ours = module.Normalise(theirs, host)
    torch.testing.assert_close(ours(rgb.float()), expected)


def test_normalised_leaves_the_preprocessor_out():
    cfg, model = trained('r18_cgnl_digits')
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        expected = model(x, mode='tensor').softmax(-1)
        found = Exported(model, cfg, 'model', normalised=True)(x)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize('bad', ['value', 'nan', 'shape'])
def test_check_sees_what_differs(bad):
    cfg, model = trained('r18_cgnl_digits')
    network = Exported(model, cfg, 'model').eval()

    def loaded(x):
        scores = network(x).clone()
        if bad == 'shape':
            return [scores[:, 1:]]
        scores[-1, 0] = float('nan') if bad == 'nan' else scores[-1, 0] + 2e-4
        return [scores]

    assert not largest_difference(network, loaded, (32, 32)) <= 1e-4


def test_nothing_is_written_that_differs(monkeypatch, tmp_path):
    monkeypatch.setattr(module, 'TOLERANCE', -1)
    cfg = Config.fromfile(DIGITS)
    with pytest.raises(SetupError, match='nothing was written'):
        export(cfg, 'none', tmp_path / 'x.pt', 'torchscript')
    assert not list(tmp_path.iterdir())


def test_operator_set_that_pytorch_cannot_write(tmp_path):
    """PyTorch prints that it cannot convert to 11, and writes another."""
    pytest.importorskip('onnx')
    cfg = Config.fromfile(DIGITS)
    with pytest.raises(SetupError, match='--opset 11: PyTorch .* cannot'):
        export(cfg, 'none', tmp_path / 'a.onnx', opset=11)
    assert not list(tmp_path.iterdir())


@pytest.mark.nightly
def test_operator_set_is_written(tmp_path):
    onnx = pytest.importorskip('onnx')
    export(Config.fromfile(DIGITS), 'none', tmp_path / 'a.onnx', opset=20)
    (used,) = onnx.load(str(tmp_path / 'a.onnx')).opset_import
    assert used.version == 20


@pytest.mark.parametrize('config, out, options, message', [
    (DIGITS, 'a.pt', {}, 'ends in .pt2'),
    (DIGITS, 'a.pt2', dict(opset=18), '--opset is of ONNX'),
    (SCENES, 'a.pt2', dict(part='model'), 'exported by MMDeploy'),
])  # fmt: skip
def test_wrong_use(tmp_path, config, out, options, message):
    cfg = Config.fromfile(config)
    with pytest.raises(SetupError, match=message):
        export(cfg, 'none', tmp_path / out, 'torch_export', **options)


def test_onnx_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(SetupError, match='pip install onnx onnxscript onnxr'):
        module.check_form('onnx', tmp_path / 'a.onnx', None)
