"""What benchmark.py counts, compares, refuses and writes; no times."""

import csv
import gc
import importlib
import math
from pathlib import Path

import matplotlib.image
import pytest
import torch
from mmengine.config import Config
from torch import nn

from cgnl_mm.ops import passes

ROOT = Path(__file__).parents[2]
INPUT = dict(batch=2, channels=32, size=(5, 3))


@pytest.fixture(autouse=True)
def few_objects_to_collect():
    """A round ends with gc.collect(), which need not look at torch."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def load(monkeypatch):
    """Import a module of tools/ by name."""
    monkeypatch.syspath_prepend(str(ROOT / 'tools'))
    names = dict(_common='_common', benchmark='benchmark')

    def load(name):
        name = names.get(name, name.replace('_bench_', 'cgnl_mm.benchmark.'))
        return importlib.import_module(name)

    return load


@pytest.fixture
def bench(load):
    """``bench(*options)``: a Benchmark over tiny inputs."""
    tool = load('benchmark')

    def make(*options):
        args = tool.parse_args(['--quick', *options])
        tool.check(args)
        return tool.Benchmark(args)

    return make


def rows(path):
    with path.open(newline='') as file:
        return list(csv.DictReader(file))


def by_case(records):
    """Records by form, for each case and pass."""
    cases = {}
    for record in records:
        key = record['case'], record['pass']
        assert record['form'] not in cases.setdefault(key, {})
        cases[key][record['form']] = record
    return cases


def check_ratios(records, bases):
    for forms in by_case(records).values():
        for record in forms.values():
            for field, base in bases.items():
                if base not in forms:
                    assert record[field] == ''
                    continue
                times = record['median_ms'], forms[base]['median_ms']
                ratio = float(times[0]) / float(times[1])
                assert float(record[field]) == pytest.approx(ratio)


@pytest.fixture(scope='module')
def finished(run_tool, tmp_path_factory):
    """The folder that all experiments wrote, run as a user runs them."""
    folder = tmp_path_factory.mktemp('benchmark')
    run_tool(
        'benchmark.py', '--what', 'all', '--quick', '--shapes',
        '^(R-50|I3D|r50_|i3d_|positions)', '--out', 'out',
        cwd=folder,
    )  # fmt: skip
    return folder / 'out'


def test_every_form_of_the_block_is_measured(finished, load):
    """Both passes, times in order, ratios of the times beside them."""
    forms = load('_bench_forms')
    records = rows(finished / 'block.csv')
    cases = by_case(records)
    assert len(cases) == 4
    for (case, kind), measured in cases.items():
        wanted = {
            form.name
            for form in forms.block_forms()
            if kind != 'forward' or not form.is_for_training
        }
        if case.startswith('i3d'):
            wanted.remove('ContextBlock')
        assert set(measured) == wanted
    for record in records:
        assert record['status'] == 'ok'
        assert (record['device'], record['dtype']) == ('cpu', 'float32')
        times = [float(record[k]) for k in ('q1_ms', 'median_ms', 'q3_ms')]
        assert 0 < times[0] <= times[1] <= times[2]
        assert float(record['peak_mb']) > 0
        assert (record['saved_mb'] != '') == (record['pass'] != 'forward')
    check_ratios(
        records,
        dict(to_loop='per-group loop', to_convolutions='convolutions',
             to_nl='NL gaussian'),
    )  # fmt: skip


def test_networks_and_scaling_are_measured(finished):
    networks = rows(finished / 'networks.csv')
    assert [(r['case'], r['pass'], r['form']) for r in networks] == [
        (case, kind, form)
        for case in ('R-50', 'I3D-R50')
        for kind in ('backbone forward', 'forward', 'training step')
        for form in ('no block', '1 block', '5 blocks')
    ]
    assert {r['status'] for r in networks} == {'ok'}
    check_ratios(networks, dict(to_no_block='no block'))
    scaling = rows(finished / 'scaling.csv')
    assert {(r['varied'], r['value'], r['positions']) for r in scaling} == {
        ('positions', '49', '49'), ('positions', '196', '196'),
    }  # fmt: skip
    check_ratios(scaling, dict(to_loop='per-group loop'))


def test_tables_and_pictures_show_the_csv(finished):
    for name in ('block', 'networks', 'scaling'):
        text = (finished / f'{name}.md').read_text()
        assert f'torch: {torch.__version__}' in text
        assert '- CPU: ' in text and '- threads: ' in text
        for record in rows(finished / f'{name}.csv'):
            line = next(
                line
                for line in text.splitlines()
                if line.startswith(f'| {record["case"]} |')
            )
            assert line.count('|') > 3
        picture = matplotlib.image.imread(finished / f'{name}.png')[..., :3]
        # more than white paper and black letters
        assert len(set(map(tuple, picture.reshape(-1, 3).tolist()))) > 50
    loop = by_case(rows(finished / 'block.csv'))['r50_res4_224_b2', 'forward']
    value = float(loop['per-group loop']['median_ms'])
    assert f'{value:.3g} (1.00)' in (finished / 'block.md').read_text()


def test_mask_rcnn_runs_with_blocks(load, bench, monkeypatch):
    networks = load('_bench_networks')
    layouts = {k: networks.LAYOUTS[k] for k in ('no block', '5 blocks')}
    monkeypatch.setattr(networks, 'LAYOUTS', layouts)
    monkeypatch.setattr(load('_bench_timing'), 'WARM_UP', 0)
    tiny = bench('--shapes', 'Mask')
    tiny.rounds = 1
    ((_, network),) = load('benchmark').plan(tiny.args, 'networks')
    records = tiny.run_network(network)
    assert [r['status'] for r in records] == ['ok'] * 6


@pytest.mark.parametrize('name', ['input_gradient', 'statistics'])
def test_wrong_path_is_refused_and_named(
    name, load, bench, monkeypatch, capsys
):
    """A hundredth off: the others are reported, this one is not."""
    right = getattr(passes, name)

    def wrong(*args):
        out = right(*args)
        if name == 'statistics':
            return out[0], 1.01 * out[1]
        return 1.01 * out

    monkeypatch.setattr(passes, name, wrong)
    forms = load('_bench_forms')
    case = forms.Case('tiny', **INPUT)
    chosen = [f for f in forms.block_forms() if f.is_cgnl]
    records = bench().run_case(case, chosen)
    for record in records:
        status = record['status']
        if record['form'].startswith('cgnl folded'):
            assert status.startswith('refused')
            assert ('output' in status) == (name == 'statistics')
            assert 'median_ms' not in record
        elif record['form'] in ('cgnl reference', 'per-group loop'):
            assert status == 'ok'
            assert record['to_loop'] > 0
    with pytest.raises(SystemExit) as stop:
        load('benchmark')._end(records)
    assert stop.value.code == 1
    said = capsys.readouterr().err
    assert 'because wrong: ' in said and 'cgnl folded' in said
    assert 'cgnl reference' not in said


def test_auto_is_checked_on_the_path_that_is_timed(load, bench, monkeypatch):
    """Which a few positions would not take."""
    inner_sums = importlib.import_module('cgnl_mm.ops.inner_sums')
    right = inner_sums.gram
    monkeypatch.setattr(inner_sums, 'gram', lambda x: 1.01 * right(x))
    forms, tiny = load('_bench_forms'), bench()
    named = {form.name: form for form in forms.block_forms()}
    large = forms.Case('large', 1, 32, (56, 56))
    few = forms.Case('few', 1, 32, (5, 3))
    refused = tiny.find_reason(named['cgnl auto'], large)
    assert refused.startswith('refused: cgnl gram: ')
    assert tiny.find_reason(named['cgnl auto'], few) is None
    assert tiny.find_reason(named['cgnl folded'], large) is None
    recompute = tiny.find_reason(named['cgnl auto recompute'], large)
    assert recompute.startswith('refused: cgnl gram recompute: ')


@pytest.mark.parametrize('size', [(7,), (5, 3), (2, 3, 3)])
@pytest.mark.parametrize(
    'series',
    [dict(), dict(mode='embedded_gaussian', order=3), dict(groups=1)],
    ids=str,
)
def test_loop_is_the_published_block(size, series, load):
    forms, parity = load('_bench_forms'), load('_bench_parity')
    case = forms.Case('c', 2, 32, size, **series)
    (loop,) = (f for f in forms.block_forms() if f.name == forms.LOOP)
    assert parity.find_deviation(loop, case, 'cpu', torch.float32) is None


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_half_precision_is_compared_in_its_type(dtype, load):
    """A reference that is right passes; float32's rule would refuse it."""
    forms, parity = load('_bench_forms'), load('_bench_parity')
    case = forms.Case('c', **INPUT)
    for form in forms.block_forms(str(dtype).rpartition('.')[2]):
        if form.is_ours:
            assert not parity.find_deviation(form, case, 'cpu', dtype)


