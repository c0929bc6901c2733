"""Check that a warm process behaves like the interpreter it stands for."""

import os
import signal
import subprocess
import sys
import time

import pytest


def run(*command, **options):
    """Run a command; return its status, output and errors."""
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, **options
    )
    return done.returncode, done.stdout, done.stderr


CODE = """
import os, sys
print(sys.argv, os.getcwd(), os.environ['OF_TEST'], file=sys.stderr)
print(input())
sys.exit(3)
"""


def test_streams_environment_folder_and_status(warm, tmp_path):
    env = dict(os.environ, OF_TEST='x')
    said = run(warm, '-c', CODE, 'a b', input='typed\n', cwd=tmp_path, env=env)
    assert said == (3, 'typed\n', f"['-c', 'a b'] {tmp_path} x\n")


def test_script_and_module(warm, tmp_path):
    (tmp_path / 'named.py').write_text('VALUE = 5')
    (tmp_path / 'main.py').write_text(
        'import atexit, named\n'
        'atexit.register(print, "last")\n'
        'if __name__ == "__main__":\n'
        '    print(named.VALUE)\n'
    )
    expected = 0, '5\nlast\n', ''
    assert run(warm, tmp_path / 'main.py', cwd='/') == expected
    assert run(warm, '-u', '-m', 'main', cwd=tmp_path) == expected


WAIT = """
import os, signal, sys, time
def told(number, frame):
    os.write(1, b'told\\n')  # print would not be reentrant
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
    end = time.monotonic() + 60
    while os.path.exists(f'/proc/{pid}'):
        assert time.monotonic() < end, f'process {pid} lives on'
        time.sleep(0.01)


NESTED = """
import subprocess, sys
code = 'import sys, torch; sys.exit(int(sys.argv[1]))'
codes = [
    subprocess.Popen([sys.executable, '-c', code, str(n)]) for n in range(5)]
print([process.wait() for process in codes])
"""
POOL = """
import multiprocessing, sys
from concurrent.futures import ProcessPoolExecutor
with ProcessPoolExecutor(2, multiprocessing.get_context(sys.argv[1])) as pool:
    print(*pool.map(eval, ['1 + 1', '"torch" in __import__("sys").modules']))
"""
LIMIT = """
import os, signal as s
s.signal(s.SIGXFSZ, s.SIG_DFL)
os.kill(os.getpid(), s.SIGXFSZ)
"""


@pytest.mark.parametrize(
    'args, status, said, error',
    [
        (['1 / 0'], 1, '', 'ZeroDivisionError: division by zero'),
        ([NESTED], 0, '[0, 1, 2, 3, 4]\n', ''),
        # A pool's processes inherit descriptors.
        ([POOL, 'spawn'], 0, '2 True\n', ''),
        ([POOL, 'forkserver'], 0, '2 True\n', ''),
        # Python ignores this signal.
        ([LIMIT], -signal.SIGXFSZ, '', ''),
    ],
    ids=['error', 'nested', 'spawn', 'forkserver', 'signal'],
)
def test_programs(warm, args, status, said, error):
    *done, errors = run(warm, '-c', *args, timeout=60)
    assert done == [status, said], errors
    assert ''.join(errors.splitlines()[-1:]) == error


def test_sitecustomize(warm, tmp_path):
    (tmp_path / 'sitecustomize.py').write_text('print("first")')
    env = dict(os.environ, PYTHONPATH=str(tmp_path))
    said = run(warm, '-c', 'print("then")', env=env)
    assert said == (0, 'first\nthen\n', '')


def test_randomness_is_not_inherited(warm):
    code = 'import random, numpy; print(random.random(), numpy.random.rand())'
    assert run(warm, '-c', code) != run(warm, '-c', code)


def test_torch_alone(warm_torch):
    code = 'import sys; print({"mmengine", "mmcv"} & set(sys.modules))'
    assert run(warm_torch, '-c', code) == (0, 'set()\n', '')


def test_other_starts_are_refused():
    with pytest.raises(RuntimeError, match='fixture `warm`'):
        subprocess.run([sys.executable, '-c', ''])
