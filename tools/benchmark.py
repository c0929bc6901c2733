"""Measure what the block costs: time, peak memory, saved bytes.

    python tools/benchmark.py                         # the block alone
    python tools/benchmark.py --what networks
    python tools/benchmark.py --what scaling --forms 'cgnl|loop|NL'
    python tools/benchmark.py --what all --device cuda --dtype bfloat16
    python tools/benchmark.py --shapes 'res4.*b1$'

Writes, for each experiment, OUT/<experiment>.csv, .md and .png. Forms run
round robin within a case, so only ratios within a case mean something. A form
that computes CGNL is timed after it agreed with the float64 truth.
"""

import argparse
import re
import shlex
import sys
from pathlib import Path

from cgnl_mm.benchmark import timing
from cgnl_mm.cli import run

WHAT = ('block', 'networks', 'scaling')
PASSES = ('forward', 'forward + backward')
MB = 1e6


class Benchmark:
    """The settings of one run.

    Args:
        args (Namespace): What :func:`parse_args` returned.
        report (Callable): Told what is going on, for people.
    """

    def __init__(self, args: argparse.Namespace, report=lambda text: None):
        import torch

        self.args, self.report = args, report
        self.device = args.device
        self.dtype = getattr(torch, args.dtype)
        self.rounds = 3 if args.quick else args.repeats
        self.shortest = 0.0 if args.quick else 2e-3
        self._deviations = {}

    def memory_format(self, rank: int):
        import torch

        formats = {2: torch.channels_last, 3: torch.channels_last_3d}
        if not self.args.channels_last:
            return torch.contiguous_format
        return formats.get(rank, torch.contiguous_format)

    def settings(self) -> dict[str, str]:
        """The columns that are the same in every record."""
        layout = 'channels-last' if self.args.channels_last else 'contiguous'
        return dict(device=self.device, dtype=self.args.dtype, layout=layout)

    def run_case(self, case, forms) -> list[dict]:
        """Measure one block shape.

        Args:
            case (Case): Input.
            forms (list[Form]): Columns.

        Returns:
            list[dict]: Records, a form and a pass each.
        """
        forms = [form for form in forms if form.serves(case)]
        modules, status = {}, {}
        for form in forms:
            self.report(f'{case.name}: checks {form.name}')
            try:
                status[form.name] = self.find_reason(form, case)
                if status[form.name] is None:
                    modules[form.name] = self.place(form.build(case), case)
            except Exception as error:
                status[form.name] = f'failed: {timing.describe(error)}'
        records = []
        for kind in PASSES:
            training = kind != PASSES[0]
            chosen = [f for f in forms if training or not f.is_for_training]
            names = [form.name for form in chosen if form.name in modules]
            part = self.time(
                case, {name: modules[name] for name in names}, kind
            )
            part += [
                dict(form=form.name, status=status[form.name])
                for form in chosen
                if form.name not in modules
            ]
            order = [f.name for f in forms]
            part.sort(key=lambda r: order.index(r['form']))
            records += self.complete(part, case, kind)
        return records

    def find_reason(self, form, case) -> str | None:
        """Say why a form is not to be timed; None if it is."""
        if form.affinity is not None:
            size = form.affinity(case) * self.dtype.itemsize
            if size > self.args.nl_limit * 1e9:
                return (
                    f'skipped: an affinity of {size / 1e9:.1f} GB exceeds '
                    f'--nl-limit {self.args.nl_limit:g}'
                )
        if not form.is_cgnl:
            return None
        import torch

        from cgnl_mm.benchmark.forms import resolved
        from cgnl_mm.benchmark.parity import find_deviation, one_sample

        # in half precision the loop rounds its sums, which the rule forbids
        dtype = self.dtype if form.is_ours else torch.float32
        layout = self.memory_format(case.rank)
        for part in resolved(form, case, self.device, dtype):
            key = part.name, one_sample(case)
            if key not in self._deviations:
                self._deviations[key] = find_deviation(
                    part, case, self.device, dtype, layout
                )
            if self._deviations[key] is not None:
                name = '' if part is form else f'{part.name}: '
                return f'refused: {name}{self._deviations[key]}'
        return None

    def place(self, module, case):
        layout = self.memory_format(case.rank)
        return module.to(self.device, self.dtype, memory_format=layout)

    def time(self, case, modules: dict, kind: str) -> list[dict]:
        """Measure the times and the memory of all forms in one pass."""
        import torch

        torch.manual_seed(0)
        training = kind != PASSES[0]
        x = torch.randn(case.shape, device=self.device, dtype=self.dtype)
        x = x.contiguous(memory_format=self.memory_format(case.rank))
        make = timing.training_call if training else timing.forward_call
        calls, errors = {}, {}
        for name, module in modules.items():
            try:
                calls[name] = make(module, x)
            except Exception as error:
                errors[name] = timing.describe(error)
        samples, failed = timing.time_interleaved(
            calls,
            self.device,
            self.rounds,
            self.args.budget,
            self.shortest,
            lambda name: self.report(f'{case.name}, {kind}: {name}'),
        )
        errors.update(failed)
        records = []
        for name, module in modules.items():
            record = dict(form=name, status='ok')
            records.append(record)
            if name in errors:
                record['status'] = f'failed: {errors[name]}'
                continue
            record.update(self.times(samples[name]))
            try:
                peak = timing.peak_bytes(calls[name], self.device)
                record['peak_mb'] = peak / MB
                if training:
                    saved = timing.saved_bytes(module, x)
                    record['saved_mb'] = saved['saved'] / MB
                    record['saved_x_mb'] = saved['x'] / MB
                    record['saved_parameters_mb'] = saved['parameters'] / MB
            except Exception as error:
                record['status'] = f'failed: {timing.describe(error)}'
        return records

    @staticmethod
    def times(samples: list[float]) -> dict:
        q1, median, q3 = (1e3 * t for t in timing.quartiles(samples))
        return dict(median_ms=median, q1_ms=q1, q3_ms=q3, samples=len(samples))

    def complete(self, records: list[dict], case, kind: str) -> list[dict]:
        from cgnl_mm.benchmark.report import add_ratios

        add_ratios(records, 'block')
        common = dict(
            batch=case.batch,
            channels=case.channels,
            size='x'.join(map(str, case.size)),
            positions=case.positions,
            groups=case.groups,
            mode=case.mode,
            order=case.order,
            **self.settings(),
        )
        head = dict(case=case.name)
        return [{**head, **r, 'pass': kind, **common} for r in records]

    def run_network(self, network) -> list[dict]:
        """Measure one network with no, one and five blocks."""
        import cgnl_mm.benchmark.networks as nets
        from cgnl_mm.benchmark.report import add_ratios

        self.report(f'{network.name}: builds')
        layout = self.memory_format(len(network.size))
        common = dict(
            case=network.name,
            batch=network.batch,
            size='x'.join(map(str, network.size)),
            **self.settings(),
        )
        try:
            models = nets.build(
                network, self.args.backend, self.device, layout
            )
        except Exception as error:
            status = f'failed: {timing.describe(error)}'
            return [
                {**common, 'form': name, 'status': status, 'pass': kind}
                for kind in nets.PASSES
                for name in nets.LAYOUTS
            ]
        records = []
        for kind in nets.PASSES:
            calls = {
                name: nets.make_call(
                    model, network, kind, self.device, self.dtype, layout
                )
                for name, model in models.items()
            }

            def advance(name, kind=kind):
                self.report(f'{network.name}, {kind}: {name}')

            samples, errors = timing.time_interleaved(
                calls, self.device, self.rounds, self.args.budget,
                self.shortest, advance,
            )  # fmt: skip
            part = []
            for name in models:
                record = {**common, 'form': name, 'pass': kind}
                part.append(record)
                if name in errors:
                    record['status'] = f'failed: {errors[name]}'
                    continue
                record.update(status='ok', **self.times(samples[name]))
                if self.device != 'cpu':  # the profiler's log grows too long
                    peak = timing.peak_bytes(calls[name], self.device)
                    record['peak_mb'] = peak / MB
            add_ratios(part, 'networks')
            records += part
        return records


