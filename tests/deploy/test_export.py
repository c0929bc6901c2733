"""Every format of every host's network, run by its own runtime."""

import importlib.util
from pathlib import Path

import pytest
import torch
from demos import CONFIGS, IN_BLOCK, trained
from mmaction.structures import ActionDataSample
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

from cgnl_mm.cli import load_config
from cgnl_mm.deploy import export as module
from cgnl_mm.deploy.export import Exported, export, largest_difference
from cgnl_mm.deploy.model import as_views, build_model, random_pixels
from cgnl_mm.errors import SetupError
from cgnl_mm.hosts import host_of
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
FAST = {
    (DIGITS, '.pt2'), (CLIPS, '.onnx'), (SEGMENTS, '.pt2'), (PLAIN, '.onnx'),
    (SCENES, '.pt2'), (NON_LOCAL, '.pt2'),
}  # fmt: skip
# of a block's last norm
ENDS = ('norm.weight', 'norm.bias', 'bn.weight', 'bn.bias')
needs_export = pytest.mark.skipif(TORCH < (2, 6), reason='needs torch 2.6')


def cases(configs):
    """Give each config with each format, most of them nightly."""
    for config in configs:
        for form in ('.onnx', '.pt2'):
            marks = () if (config, form) in FAST else pytest.mark.nightly
            name = f'{Path(config).stem}-{form}'
            yield pytest.param(config, form, marks=marks, id=name)


def network_of(config):
    """The config and its network, without the identity of fresh blocks."""
    if Path(config).parent == CONFIGS:
        return trained(Path(config).stem)
    cfg = load_config(config)
    return cfg, build_model(cfg, None)


@pytest.fixture
def exported(tmp_path):
    """Write a network and read it back; needs what the format needs."""

    def run(config, form):
        for name in module.ONNX if form == '.onnx' else ():
            pytest.importorskip(name, reason=f'{name} is not installed')
        cfg, model = network_of(config)
        network = Exported(model, host_of(cfg)).eval()
        out = tmp_path / f'exported{form}'
        module.write(
            network, random_pixels(SHAPES[config], module.TRACED), out
        )
        return model, network, module.load(out)

    return run


@needs_export
@pytest.mark.parametrize('config, form', cases([SCENES, NON_LOCAL]))
def test_block_is_in_what_is_exported(exported, config, form):
    """The maps of a detector's backbone, and the scores of a recogniser."""
    model, network, loaded = exported(config, form)
    assert largest_difference(network, loaded, SHAPES[config]) <= 1e-4
    for key, tensor in model.state_dict().items():
        if IN_BLOCK(key) and key.endswith(ENDS):
            tensor.zero_()
    assert largest_difference(network, loaded, SHAPES[config]) > 1e-2


@needs_export
@pytest.mark.parametrize('config, form', cases(list(SHAPES)[:4]))
def test_scores_are_those_of_the_host(exported, config, form):
    """What test_step says for the same pixels, to 1e-4, batch 3."""
    model, _, loaded = exported(config, form)
    rgb = torch.randint(0, 256, (3, 3, *SHAPES[config]), dtype=torch.uint8)
    batch = dict(inputs=rgb.flip(1))  # mmpretrain's pipelines load BGR
    if rgb.dim() == 5:
        samples = [ActionDataSample() for _ in rgb]
        views = list(as_views(rgb, config == SEGMENTS))
        batch = dict(inputs=views, data_samples=samples)
    with torch.no_grad():
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


@pytest.mark.parametrize('bad', ['value', 'nan', 'shape'])
def test_check_sees_what_differs(bad):
    cfg, model = trained('r18_cgnl_digits')
    network = Exported(model, host_of(cfg)).eval()

    def loaded(x):
        scores = network(x).clone()
        if bad == 'shape':
            return [scores[:, 1:]]
        scores[-1, 0] = float('nan') if bad == 'nan' else scores[-1, 0] + 2e-4
        return [scores]

    assert not largest_difference(network, loaded, (32, 32)) <= 1e-4


@needs_export
def test_nothing_is_written_that_differs(monkeypatch, tmp_path):
    monkeypatch.setattr(module, 'TOLERANCE', -1)
    cfg = Config.fromfile(DIGITS)
    with pytest.raises(SetupError, match='nothing was written'):
        export(cfg, 'none', tmp_path / 'x.pt2')
    assert not list(tmp_path.iterdir())


@needs_export
def test_format_that_cannot_be_written(monkeypatch, tmp_path):
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
    for name, message in (
        ('a.pt', 'the name ends in .onnx'),
        ('a.onnx', 'pip install onnx onnxscript onnxr'),
    ):
        with pytest.raises(SetupError, match=message):
            module.check_format(tmp_path / name)