def test_failure_leaves_the_other_forms(load, bench):
    """One form cannot be built, one cannot run, one is too large."""
    forms = load('_bench_forms')

    class Breaks(nn.Identity):
        def forward(self, x):
            raise RuntimeError('no\nsuch kernel')

    def refuse(case):
        raise ValueError('not for 32 channels')

    case = forms.Case('tiny', **INPUT)
    chosen = [
        forms.Form('unbuilt', refuse),
        forms.Form('broken', lambda case: Breaks()),
        *(f for f in forms.block_forms()
          if f.name in (forms.LOOP, forms.NON_LOCAL)),
    ]  # fmt: skip
    # the affinity: 2 samples, 15 x 15 positions, 4 bytes
    records = bench('--nl-limit', '1.79e-6').run_case(case, chosen)
    for forms_ in by_case(records).values():
        status = {name: record['status'] for name, record in forms_.items()}
        assert status['unbuilt'] == 'failed: ValueError: not for 32 channels'
        assert status['broken'] == 'failed: RuntimeError: no such kernel'
        assert status[forms.NON_LOCAL].startswith('skipped: an affinity of')
        assert status[forms.LOOP] == 'ok'
    records = bench('--nl-limit', '1.81e-6').run_case(case, chosen)
    assert all(
        r['status'] == 'ok' for r in records if r['form'] == forms.NON_LOCAL
    )


