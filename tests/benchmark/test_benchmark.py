"""What the benchmark counts, compares, refuses and writes; no times."""

import shutil
from contextlib import nullcontext
from importlib import import_module

import pandas as pd
import pytest
import torch
from mmengine.config import Config
from torch import nn
from torch._subclasses import FakeTensorMode

from cgnl_mm.benchmark import block, networks, timing, traffic
from cgnl_mm.benchmark.forms import (
    AUTO,
    CASES,
    FORMS,
    LOOP,
    NON_LOCAL,
    Case,
    Settings,
    choose_forms,
)
from cgnl_mm.benchmark.run import run_benchmark
from cgnl_mm.deploy.model import without_weights
from cgnl_mm.errors import SetupError
from cgnl_mm.hosts import HOME
from cgnl_mm.ops.fused import torch_steps

TINY = Case('tiny', 2, 32, (5, 3))
QUICK = Settings(quick=True)


def check(name, case, settings=QUICK):
    expected = block.expect(case, settings)
    block.require_right(name, FORMS[name](case), *expected)


@pytest.mark.parametrize('name', ['input_gradient', 'statistics'])
def test_wrong_path_is_refused_and_named(name, monkeypatch, capsys, tmp_path):
    """A hundredth off: the others are reported, this one is not."""
    right = getattr(torch_steps, name)

    def wrong(*args):
        out = right(*args)
        if name == 'statistics':
            return out[0], 1.01 * out[1]
        return 1.01 * out

    monkeypatch.setattr(torch_steps, name, wrong)
    names = ['cgnl folded', 'cgnl reference']
    options = dict(what=['r50_res4_224'], forms=names, out=tmp_path)
    assert run_benchmark(Settings(quick=True, **options)) == 1
    table = pd.read_csv(tmp_path / 'benchmark.csv')
    folded = table.form == 'cgnl folded'
    assert list(table.form.unique()) == [LOOP, *reversed(names)]
    status = table.status[folded].str
    assert status.startswith('failed: AssertionError: ').all()
    of_output = status.startswith('failed: AssertionError: out: ')
    assert (of_output == (name == 'statistics')).all()
    assert table.median_ms[folded].isna().all()
    assert (table.status[~folded] == 'ok').all()
    assert (table.to_loop[~folded] > 0).all()
    said = capsys.readouterr().err
    assert 'cgnl folded, forward: failed' in said
    assert 'cgnl reference' not in said


@pytest.mark.parametrize('size', [(5, 3), (2, 3, 3)])
@pytest.mark.parametrize(
    'series',
    [dict(), dict(mode='embedded_gaussian', order=3), dict(groups=1)],
    ids=str,
)
def test_loop_is_the_published_block(size, series):
    check(LOOP, Case('c', 2, 32, size, **series))


@pytest.mark.parametrize('dtype', ['bfloat16', 'float16'])
def test_half_precision_is_compared_in_its_type(dtype):
    """A path that is right passes; float32's rule would refuse it."""
    settings = Settings(dtype=dtype)
    for name in choose_forms(TINY, settings):
        if name != NON_LOCAL:
            check(name, TINY, settings)


def test_failure_leaves_the_other_forms(monkeypatch):
    """One form cannot be built, and one cannot run."""

    def refuse(case):
        raise ValueError('not for\n32 channels')

    forms = {'unbuilt': refuse, NON_LOCAL: lambda case: nn.Linear(2, 2)}
    forms[LOOP] = FORMS[LOOP]
    monkeypatch.setattr('cgnl_mm.benchmark.forms.FORMS', forms)
    records = block.measure_block(TINY, QUICK)
    for kind in block.PASSES:
        status = {r['form']: r['status'] for r in records if r['pass'] == kind}
        assert status['unbuilt'] == 'failed: ValueError: not for 32 channels'
        assert status[NON_LOCAL].startswith('failed: RuntimeError: mat1')
        assert status[LOOP] == 'ok'


def test_peak_counts_what_lives_at_once():
    x = torch.ones(1000)

    def call():
        y = x + 1
        y = y + 1  # two maps here, one after it
        return y * y  # two again

    assert 8000 <= timing.peak_bytes(call) < 8100  # and the ones


