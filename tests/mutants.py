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
MISSED = (0, 5)  # of pytest: all passed, or all were skipped
RUNNING = set()
# the last such line of pytest's output names the test
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
        """Say why it cannot be put there; None if it can."""
        path = ROOT / self.file
        count = path.read_text().count(self.line) if path.is_file() else 0
        if count == 1 and self.fault != self.line:
            return None
        found = 'the fault is the line' if count == 1 else f'{count} times'
        return f'{self.name}: {self.file}: {found}, not once:\n{self.line}'

    def put_into(self, copy):
        """Change the file of a copy of the checkout."""
        path = copy / self.file
        path.write_text(path.read_text().replace(self.line, self.fault))

    def take_out_of(self, copy):
        """Bring the original back."""
        shutil.copy(ROOT / self.file, copy / self.file)


def copy_checkout(folder):
    """Copy what git knows, and new files that it does not ignore."""
    listed = subprocess.run(
        ['git', 'ls-files', '-z', '-co', '--exclude-standard'],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    for name in filter(None, listed.stdout.split('\0')):
        if (ROOT / name).is_file():  # not deleted since
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    (folder / 'tmp').mkdir()
    code = 'import importlib.util as u; print(u.find_spec("cgnl_mm").origin)'
    _, said = run(['-c', code], folder)
    if said.strip() != str(folder / 'cgnl_mm/__init__.py'):
        sys.exit(f'the tests in {folder} would import {said}')


def run(args, copy):
    """Status of Python in a copy (None: no end) and what it said."""
    env = dict(
        os.environ,
        OMP_NUM_THREADS='1',
        PYTHONPATH=str(copy),
        # a faulty file may have the size and the second of the true one
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
        try:
            status = process.wait(LIMIT)
        except subprocess.TimeoutExpired:
            status = None
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
    """Run tests in a free copy: seconds, status and output."""
    copy = copies.get()
    start = time.monotonic()
    try:
        if mutant:
            mutant.put_into(copy)
        options = ['-x', '-q', '-n0', '-p', 'no:cacheprovider']
        status, said = run(
            ['-m', 'pytest', *options, *shlex.split(tests)], copy
        )
    finally:
        if mutant:
            mutant.take_out_of(copy)
        copies.put(copy)
    return time.monotonic() - start, status, said


def are_clean(selections, pool, copies):
    """Whether tests pass without a fault; what fails is printed."""
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
        elif status is None:
            verdict = f'no end after {LIMIT} s'
        else:
            verdict = f'pytest ended with {status}'
        caught += status not in MISSED
        print(f'{seconds:4.0f} s  {mutant.name}: {verdict}', flush=True)
    return caught


def read_table(names):
    """Read the faults of these names, or all; end where one has no place."""
    table = tomllib.loads(TABLE.read_text())
    mutants = [Mutant(name, **values) for name, values in table.items()]
    problems = list(filter(None, (mutant.problem() for mutant in mutants)))
    unknown = [f'{n}: not in {TABLE.name}' for n in names if n not in table]
    if problems or unknown:
        sys.exit('\n'.join(problems + unknown))
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
            copy = Path(folder).resolve() / str(number)
            copy_checkout(copy)
            copies.put(copy)
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