def plan(args: argparse.Namespace, what: str) -> list[tuple]:
    """What an experiment consists of, filtered by --shapes.

    Returns:
        list[tuple]: (columns of the records, case or network).
    """
    import cgnl_mm.benchmark.forms as forms
    import cgnl_mm.benchmark.networks as nets

    if what == 'networks':
        units = [({}, n) for n in nets.networks(args.device, args.quick)]
    elif what == 'block':
        units = [
            ({}, case) for case in forms.block_cases(args.device, args.quick)
        ]
    else:
        units = [
            (dict(varied=varied, value=value), case)
            for varied, cases in forms.scaling_cases(args.quick).items()
            for value, case in cases
        ]
    return [unit for unit in units if re.search(args.shapes, unit[1].name)]


def run_experiment(what: str, units: list[tuple], bench: Benchmark, forms):
    """Run all cases of an experiment, one after the other.

    Yields:
        list[dict]: Records of a case.
    """
    for columns, unit in units:
        if what == 'networks':
            yield bench.run_network(unit)
        else:
            records = bench.run_case(unit, forms)
            yield [{**columns, **record} for record in records]


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        '--what',
        choices=[*WHAT, 'all'],
        default='block',
        help='default: block',
    )
    add(
        '--device', choices=['cpu', 'cuda'], default='cpu', help='default: cpu'
    )
    add(
        '--dtype',
        choices=['float32', 'bfloat16', 'float16'],
        default='float32',
        help='of inputs and weights; of mixed precision for networks. '
        'Default: float32',
    )
    add(
        '--channels-last',
        action='store_true',
        help='inputs and weights in channels-last layout',
    )
    add(
        '--shapes',
        default='',
        metavar='REGEX',
        help='only the cases or networks whose name it finds: "res4.*b1$", '
        '"positions=", "I3D"',
    )
    add(
        '--forms',
        default='',
        metavar='REGEX',
        help='only the columns whose name it finds; the per-group loop, '
        'which ratios need, stays',
    )
    add(
        '--repeats',
        type=int,
        default=15,
        metavar='N',
        help='samples of each form; default: 15',
    )
    add(
        '--budget',
        type=float,
        default=20.0,
        metavar='SECONDS',
        help='a form whose samples would take longer gets fewer, but 3 or '
        'more; default: 20',
    )
    add(
        '--threads',
        type=int,
        metavar='N',
        help="CPU threads; default: PyTorch's choice",
    )
    add(
        '--backend',
        default='auto',
        help="the blocks' path in networks; default: auto",
    )
    add(
        '--compile',
        action='store_true',
        help='also time the block and the per-group loop under torch.compile',
    )
    add(
        '--tf32',
        action='store_true',
        help='allow TensorFloat-32 for float32 on CUDA, for all forms',
    )
    add(
        '--nl-limit',
        type=float,
        metavar='GB',
        help='leave a NonLocal out where its affinity is larger; default: '
        '2 on a CPU, 8 on CUDA',
    )
    add(
        '--quick',
        action='store_true',
        help='tiny inputs: shows that it works, measures nothing',
    )
    add('--out', type=Path, default=Path('work_dirs/benchmark'),
        help='folder; default: work_dirs/benchmark')  # fmt: skip
    return parser.parse_args(argv)


