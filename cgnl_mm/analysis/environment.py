"""Name the code, the versions and the hardware that a result comes from."""

import os
import platform
import re
import subprocess
from importlib import metadata
from pathlib import Path

from ..hosts import HOME
from ..version import __version__

PACKAGES = (
    'torch', 'torchvision', 'mmengine', 'mmcv', 'mmcv-lite', 'mmpretrain',
    'mmaction2', 'mmdet', 'numpy',
)  # fmt: skip


def environment() -> dict[str, str]:
    """Return versions and hardware by name."""
    found = {'cgnl_mm': __version__, 'commit': commit_of(HOME)}
    found['Python'] = platform.python_version()
    installed = {d.name: d.version for d in metadata.distributions()}
    found.update((n, installed[n]) for n in PACKAGES if n in installed)
    found['CPU'] = f'{_cpu()} ({len(os.sched_getaffinity(0))} cores)'
    # PyTorch would take memory of a GPU to tell the GPU's name.
    gpus = _output('nvidia-smi', '--query-gpu=name', '--format=csv,noheader')
    found['GPU'] = ', '.join(gpus.splitlines()) or 'none'
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
    text = Path('/proc/cpuinfo').read_text()
    found = re.search(r'^model name\s*: (.*)$', text, re.MULTILINE)
    return found[1] if found else platform.machine()
