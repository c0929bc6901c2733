"""Run the experiments of a benchmark and write what they found."""

import math
import os
import re
import sys
from collections.abc import Callable

import torch
from rich.console import Console
from rich.progress import track

from ..analysis.environment import environment
from ..errors import SetupError
from . import report
from .cases import Case, block_cases, scaling_cases, traffic_cases
from .forms import Form, choose_forms
from .networks import LAYOUTS, PASSES, Network, make_calls, networks
from .parity import find_deviation
from .settings import Settings
from .timing import (
    NotTimedError,
    forward_call,
    noting_failure,
    peak_bytes,
    saved_bytes,
    time_interleaved,
    training_call,
)
from .traffic import count_traffic

QUICK_ROUNDS = 3
# Passes of the block, and the function that makes a call of each.
BLOCK_PASSES = {'forward': forward_call, 'forward + backward': training_call}


def run_benchmark(settings: Settings, command: str = '') -> int:
    """Run experiments and write a csv, markdown and png file for each.

    Args:
        settings (Settings): What to measure, and how.
        command (str): Options of the command line, for the report.
            Defaults to ''.

    Returns:
        int: Exit status; 1 if a form was refused because it is wrong.

    Raises:
        SetupError: If no case matches.
    """
    plans = plan(settings)
    settings.out.mkdir(parents=True, exist_ok=True)
    if settings.threads:
        torch.set_num_threads(settings.threads)
    # By default cuDNN's convolutions would use it, matrix products would not.
    torch.backends.cudnn.allow_tf32 = settings.tf32
    torch.backends.cuda.matmul.allow_tf32 = settings.tf32
    facts = find_facts(settings, command)
    console, refused = Console(stderr=True), []
    console.print(report.as_list(facts), highlight=False, markup=False)
    for what, cases in plans.items():
        records = []
        path = settings.out / what
        for case in track(cases, description=what, console=console):
            records += EXPERIMENTS[what][1](case, settings)
            table = report.make_table(records)
            # What was measured so far outlives an interrupt.
            table.to_csv(f'{path}.csv', index=False)
        report.write_report(settings.out, what, table, facts)
        console.print(f'wrote {path}.csv, .md and .png', markup=False)
        refused += name_missing(records)
    if refused:
        names = ', '.join(dict.fromkeys(refused))
        print(f'error: not reported, because wrong: {names}', file=sys.stderr)
    return int(bool(refused))


def find_facts(settings: Settings, command: str) -> dict[str, str]:
    """Return versions, hardware and what the times depend on, by name."""
    facts = {
        'command': f'tools/benchmark.py {command}'.strip(),
        **environment(),
        'instructions': torch.backends.cpu.get_cpu_capability(),
        'threads': torch.get_num_threads(),
        'OMP_WAIT_POLICY': os.environ.get('OMP_WAIT_POLICY', 'unset'),
    }
    if settings.device != 'cpu':
        facts['GPU'] = torch.cuda.get_device_name()
        facts['CUDA'] = torch.version.cuda
        facts['cuDNN'] = torch.backends.cudnn.version()
        facts['TF32'] = settings.tf32
    return facts


def plan(settings: Settings) -> dict[str, list]:
    """Return the cases of each experiment that the options leave."""
    chosen = EXPERIMENTS if settings.what == 'all' else (settings.what,)
    plans = {}
    for what in chosen:
        cases = EXPERIMENTS[what][0](settings.device, settings.quick)
        found = [c for c in cases if re.search(settings.shapes, c.name)]
        if found:
            plans[what] = found
    if not plans:
        raise SetupError(
            f'--shapes {settings.shapes!r} matches no case of {settings.what}'
        )
    return plans


def name_missing(records: list[dict]) -> list[str]:
    """Print what has no result; return the names of the wrong forms."""
    for r in records:
        if r['status'].startswith(('refused', 'failed')):
            text = f'{r["case"]}, {r["pass"]}: {r["form"]} {r["status"]}'
            print(text, file=sys.stderr)
    return [r['form'] for r in records if r['status'].startswith('refused')]