def check(args: argparse.Namespace) -> None:
    """Complete the options.

    Raises:
        SetupError: One cannot be.
    """
    import torch

    from cgnl_mm.errors import SetupError
    from cgnl_mm.hosts import require_mmcv
    from cgnl_mm.ops.dispatch import BACKENDS

    require_mmcv()
    if args.device == 'cuda' and not torch.cuda.is_available():
        raise SetupError(
            '--device cuda: PyTorch sees no GPU (torch.cuda.is_available() '
            'is False); leave it out for the CPU'
        )
    for option in ('repeats', 'threads', 'budget', 'nl_limit'):
        value = getattr(args, option)
        if value is not None and not value > 0:
            name = option.replace('_', '-')
            raise SetupError(f'--{name} must be positive, got {value:g}')
    if args.backend not in BACKENDS:
        raise SetupError(
            f'--backend {args.backend}: known are {", ".join(BACKENDS)}'
        )
    for option in ('shapes', 'forms'):
        value = getattr(args, option)
        try:
            re.compile(value)
        except re.error as error:
            raise SetupError(
                f'--{option} {value!r} is no regular expression: {error}'
            ) from error
    if args.nl_limit is None:
        args.nl_limit = 2.0 if args.device == 'cpu' else 8.0
    if args.threads:
        torch.set_num_threads(args.threads)
    if args.device == 'cuda':
        # convolutions would, matrix products would not, by default
        torch.backends.cudnn.allow_tf32 = args.tf32
        torch.backends.cuda.matmul.allow_tf32 = args.tf32