@pytest.mark.parametrize('budget, rounds', [(1e9, timing.ROUNDS), (0.0, 3)])
def test_rounds_are_interleaved_and_errors_are_kept_apart(budget, rounds):
    log = []

    def call(name):
        log.append(name)
        if name == 'bad':
            raise ValueError('bad')

    failed, names = {}, ('a', 'bad', 'b')
    calls = {k: lambda k=k: call(k) for k in names}
    samples = timing.time_interleaved(calls, failed, budget, shortest=0.0)
    assert failed == {'bad': 'failed: ValueError: bad'}
    assert {k: len(v) for k, v in samples.items()} == dict(a=rounds, b=rounds)
    left = log[2 * (timing.WARM_UP + 1) + 1 :]
    assert len(left) == 2 * rounds
    orders = {tuple(left[i : i + 2]) for i in range(0, len(left), 2)}
    assert orders == {('a', 'b'), ('b', 'a')}


@pytest.mark.parametrize('config, size, names', [
    ('mask_rcnn_r50_fpn_coco', (224, 224), ('r50_res3_224', 'r50_res4_224')),
    ('mask_rcnn_r50_fpn_coco', (448, 448), ('r50_res3_448',)),
    ('mask_rcnn_r50_fpn_coco', (800, 1344), ('mask_rcnn_res3',)),
    ('i3d_r50_minikinetics', (32, 224, 224),
     ('i3d_res3_32f', 'i3d_res4_32f')),
])  # fmt: skip
def test_shapes_are_those_of_the_networks(config, size, names):
    """Maps of res3 and res4 in our configs, without computing."""
    cfg = Config.fromfile(HOME / f'configs/{config}.py')
    registry = import_module(f'{cfg.default_scope}.registry').MODELS
    backbone = without_weights(dict(cfg.model.backbone, out_indices=(1, 2)))
    with torch.device('meta'):
        maps = registry.build(backbone)(torch.empty(1, 3, *size))
    cases = {case.name: case for case in CASES['block']}
    for name, out in zip(names, maps):
        assert cases[name].shape[1:] == out.shape[1:]


def test_step_of_a_network_runs_five_blocks(monkeypatch):
    """The first R-50's stages of 64 and 128 channels, at 64x64 pixels."""
    seen = []

    class Probe(nn.Identity):
        def forward(self, x):
            seen.append((*x.shape, self.channels, self.training))
            return x

    def build(case):
        probe = Probe()
        probe.channels = case.channels
        return probe

    monkeypatch.setitem(FORMS, 'probe', build)
    step = networks.make_step(Case('r50', 1, 3, (64, 64)), 'probe', QUICK)
    seen.clear()
    step()
    shapes = 2 * [(1, 64, 8, 8, 64)] + 3 * [(1, 128, 4, 4, 128)]
    assert seen == [(*shape, True) for shape in shapes]


def test_traffic_counts_each_element_once():
    """Bytes by hand: a 1x1 convolution and a sum with a broadcast map."""
    x = torch.ones(2, 3, 4, 4)

    class Convolve(nn.Conv2d):
        def forward(self, x):
            y = super().forward(x).flatten(2)
            return y + y[:, :, :1].expand_as(y)

    module = Convolve(3, 5, 1, bias=False)
    maps, out, weight = 2 * 3 * 16 * 4, 2 * 5 * 16 * 4, 5 * 3 * 4
    with torch.no_grad(), traffic.TrafficCounter() as found:
        module(x)
    assert found.operators == ['convolution', 'add']
    assert found.bytes == maps + weight + out + out + 2 * 5 * 4 + out


@pytest.mark.parametrize(
    'form, megabytes, operators',
    [(LOOP, 813, 77), ('cgnl reference', 521, 45)],
)
def test_traffic(form, megabytes, operators):
    """That of the loop was counted for the author's code, too."""
    settings = Settings(dtype='bfloat16', forms=[form])
    records = traffic.count_form(form, CASES['traffic'][0], settings)
    assert records[1]['pass'] == 'forward + backward'
    assert round(records[1]['traffic_mb']) == megabytes
    assert records[1]['operators'] == operators