def measure_block(
    case: Case, settings: Settings, forms: list[Form] | None = None
) -> list[dict]:
    """Measure a block on one input.

    Args:
        case (Case): Input and settings of the block.
        settings (Settings): How to measure.
        forms (list[Form], optional): Forms to compare; those that the
            settings choose if None. Defaults to None.

    Returns:
        list[dict]: A record for each form and pass.
    """
    forms = choose_forms(case, settings) if forms is None else forms
    place = dict(
        device=settings.device,
        dtype=settings.torch_dtype,
        memory_format=settings.memory_format(case.rank),
    )
    modules, status = {}, {}
    for form in forms:
        with noting_failure(status, form.name):
            require_fit(form, case, settings)
            modules[form.name] = form.build(case).to(**place)
    torch.manual_seed(0)
    x = torch.randn(case.shape).to(**place)
    records = []
    for kind, make in BLOCK_PASSES.items():
        training, calls = make is training_call, {}
        names = [form.name for form in forms if training or not form.recompute]
        for name in names:
            if name not in status:
                with noting_failure(status, name):
                    calls[name] = make(modules[name], x)
        part = measure_calls(kind, calls, status, names, settings)
        for record in part if training else ():
            if record['status'] == 'ok':
                record.update(saved_bytes(modules[record['form']], x))
        records += part
    return [{**case.columns(), **record} for record in records]


def require_fit(form: Form, case: Case, settings: Settings) -> None:
    """Raise NotTimedError if a form is too large or wrong."""
    entries = math.prod(case.size) ** 2 * case.batch * form.affinity
    size = entries * settings.torch_dtype.itemsize / 1e9
    if size > settings.nl_limit:
        raise NotTimedError(
            f'skipped: an affinity of {size:.1f} GB exceeds '
            f'--nl-limit {settings.nl_limit:g}'
        )
    wrong = find_deviation(form, case, settings) if form.is_cgnl else None
    if wrong:
        raise NotTimedError(f'refused: {wrong}')


def measure_scaling(case: Case, settings: Settings) -> list[dict]:
    """Measure a block, and name the quantity that its case varies."""
    varied, _, value = case.name.partition('=')
    records = measure_block(case, settings)
    return [dict(varied=varied, value=value, **r) for r in records]


def measure_network(network: Network, settings: Settings) -> list[dict]:
    """Measure one network with no, one and five blocks."""
    twins, status, records = {}, {}, []
    for name in LAYOUTS:
        with noting_failure(status, name):
            twins[name] = make_calls(network, name, settings)
    # On a CPU the profiler's log of a network grows too long.
    memory = settings.device != 'cpu'
    for kind in PASSES:
        calls = {name: passes[kind] for name, passes in twins.items()}
        part = measure_calls(kind, calls, status, LAYOUTS, settings, memory)
        records += part
    return [{**network.columns(), **record} for record in records]


def measure_calls(
    kind: str, calls: dict[str, Callable], status: dict[str, str],
    names: list[str], settings: Settings, memory: bool = True,
) -> list[dict]:  # fmt: skip
    """Measure time and memory of one pass.

    Args:
        kind (str): Name of the pass.
        calls (dict[str, Callable]): Calls by the name of the form.
        status (dict[str, str]): Why forms have no result; those that fail
            here are added.
        names (list[str]): Names of all forms, in the order of the records.
        settings (Settings): How to measure.
        memory (bool): Whether to measure the peak. Defaults to True.
    """
    rounds = QUICK_ROUNDS if settings.quick else settings.repeats
    shortest = 0.0 if settings.quick else 2e-3
    samples = time_interleaved(
        calls, status, rounds, settings.budget, shortest
    )
    records = []
    for name in names:
        record = {'form': name, 'pass': kind}
        if name in samples:
            record.update(report.quartiles(samples[name]))
            if memory:
                with noting_failure(status, name):
                    peak = peak_bytes(calls[name], settings.device)
                    record['peak_mb'] = peak / 1e6
        record['status'] = status.get(name, 'ok')
        records.append({**record, **settings.columns()})
    return records


# Cases of each experiment, and the function that measures one.
EXPERIMENTS = {
    'block': (block_cases, measure_block),
    'networks': (networks, measure_network),
    'scaling': (scaling_cases, measure_scaling),
    'traffic': (traffic_cases, count_traffic),
}
