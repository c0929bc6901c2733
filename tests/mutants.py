"""Put faults into copies of the checkout, one at a time: do the tests see it?

    python tests/mutants.py [-j JOBS] [NAME ...]      make mutants ARGS=NAME

mutants.toml lists the faults: a file, the line as it is (or a part of one, or
several), the faulty one, and the tests of that part, as pytest takes them.
They have to pass without a fault first. Code that moves takes its fault along;
one whose code is gone gets a successor of the same kind.
"""

import argparse
import contextlib
import os
import queue
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
TABLE = Path(__file__).with_suffix('.toml')
LIMIT = 600  # seconds: some faults make a test wait for ever
MISSED = (0, 5)  # pytest's status if all passed, or all were skipped
RUNNING = set()
# The last such line of pytest's output names the test.
FAILED = re.compile(r'^(?:FAILED|ERROR) (.+?)(?: - .*)?$', re.M)


class Mutant(NamedTuple):
    """A fault, and where it is put.

    Attributes:
        name (str): Its name.
        file (str): Path below the root.
        line (str): What is there, once in the file.
        fault (str): What takes its place.
        tests (str): Arguments of pytest.
    """

    name: str
    file: str
    line: str
    fault: str
    tests: str

    def problem(self):
        """Say why the fault cannot be put there; None if it can."""
        path = ROOT / self.file
        count = path.read_text().count(self.line) if path.is_file() else 0
        if count == 1 and self.fault != self.line:
            return None
        found = 'the fault is the line' if count == 1 else f'{count} times'
        return f'{self.name}: {self.file}: {found}, not once:\n{self.line}'

    @contextlib.contextmanager
    def put_into(self, copy):
        """Change the file of a copy of the checkout, and change it back."""
        path = copy / self.file
        text = path.read_text()
        path.write_text(text.replace(self.line, self.fault))
        try:
            yield
        finally:
            path.write_text(text)


def copy_checkout(folder):
    """Copy what git knows, and new files that it does not ignore."""
    command = ['git', 'ls-files', '-z', '-co', '--exclude-standard']
    listed = subprocess.check_output(command, cwd=ROOT, text=True)
    for name in filter(None, listed.split('\0')):
        if (ROOT / name).is_file():  # not deleted since
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    (folder / 'tmp').mkdir()
    code = 'import importlib.util as u; print(u.find_spec("cgnl_mm").origin)'
    _, said = run(['-c', code], folder)
    if said.strip() != str(folder / 'cgnl_mm/__init__.py'):
        sys.exit(f'the tests in {folder} would import {said}')
    return folder


def run(args, copy):
    """Run Python in a copy; return its status, None if there was no end, and
    what it said."""
    env = dict(
        os.environ,
        OMP_NUM_THREADS='1',
        PYTHONPATH=str(copy),
        # A faulty file may have the size and the second of the true one.
        PYTHONDONTWRITEBYTECODE='1',
        TMPDIR=str(copy / 'tmp'),
    )
    with tempfile.TemporaryFile('w+') as out:
        process = subprocess.Popen(
            [sys.executable, *args],
            cwd=copy,
            env=env,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
        RUNNING.add(process.pid)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(LIMIT)
        status = process.poll()
        kill(process.pid)
        process.wait()
        out.seek(0)
        return status, out.read()


def kill(pid):
    """End a process and what it has started."""
    RUNNING.discard(pid)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def run_tests(tests, copies, mutant=None):
    """Run tests in a free copy; return seconds, status and output."""
    copy = copies.get()
    start = time.monotonic()
    with mutant.put_into(copy) if mutant else contextlib.nullcontext():
        options = ['-x', '-q', '-n0', '-p', 'no:cacheprovider']
        command = ['-m', 'pytest', *options, *shlex.split(tests)]
        status, said = run(command, copy)
    copies.put(copy)
    return time.monotonic() - start, status, said


def are_clean(selections, pool, copies):
    """Tell whether tests pass without a fault; print what fails."""
    good = True
    print(f'{len(selections)} selections of tests without a fault')
    results = pool.map(lambda tests: run_tests(tests, copies), selections)
    for tests, (seconds, status, said) in zip(selections, results):
        print(f'{seconds:4.0f} s  {tests}', flush=True)
        if status != 0:
            good = False
            print(said, f'status {status} without a fault: {tests}', sep='\n')
    return good


def count_caught(mutants, pool, copies):
    """Try each fault, and print which test saw it."""
    caught = 0
    print(f'{len(mutants)} faults')
    results = pool.map(lambda m: run_tests(m.tests, copies, m), mutants)
    for mutant, (seconds, status, said) in zip(mutants, results):
        if status in MISSED:
            verdict = f'NOT CAUGHT by {mutant.tests}'
        elif failed := FAILED.findall(said):
            verdict = failed[-1]
        else:
            verdict = f'pytest ended with {status}; None: not in {LIMIT} s'
        caught += status not in MISSED
        print(f'{seconds:4.0f} s  {mutant.name}: {verdict}', flush=True)
    return caught


def read_table(names):
    """Read the faults of these names, or all; end where one has no place."""
    table = tomllib.loads(TABLE.read_text())
    mutants = [Mutant(name, **values) for name, values in table.items()]
    problems = [x for x in (mutant.problem() for mutant in mutants) if x]
    problems += [f'{n}: not in {TABLE.name}' for n in names if n not in table]
    if problems:
        sys.exit('\n'.join(problems))
    return [m for m in mutants if not names or m.name in names]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('names', nargs='*', metavar='NAME', help='all')
    parser.add_argument('-j', '--jobs', type=int, default=2)
    args = parser.parse_args()
    mutants = read_table(args.names)
    copies = queue.SimpleQueue()
    with (
        tempfile.TemporaryDirectory(prefix='mutants') as folder,
        ThreadPoolExecutor(args.jobs) as pool,
    ):
        for number in range(args.jobs):
            copies.put(copy_checkout(Path(folder).resolve() / str(number)))
        selections = list(dict.fromkeys(mutant.tests for mutant in mutants))
        try:
            if not are_clean(selections, pool, copies):
                sys.exit(1)
            caught = count_caught(mutants, pool, copies)
        except KeyboardInterrupt:
            for pid in list(RUNNING):
                kill(pid)
            raise
    print(f'{caught} of {len(mutants)} faults caught')
    sys.exit(caught < len(mutants))


if __name__ == '__main__':
    main()