@pytest.mark.parametrize(
    'case, dtype, autocast, most',
    [
        (Case('', 1, 512, (24, 24)), torch.float32, False, 0.95),
        (Case('', 1, 512, (22, 22)), torch.bfloat16, False, 1.0),
        (Case('', 4, 512, (14, 14)), torch.bfloat16, False, 1.0),
        (Case('', 4, 512, (28, 28)), torch.bfloat16, False, 0.95),
        (Case('', 4, 512, (28, 28)), torch.float32, True, 0.8),
        (Case('', 4, 512, (20, 20)), torch.float32, True, 0.8),
        (Case('', 1, 512, (28, 28), mode='gaussian_rbf', order=3),
         torch.bfloat16, False, 0.95),
    ],
)  # fmt: skip
def test_peak_of_training_is_at_most_the_loops(case, dtype, autocast, most):
    """On the path that 'auto' takes on a CPU."""
    has_narrow = torch.ops.mkldnn._is_mkldnn_bf16_supported()
    if (autocast or dtype != torch.float32) and not has_narrow:
        pytest.skip('other convolutions have other buffers')
    x, d = torch.randn(2, *case.shape).to(dtype)
    x, peaks = x.requires_grad_(), []
    for form in (LOOP, AUTO):
        module = FORMS[form](case).to(dtype)

        def call(module=module):
            with torch.autocast('cpu', enabled=autocast):
                y = module(x.clone())  # no leaf, as in a network
            torch.autograd.grad(y, [x, *module.parameters()], d)

        call()
        peaks.append(timing.peak_bytes(call))
    assert peaks[1] <= most * peaks[0]


@pytest.mark.skipif(
    not torch.backends.cuda.is_built(), reason='needs a PyTorch with CUDA'
)
@pytest.mark.parametrize('form', ['cgnl reference', LOOP, NON_LOCAL])
@pytest.mark.parametrize('mode', ['dot_product', 'gaussian_rbf'])
def test_traffic_follows_cudas_autocast(form, mode, monkeypatch):
    """The forward pass on fake CUDA tensors, which have no backward pass."""
    common = torch.cuda.amp.common
    monkeypatch.setattr(common, 'amp_definitely_not_available', lambda: False)
    monkeypatch.setattr(torch.cuda, 'is_bf16_supported', lambda *_: True)
    # A CPU saves memory where a GPU saves operators.
    monkeypatch.setattr(torch.Tensor, 'is_cpu', False)
    case = Case('', 2, 64, (7, 7), mode=mode, order=3)
    settings, found = Settings(dtype='bfloat16'), {}
    for device in ('cpu', 'cuda'):
        with FakeTensorMode(allow_non_fake_inputs=True), torch.device(device):
            x = torch.empty(case.shape, dtype=torch.bfloat16)
            module = FORMS[form](case).eval()
            lists = traffic.CudaLists() if device == 'cpu' else nullcontext()
            with torch.no_grad(), traffic.TrafficCounter() as found[device]:
                with settings.autocast(device), lists:
                    module(x)
    assert found['cpu'].operators == found['cuda'].operators
    # CUDA's batch norm returns its statistics in evaluation, too.
    assert found['cpu'].bytes == pytest.approx(found['cuda'].bytes, rel=2e-3)


@pytest.mark.nightly
@pytest.mark.skipif(
    shutil.which('g++') is None, reason='Inductor needs a C++ compiler'
)
def test_kernels_are_those_of_both_passes():
    """A chain of elementwise steps is one kernel each way."""

    class Chain(nn.Module):
        def forward(self, x):
            return (2 * x + 1).relu()

    x = torch.randn(2, 8, 4)
    assert traffic.count_kernels(Chain(), x, QUICK) == 2


@pytest.mark.skipif(torch.cuda.is_available(), reason='there is a GPU')
def test_missing_gpu_is_told():
    with pytest.raises(SetupError, match='sees no GPU; leave the option out'):
        Settings(device='cuda')