def main() -> None:
    args = parse_args()
    import cgnl_mm  # noqa: F401  repairs the hosts
    from cgnl_mm.errors import SetupError

    check(args)
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn

    from cgnl_mm.benchmark import forms as _bench_forms
    from cgnl_mm.benchmark import plots as _bench_plots
    from cgnl_mm.benchmark import report

    experiments = WHAT if args.what == 'all' else (args.what,)
    plans = {what: plan(args, what) for what in experiments}
    if not any(plans.values()):
        raise SetupError(
            f'--shapes {args.shapes!r} matches no case of {args.what}'
        )
    forms = [
        form
        for form in _bench_forms.block_forms(args.dtype, args.compile)
        if form.name == _bench_forms.LOOP or re.search(args.forms, form.name)
    ]
    try:
        args.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SetupError(f'--out {args.out}: {error.strerror}') from error
    facts = report.environment(args.device, shlex.join(sys.argv[1:]))
    console = Console(stderr=True)
    for name, value in facts.items():
        console.print(f'{name}: {value}', highlight=False, markup=False)

    everything = []
    progress = Progress(
        *Progress.get_default_columns(), MofNCompleteColumn(),
        TimeElapsedColumn(), console=console,
    )  # fmt: skip
    with progress:
        task = progress.add_task('', total=sum(map(len, plans.values())))
        bench = Benchmark(
            args, lambda text: progress.update(task, description=text)
        )
        for what, units in plans.items():
            records = []
            for part in run_experiment(what, units, bench, forms):
                records += part
                # after each case: what was measured outlives an interrupt
                report.write_csv(args.out / f'{what}.csv', records, what)
                progress.advance(task)
            if not records:
                continue
            everything += records
            report.write_markdown(
                args.out / f'{what}.md', records, what, facts
            )
            _bench_plots.plot(args.out / f'{what}.png', records, what)
            console.print(
                f'wrote {args.out / what}.csv, .md and .png', markup=False
            )
    _end(everything)


def _end(records: list[dict]) -> None:
    """Name what has no result; a wrong path makes the tool fail."""
    refused = {}
    for record in records:
        if record['status'].startswith(('refused', 'failed')):
            print(
                f'{record["case"]}, {record["pass"]}: {record["form"]} '
                f'{record["status"]}',
                file=sys.stderr,
            )
        if record['status'].startswith('refused'):
            refused[record['form']] = True
    if refused:
        print(
            f'error: not reported, because wrong: {", ".join(refused)}',
            file=sys.stderr,
        )
        sys.exit(1)


if __name__ == '__main__':
    run(main)
