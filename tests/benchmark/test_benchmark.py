"""What the benchmark counts, compares, refuses and writes; no times."""

import math
from importlib import import_module
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import nn
from torch._subclasses import FakeTensorMode

from cgnl_mm.benchmark import networks, parity, run, timing, traffic
from cgnl_mm.benchmark.cases import SHAPES, Case, scaling_cases
from cgnl_mm.benchmark.forms import LOOP, NON_LOCAL, Form, block_forms
from cgnl_mm.benchmark.report import make_table
from cgnl_mm.benchmark.settings import Settings
from cgnl_mm.deploy.model import without_weights
from cgnl_mm.errors import SetupError
from cgnl_mm.ops.fused import moments, torch_steps

ROOT = Path(__file__).parents[2]
TINY = Case('tiny', 2, 32, (5, 3))
FORMS = {form.name: form for form in block_forms()}
QUICK = Settings(quick=True)


@pytest.fixture(autouse=True)
def nothing_is_remembered():
    """Check each form anew: a test may have put a fault into it."""
    parity.deviation.cache_clear()


def test_mask_rcnn_runs_with_blocks(monkeypatch):
    layouts = {k: networks.LAYOUTS[k] for k in ('no block', '5 blocks')}
    monkeypatch.setattr(networks, 'LAYOUTS', layouts)
    monkeypatch.setattr(run, 'LAYOUTS', layouts)
    monkeypatch.setattr(timing, 'WARM_UP', 0)
    monkeypatch.setattr(run, 'QUICK_ROUNDS', 1)
    network = networks.networks('cpu', quick=True)[-1]
    records = run.measure_network(network, QUICK)
    assert [r['status'] for r in records] == ['ok'] * 6


def test_twins_have_the_same_weights():
    network = networks.networks('cpu', quick=True)[0]
    twins = [networks.build(network, name, QUICK) for name in networks.LAYOUTS]
    x = torch.randn(1, 3, *network.size)
    first, *others = (twin.backbone(x)[-1] for twin in twins)
    assert all(torch.equal(first, out) for out in others)


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
    settings = Settings(
        quick=True, shapes='r50', forms='cgnl (fol|ref)', out=tmp_path
    )
    assert run.run_benchmark(settings) == 1
    table = pd.read_csv(tmp_path / 'block.csv')
    folded = table.form.str.startswith('cgnl folded')
    status = table.status[folded].str
    assert status.startswith('refused').all()
    of_output = status.startswith('refused: out: ')
    assert (of_output == (name == 'statistics')).all()
    assert table.median_ms[folded].isna().all()
    assert (table.status[~folded] == 'ok').all()
    assert (table.to_loop[~folded] > 0).all()
    said = capsys.readouterr().err
    assert 'because wrong: ' in said and 'cgnl folded' in said
    assert 'cgnl reference' not in said


def test_auto_is_checked_on_the_path_that_is_timed(monkeypatch):
    """Which a few positions would not take."""
    right = moments.gram
    monkeypatch.setattr(moments, 'gram', lambda x: 1.01 * right(x))

    def deviation(name, size):
        case = Case('', 1, 32, size)
        return parity.find_deviation(FORMS[name], case, QUICK)

    assert deviation('cgnl auto', (56, 56))
    assert deviation('cgnl auto recompute', (56, 56))
    assert deviation('cgnl auto', (5, 3)) is None
    assert deviation('cgnl folded', (56, 56)) is None


@pytest.mark.parametrize('size', [(7,), (5, 3), (2, 3, 3)])
@pytest.mark.parametrize(
    'series',
    [dict(), dict(mode='embedded_gaussian', order=3), dict(groups=1)],
    ids=str,
)
def test_loop_is_the_published_block(size, series):
    case = Case('c', 2, 32, size, **series)
    assert parity.find_deviation(FORMS[LOOP], case, QUICK) is None


@pytest.mark.parametrize('dtype', ['bfloat16', 'float16'])
def test_half_precision_is_compared_in_its_type(dtype):
    """A path that is right passes; float32's rule would refuse it."""
    settings = Settings(dtype=dtype)
    for form in FORMS.values():
        if form.backend and form.serves(TINY, dtype):
            assert not parity.find_deviation(form, TINY, settings)