def test_saved_bytes_are_those_of_a_small_module(load):
    """float32, 5 samples of 4 features.

    Linear keeps its input and its weight; Sigmoid its output, which is the
    second Linear's input as well: it counts once.
    """
    module = nn.Sequential(nn.Linear(4, 8), nn.Sigmoid(), nn.Linear(8, 2))
    saved = load('_bench_timing').saved_bytes(module, torch.randn(5, 4))
    assert saved == dict(
        saved=5 * 8 * 4, x=5 * 4 * 4, parameters=(8 * 4 + 2 * 8) * 4
    )


def test_saved_view_keeps_its_whole_storage(load):
    class Half(nn.Module):
        def forward(self, x):
            return (2 * x)[:, :2].square()

    saved = load('_bench_timing').saved_bytes(Half(), torch.randn(5, 4))
    assert saved == dict(saved=5 * 4 * 4, x=0, parameters=0)


def test_peak_counts_what_lives_at_once(load):
    x = torch.ones(1000)

    def call():
        y = x + 1
        y = y + 1  # two maps here, one after it
        return y * y  # two again

    peak = load('_bench_timing').peak_bytes(call, 'cpu')
    assert 8000 <= peak < 8100  # the ones are tensors, too


def test_rounds_are_interleaved_and_errors_are_kept_apart(load):
    timing, log = load('_bench_timing'), []

    def call(name):
        log.append(name)
        if name == 'late' and log.count('late') == 5:
            raise RuntimeError('late')
        if name == 'bad':
            raise ValueError('bad')

    names = ('a', 'b', 'late', 'bad')
    samples, errors = timing.time_interleaved(
        {name: lambda name=name: call(name) for name in names},
        'cpu', rounds=6, shortest=0.0,
    )  # fmt: skip
    assert errors == {'bad': 'ValueError: bad', 'late': 'RuntimeError: late'}
    assert {name: len(values) for name, values in samples.items()} == dict(
        a=6, b=6
    )
    rounds = log[3 * (timing.WARM_UP + 1) + 1 :]
    assert sorted(rounds[:3]) == sorted(rounds[3:5] + ['late']) or (
        sorted(rounds[:3]) == ['a', 'b', 'late']
    )
    left = [name for name in rounds if name != 'late']
    assert all(
        {left[i], left[i + 1]} == {'a', 'b'} for i in range(0, len(left), 2)
    )


