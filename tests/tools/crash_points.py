"""Kill a training at each of its operations on checkpoints, and resume it.

    python crash_points.py TEMPLATE OUT

TEMPLATE holds ``run.py`` and its data. The whole run is OUT/whole; the one
that was killed right before its n-th operation, and resumed, OUT/n. Processes
are forked, so that a run takes a second.
"""

import os
import runpy
import shutil
import signal
import sys
import traceback
from pathlib import Path

import mmpretrain.datasets  # noqa: F401  once for all runs
import mmpretrain.models  # noqa: F401
import torch

import cgnl_mm  # noqa: F401

TRAIN = Path(__file__).parents[2] / 'tools/train.py'
WRITES = os.O_WRONLY | os.O_RDWR
ENDINGS = ('.pth', '.part', 'last_checkpoint')


def log_and_kill(work_dir, at):
    """Write each operation down; at the given one, no more happens."""
    count = 0

    def hook(event, args):
        nonlocal count
        if event not in ('open', 'os.rename', 'os.remove'):
            return
        path = args[0]
        if not isinstance(path, str) or not path.endswith(ENDINGS):
            return
        if event == 'open' and not args[2] & WRITES:
            return
        if not os.path.abspath(path).startswith(str(work_dir)):
            return
        count += 1
        print(f'operation {count}: {event} {Path(path).name}', flush=True)
        if count == at:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def train(folder, *args, at=None):
    """Fork a training; returns its exit status, -9 if it was killed."""
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    status = 1
    try:
        os.chdir(folder)
        out = os.open('out.txt', os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(out, 1)
        os.dup2(out, 2)
        log_and_kill(folder / 'work_dirs', at)
        sys.argv = [str(TRAIN), 'run.py', *args]
        sys.path.insert(0, str(TRAIN.parent))
        runpy.run_path(str(TRAIN), run_name='__main__')
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(status)


def main(template, out):
    torch.set_num_threads(1)  # threads do not survive a fork
    whole = shutil.copytree(template, out / 'whole')
    assert train(whole) == 0, (whole / 'out.txt').read_text()
    text = (whole / 'out.txt').read_text()
    operations = [
        line for line in text.splitlines() if line.startswith('operation ')
    ]
    for at, operation in enumerate(operations, 1):
        folder = shutil.copytree(template, out / str(at))
        statuses = train(folder, at=at), train(folder, '--resume')
        print(operation, *statuses, flush=True)


if __name__ == '__main__':
    main(*(Path(path).resolve() for path in sys.argv[1:]))