def test_failure_leaves_the_other_forms():
    """One form cannot be built, one cannot run, one is too large."""

    class Breaks(nn.Identity):
        def forward(self, x):
            raise RuntimeError('no\nsuch kernel')

    def refuse(case):
        raise ValueError('not for 32 channels')

    forms = [
        Form('unbuilt', refuse),
        Form('broken', lambda case: Breaks()),
        *(FORMS[LOOP], FORMS[NON_LOCAL]),
    ]
    # the affinity: 2 samples, 15 x 15 positions, 4 bytes
    small = Settings(quick=True, nl_limit=1.79e-6)
    records = run.measure_block(TINY, small, forms)
    for kind in run.BLOCK_PASSES:
        part = [r for r in records if r['pass'] == kind]
        status = {r['form']: r['status'] for r in part}
        assert status['unbuilt'] == 'failed: ValueError: not for 32 channels'
        assert status['broken'] == 'failed: RuntimeError: no such kernel'
        assert status[NON_LOCAL].startswith('skipped: an affinity of')
        assert status[LOOP] == 'ok'
    assert len(make_table(records)) == 8
    large = Settings(quick=True, nl_limit=1.81e-6)
    records = run.measure_block(TINY, large, forms[-1:])
    assert {r['status'] for r in records} == {'ok'}


class Half(nn.Module):
    def forward(self, x):
        return (2 * x)[:, :2].square()


@pytest.mark.parametrize('module, numbers', [
    # Linear keeps its input and its weight; Sigmoid its output, which is the
    # second Linear's input as well: it counts once.
    (nn.Sequential(nn.Linear(4, 8), nn.Sigmoid(), nn.Linear(8, 2)),
     (5 * 8, 5 * 4, 8 * 4 + 2 * 8)),
    # A view keeps its whole storage.
    (Half(), (5 * 4, 0, 0)),
])  # fmt: skip
def test_saved_bytes_are_those_of_a_small_module(module, numbers):
    """Float32, 5 samples of 4 features."""
    saved = timing.saved_bytes(module, torch.randn(5, 4))
    assert list(saved) == ['saved_mb', 'saved_x_mb', 'saved_parameters_mb']
    assert list(saved.values()) == pytest.approx([n * 4e-6 for n in numbers])


def test_peak_counts_what_lives_at_once():
    x = torch.ones(1000)

    def call():
        y = x + 1
        y = y + 1  # two maps here, one after it
        return y * y  # two again

    assert 8000 <= timing.peak_bytes(call, 'cpu') < 8100  # and the ones


def test_rounds_are_interleaved_and_errors_are_kept_apart():
    log = []

    def call(name):
        log.append(name)
        if name == 'late' and log.count('late') == 5:
            raise RuntimeError('late')
        if name == 'bad':
            raise ValueError('bad')

    failed, names = {}, ('a', 'b', 'late', 'bad')
    calls = {k: lambda k=k: call(k) for k in names}
    samples = timing.time_interleaved(calls, failed, rounds=6, shortest=0.0)
    assert failed == {
        'bad': 'failed: ValueError: bad',
        'late': 'failed: RuntimeError: late',
    }
    assert {k: len(v) for k, v in samples.items()} == dict(a=6, b=6)
    rounds = log[3 * (timing.WARM_UP + 1) + 1 :]
    assert sorted(rounds[:3]) == ['a', 'b', 'late']
    left = [name for name in rounds if name != 'late']
    assert all({*left[i : i + 2]} == {'a', 'b'} for i in range(0, 12, 2))


def test_slow_call_gets_three_samples():
    calls = dict(slow=lambda: torch.randn(10))
    samples = timing.time_interleaved(calls, {}, rounds=9, budget=1e-12)
    assert len(samples['slow']) == 3