def test_slow_call_gets_three_samples(load):
    samples, _ = load('_bench_timing').time_interleaved(
        dict(slow=lambda: torch.randn(10)), 'cpu', rounds=9, budget=1e-12
    )
    assert len(samples['slow']) == 3


def stage_shapes(config, size):
    """Maps of res3 and res4 in one of our configs, without computing."""
    cfg = Config.fromfile(ROOT / 'configs' / f'{config}.py').model.backbone
    registry = {2: 'mmdet', 3: 'mmaction'}[len(size)]
    models = importlib.import_module(f'{registry}.registry').MODELS
    for key in ('init_cfg', 'pretrained'):
        if key in cfg:
            cfg[key] = None
    with torch.device('meta'):
        backbone = models.build(cfg)
        shapes = {}
        for stage in (3, 4):
            getattr(backbone, f'layer{stage - 1}').register_forward_hook(
                lambda module, args, out, stage=stage: shapes.update(
                    {stage: (out.shape[1], tuple(out.shape[2:]))}
                )
            )
        backbone(torch.empty(1, 3, *size))
    return shapes


@pytest.mark.parametrize(
    'name, config, size',
    [
        ('r50_res{}_224', 'mask_rcnn_r50_fpn_coco', (224, 224)),
        ('r50_res{}_448', 'mask_rcnn_r50_fpn_coco', (448, 448)),
        ('mask_rcnn_res{}', 'mask_rcnn_r50_fpn_coco', (800, 1344)),
        ('i3d_res{}_8f', 'i3d_r50_minikinetics', (8, 224, 224)),
        ('i3d_res{}_32f', 'i3d_r50_minikinetics', (32, 224, 224)),
    ],
)
def test_shapes_are_those_of_the_networks(name, config, size, load):
    shapes = load('_bench_forms').SHAPES
    for stage, shape in stage_shapes(config, size).items():
        assert shapes[name.format(stage)] == shape


def test_scaling_varies_one_quantity(load):
    """From 49 to 100 k positions; all else stays what it is."""
    cases = load('_bench_forms').scaling_cases(quick=False)
    assert [value for value, _ in cases['positions']][
        :: len(cases['positions']) - 1
    ] == [49, 100489]
    for varied, line in cases.items():
        for value, case in line:
            found = dict(
                positions=math.prod(case.size), channels=case.channels,
                groups=case.groups, order=case.order, batch=case.batch,
            )  # fmt: skip
            assert found.pop(varied) == value
            base = dict(
                positions=784, channels=512, groups=8, order=1, batch=1
            )
            base.pop(varied)
            assert found == base


@pytest.mark.parametrize(
    'options, message',
    [
        (['--shapes', 'r18'], "--shapes 'r18' matches no case of block"),
        (['--shapes', '('], 'is no regular expression'),
        (['--threads', '0'], '--threads must be positive, got 0'),
        (['--nl-limit', '-1'], '--nl-limit must be positive, got -1'),
        (['--backend', 'fast'], '--backend fast: known are auto,'),
        pytest.param(
            ['--device', 'cuda'],
            'PyTorch sees no GPU',
            marks=pytest.mark.skipif(
                torch.cuda.is_available(), reason='there is one'
            ),
        ),
    ],
    ids=lambda value: value[0].strip('-') if isinstance(value, list) else '',
)
def test_wrong_option_says_what_is_wrong(
    options, message, load, monkeypatch, capsys, tmp_path
):
    tool = load('benchmark')
    monkeypatch.setattr('sys.argv', ['benchmark.py', *options])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        load('_common').run(tool.main)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
