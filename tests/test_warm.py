"""The warm process behaves like the interpreter it stands for."""

import os
import signal
import subprocess
import sys
import time

import pytest

CODE = """
import os, sys
print(sys.argv, os.getcwd(), os.environ['OF_TEST'], file=sys.stderr)
print(input())
sys.exit(3)
"""


def test_streams_environment_folder_and_status(warm, tmp_path):
    done = subprocess.run(
        [warm, '-c', CODE, 'a b'],
        input='typed\n',
        cwd=tmp_path,
        env=dict(os.environ, OF_TEST='x'),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 3
    assert done.stdout == 'typed\n'
    assert done.stderr == f"['-c', 'a b'] {tmp_path} x\n"


def test_script_and_module(warm, tmp_path):
    (tmp_path / 'named.py').write_text('VALUE = 5')
    (tmp_path / 'main.py').write_text(
        'import atexit, named\n'
        'atexit.register(print, "last")\n'
        'if __name__ == "__main__":\n'
        '    print(named.VALUE)\n'
    )
    for args, cwd in (
        ((tmp_path / 'main.py',), '/'),
        (('-u', '-m', 'main'), tmp_path),
    ):
        done = subprocess.run(
            [warm, *args], cwd=cwd, capture_output=True, text=True
        )
        assert (done.returncode, done.stdout) == (0, '5\nlast\n'), done.stderr


def test_exceptions(warm):
    done = subprocess.run(
        [warm, '-c', '1 / 0'], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr.endswith('ZeroDivisionError: division by zero\n')


WAIT = """
import os, signal, sys, time
def told(number, frame):
    print('told', flush=True)
    sys.exit(7)
signal.signal(signal.SIGUSR1, told)
print(os.getpid(), flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize(
    'number, status, said',
    [
        (signal.SIGUSR1, 7, 'told\n'),
        (signal.SIGTERM, -signal.SIGTERM, ''),
        (signal.SIGKILL, -signal.SIGKILL, ''),
    ],
)
def test_signals(warm, number, status, said):
    process = subprocess.Popen(
        [warm, '-c', WAIT], stdout=subprocess.PIPE, text=True
    )
    pid = int(process.stdout.readline())
    process.send_signal(number)
    assert process.communicate(timeout=60)[0] == said
    assert process.returncode == status
    wait_for_end(pid)


def test_death_by_a_signal_that_python_ignores(warm):
    code = (
        'import os, signal as s; s.signal(s.SIGXFSZ, s.SIG_DFL); '
        'os.kill(os.getpid(), s.SIGXFSZ)'
    )
    done = subprocess.run([warm, '-c', code], timeout=60)
    assert done.returncode == -signal.SIGXFSZ


def wait_for_end(pid):
    end = time.monotonic() + 60
    while time.monotonic() < end:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.01)
    raise AssertionError(f'process {pid} lives on')


def test_several_at_once_and_one_in_another(warm):
    code = (
        'import subprocess, sys\n'
        'codes = [subprocess.Popen([sys.executable, "-c", '
        'f"import torch; raise SystemExit({n})"]) for n in range(5)]\n'
        'print([process.wait() for process in codes])\n'
    )
    done = subprocess.run([warm, '-c', code], capture_output=True, text=True)
    assert done.stdout == '[0, 1, 2, 3, 4]\n', done.stderr


POOL = """
import multiprocessing, sys
from concurrent.futures import ProcessPoolExecutor
with ProcessPoolExecutor(2, multiprocessing.get_context(sys.argv[1])) as pool:
    print(*pool.map(eval, ['1 + 1', '"torch" in __import__("sys").modules']))
"""


@pytest.mark.parametrize('kind', ['spawn', 'forkserver'])
def test_pools_are_warm(warm, kind):
    """They inherit descriptors."""
    done = subprocess.run(
        [warm, '-c', POOL, kind], capture_output=True, text=True
    )
    assert done.stdout == '2 True\n', done.stderr


def test_sitecustomize(warm, tmp_path):
    (tmp_path / 'sitecustomize.py').write_text('print("first")')
    done = subprocess.run(
        [warm, '-c', 'print("then")'],
        env=dict(os.environ, PYTHONPATH=str(tmp_path)),
        capture_output=True,
        text=True,
    )
    assert done.stdout == 'first\nthen\n', done.stderr


def test_randomness_is_not_inherited(warm):
    code = 'import random, numpy; print(random.random(), numpy.random.rand())'
    said = {
        subprocess.run([warm, '-c', code], capture_output=True).stdout
        for _ in range(2)
    }
    assert len(said) == 2


def test_network_namespace(warm):
    inside = ['unshare', '--net']
    if subprocess.run([*inside, 'true'], capture_output=True).returncode:
        pytest.skip('may not make network namespaces here')
    link = '/proc/self/ns/net'
    code = f'import os; print(os.readlink("{link}"))'
    done = subprocess.run(
        [*inside, 'sh', '-c', f'readlink {link}; "$0" -c "$1"', warm, code],
        capture_output=True,
        text=True,
    )
    there, here = done.stdout.split()
    assert there == here != os.readlink(link), done.stderr


def test_torch_alone(warm_torch):
    code = 'import sys; print({"mmengine", "mmcv"} & set(sys.modules))'
    done = subprocess.run([warm_torch, '-c', code], capture_output=True)
    assert done.stdout == b'set()\n'


def test_other_starts_are_refused():
    with pytest.raises(RuntimeError, match='fixture `warm`'):
        subprocess.run([sys.executable, '-c', ''])