@pytest.mark.parametrize('name, size', [
    ('r50_res{}_224', (224, 224)),
    ('r50_res{}_448', (448, 448)),
    ('mask_rcnn_res{}', (800, 1344)),
    ('i3d_res{}_8f', (8, 224, 224)),
    ('i3d_res{}_32f', (32, 224, 224)),
])  # fmt: skip
def test_shapes_are_those_of_the_networks(name, size):
    """Maps of res3 and res4 in our configs, without computing."""
    video = len(size) == 3
    cfg = networks.read_config(
        'i3d_r50_minikinetics' if video else 'mask_rcnn_r50_fpn_coco'
    )
    registry = import_module(f'{cfg.default_scope}.registry').MODELS
    backbone = without_weights(dict(cfg.model.backbone, out_indices=(1, 2)))
    with torch.device('meta'):
        maps = registry.build(backbone)(torch.empty(1, 3, *size))
    shapes = [(out.shape[1], tuple(out.shape[2:])) for out in maps]
    assert shapes == [SHAPES[name.format(stage)] for stage in (3, 4)]


def test_scaling_varies_one_quantity():
    """From 49 to 100 k positions; all else stays what it is."""
    base = dict(positions=784, channels=512, groups=8, order=1, batch=1)
    values = {}
    for case in scaling_cases('cpu', quick=False):
        varied, _, value = case.name.partition('=')
        values.setdefault(varied, []).append(int(value))
        found = {k: v for k, v in case.columns().items() if k in base}
        assert found == {**base, varied: int(value)}
    assert values.keys() == base.keys()
    assert values['positions'][::6] == [49, 100489]
    assert math.prod(map(len, values.values())) == 7 * 6 * 7 * 6 * 6


def test_traffic_counts_each_element_once():
    """Bytes by hand: a 1x1 convolution and a sum with a broadcast map."""
    x = torch.ones(2, 3, 4, 4)

    class Convolve(nn.Conv2d):
        def forward(self, x):
            y = super().forward(x).flatten(2)
            return y + y[:, :, :1].expand_as(y)

    module = Convolve(3, 5, 1, bias=False)
    maps, out, weight = 2 * 3 * 16 * 4, 2 * 5 * 16 * 4, 5 * 3 * 4
    found = traffic.count_passes(module, x, QUICK)['forward']
    assert found.operators == ['convolution', 'add']
    assert found.bytes == maps + weight + out + out + 2 * 5 * 4 + out


def test_traffic_of_the_loop_is_the_authors():
    """Counted for the author's code: 813 MB in 77 operators."""
    settings = Settings(dtype='bfloat16', forms='^$')
    case = Case('', 32, 1024, (14, 14))
    _, training = traffic.count_traffic(case, settings)
    assert training['pass'] == 'forward + backward'
    assert round(training['traffic_mb']) == 813
    assert training['operators'] == 77


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
    case = Case('', 2, 64, (7, 7), mode=mode, order=3)
    settings = Settings(dtype='bfloat16')
    found = {}
    for device in ('cpu', 'cuda'):
        with FakeTensorMode(allow_non_fake_inputs=True), torch.device(device):
            x = torch.empty(case.shape, dtype=torch.bfloat16)
            module = FORMS[form].build(case).eval()
            if device == 'cpu':
                counters = traffic.count_passes(module, x, settings)
                found[device] = counters['forward']
                continue
            with torch.no_grad(), traffic.TrafficCounter() as found[device]:
                with torch.autocast(device, torch.bfloat16):
                    module(x)
    assert found['cpu'].operators == found['cuda'].operators
    # CUDA's batch norm returns its statistics in evaluation, too.
    assert found['cpu'].bytes == pytest.approx(found['cuda'].bytes, rel=2e-3)


@pytest.mark.parametrize('message, options', [
    ("--shapes 'r18' matches no case of block", dict(shapes='r18')),
    ("--forms '[(]' is not a regular expression", dict(forms='(')),
    ('--threads must be positive, got 0', dict(threads=0)),
    ('--nl-limit must be positive, got -1', dict(nl_limit=-1)),
    ('--backend fast is unknown; use one of auto,', dict(backend='fast')),
    ('PyTorch sees no GPU', dict(device='cuda')),
])  # fmt: skip
def test_wrong_option_says_what_is_wrong(message, options):
    if 'device' in options and torch.cuda.is_available():
        pytest.skip('there is a GPU')
    with pytest.raises(SetupError, match=message):
        run.run_benchmark(Settings(**options))
