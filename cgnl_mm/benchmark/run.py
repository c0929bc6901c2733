"""Run the experiments of a benchmark and write what they found."""

import sys

import torch

from ..analysis.environment import environment
from .block import measure_block
from .forms import Settings, choose_cases
from .networks import measure_network
from .report import make_table, write_report
from .traffic import count_traffic

EXPERIMENTS = dict(
    block=measure_block, networks=measure_network, traffic=count_traffic
)


def run_benchmark(settings: Settings, command: str = '') -> int:
    """Run experiments; write ``benchmark.csv``, ``.md`` and ``.png``.

    Args:
        settings (Settings): What to measure, and how.
        command (str): Options of the command line, for the report.
            Defaults to ''.

    Returns:
        int: Exit status; 1 if a form failed, or deviates from the truth.
    """
    settings.out.mkdir(parents=True, exist_ok=True)
    # By default cuDNN's convolutions would use it, matrix products would not.
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    records = []
    for what, case in choose_cases(settings):
        print(f'{what}: {case.name}', file=sys.stderr, flush=True)
        shape = 'x'.join(map(str, case.shape))
        about = dict(experiment=what, case=case.name, input=shape)
        for record in EXPERIMENTS[what](case, settings):
            records.append({**about, **record})
            if record['status'] != 'ok':
                text = f'{record["form"]}, {record["pass"]}'
                print(f'  {text}: {record["status"]}', file=sys.stderr)
        table = make_table(records)
        # What was measured so far outlives an interrupt.
        table.to_csv(settings.out / 'benchmark.csv', index=False)
    facts = {
        'command': f'tools/benchmark.py {command}'.strip(),
        **environment(),
        'instructions': torch.backends.cpu.get_cpu_capability(),
        'threads': torch.get_num_threads(),
        'type': f'{settings.dtype} on {settings.device}',
    }
    write_report(settings.out, table, facts)
    print(f'wrote {settings.out}/benchmark.csv, .md and .png')
    return int((table['status'] != 'ok').any())
