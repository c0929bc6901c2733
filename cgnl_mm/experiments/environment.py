"""Name the code, the versions and the hardware that a run was made with."""

import os
import platform
import re
import subprocess
from importlib import metadata
from pathlib import Path

from .. import __version__
from ..hosts import HOME

PACKAGES = (
    'torch', 'torchvision', 'mmengine', 'mmcv', 'mmcv-lite', 'mmpretrain',
    'mmaction2', 'mmdet', 'numpy',
)  # fmt: skip


def environment(jobs: int, gpus_per_run: int) -> dict:
    """Return versions and hardware by name.

    Args:
        jobs (int): Runs at a time.
        gpus_per_run (int): Processes of each run.
    """
    found = {'cgnl_mm': __version__, 'commit': commit_of(HOME)}
    found['Python'] = platform.python_version()
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    found['CPU'] = f'{_cpu()} ({len(os.sched_getaffinity(0))} cores)'
    # PyTorch would take memory of a GPU to tell the GPU's name.
    gpus = _output('nvidia-smi', '--query-gpu=name', '--format=csv,noheader')
    names = gpus.splitlines()
    kinds = [f'{names.count(n)} x {n}' for n in dict.fromkeys(names)]
    found['GPU'] = ', '.join(kinds) or 'none'
    found['runs at a time'] = jobs
    if gpus_per_run > 1:
        found['GPUs per run'] = gpus_per_run
    found['threads'] = os.environ.get('OMP_NUM_THREADS', 'default')
    return {name: value for name, value in found.items() if value}


def commit_of(folder: Path) -> str:
    """Return the short hash of a checkout's commit.

    Args:
        folder (Path): The checkout's root.

    Returns:
        str: The hash, with a '+' if files differ from the commit; empty for
        an installation, also one inside of somebody else's checkout.
    """
    if not (folder / '.git').exists():
        return ''
    commit = _output('git', '-C', folder, 'rev-parse', '--short', 'HEAD')
    changed = _output('git', '-C', folder, 'status', '--porcelain')
    return f'{commit}+' if commit and changed else commit


def _output(*command) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except OSError:
        return ''
    return done.stdout.strip() if done.returncode == 0 else ''


def _cpu() -> str:
    info = Path('/proc/cpuinfo')
    text = info.read_text() if info.is_file() else ''
    found = re.search(r'^model name\s*: (.*)$', text, re.MULTILINE)
    return found[1] if found else platform.machine()
