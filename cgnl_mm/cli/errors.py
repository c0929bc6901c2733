"""Run a tool; what the user can put right ends it in one line."""

import errno
import logging
import os
import re
import sys
from collections.abc import Callable
from pickle import UnpicklingError
from urllib.error import URLError

from ..errors import SetupError, hide_passwords

WORKER_DIED = re.compile(
    r'DataLoader worker \(.*?\) (is killed by signal: \w[\w ]*'
    r'|exited unexpectedly)'
)
WAYS_OUT = {
    errno.ENOSPC: 'Make room and start again',
    errno.EDQUOT: 'Make room and start again',
    errno.ELOOP: 'Remove the link to a folder above itself',
    errno.EMFILE: 'Raise the limit (`ulimit -n`), or lower num_workers',
}
# PyTorch's words on an optimizer and on loaders, mmpretrain's on classes and
# their folders, MMEngine's on loggers, all hosts' on packages
OF_OTHERS = re.compile(
    'loaded state dict .*parameter group|Invalid [a-z_ ]+: '
    '|Found 0 files in subfolders|The number of subfolders'
    r'|Top-\d+ accuracy is unavailable|num_classes=-?\d+ must be'
    r'|\w+ is not installed, please install it|Please run ["`]'
    '|interval must be greater than 0|prefetch_factor option could'
)
# the words of gloo and of NCCL
PEER_LOST = re.compile(
    r'Timed out waiting \d+ ?ms|Connection (closed|reset) by peer'
    r'|ncclRemoteError|NCCL communicator was aborted'
)


def run(main: Callable[[], None]) -> None:
    """Run a tool and end it in one line where the user can help.

    A :class:`cgnl_mm.errors.SetupError` is printed without a traceback, and
    the process exits with status 2, as after a wrong option. Every other
    exception keeps its traceback.

    Args:
        main (Callable): The tool.
    """
    # a name that the terminal cannot print must not end the tool
    sys.stdout.reconfigure(errors='backslashreplace')
    _hide_passwords()
    try:
        main()
    except Exception as error:
        message = setup_message(error)
        if message is None:
            raise
        print(f'error: {message}', file=sys.stderr)
        sys.exit(2)


class HidingRecord(logging.LogRecord):
    """A record of a log, without passwords."""

    def getMessage(self) -> str:  # noqa: N802  logging's name
        return hide_passwords(super().getMessage())


def _hide_passwords() -> None:
    """Keep the passwords of URLs out of the logs and of what is printed."""
    logging.setLogRecordFactory(HidingRecord)
    for stream in (sys.stdout, sys.stderr):
        # an attribute, so that each user of the stream finds it
        write = stream.write
        stream.write = lambda text, to=write: to(hide_passwords(text))


def setup_message(error: BaseException) -> str | None:
    """Find what the user has to put right behind an error.

    MMEngine raises an ImportError of its own over that of a module that a
    config names. The DataLoader pastes a worker's traceback into a new
    exception of the same type. Both hide the message.

    Args:
        error (BaseException): The exception that ended the tool.

    Returns:
        str | None: The message; None if the error is a fault of the code.
    """
    imports = False
    while error is not None:
        if isinstance(error, SetupError):
            kind = f'{type(error).__module__}.{type(error).__qualname__}: '
            return str(error).rpartition(kind)[2].strip()
        imports |= str(error).startswith('Failed to import custom modules')
        if imports and isinstance(error, ModuleNotFoundError):
            return (
                f'custom_imports: {error}. The folder that holds it has to be '
                'in PYTHONPATH, or its package installed'
            )
        message = _known_message(error)
        if message is not None:
            return message
        # Another error under an ImportError is its cause; under any other
        # error it is the one that was being handled.
        wraps = isinstance(error, ImportError)
        error = error.__cause__ or (error.__context__ if wraps else None)
    return None


def _known_message(error: BaseException) -> str | None:
    """Explain an error that its type and text alone decide."""
    number = error.errno if isinstance(error, OSError) else None
    if number in WAYS_OUT:
        return f'{str(error)[:200]}. {WAYS_OUT[number]}'
    if number == errno.ENOENT and not os.stat('.').st_nlink:  # removed
        return 'the working directory is gone; change to one that exists'
    if OF_OTHERS.match(str(error)):
        return str(error)
    if isinstance(error, UnpicklingError):
        text = str(error).partition('\n')[0]
        return f'a checkpoint holds more than tensors and plain values: {text}'
    if isinstance(error, URLError):
        return (
            f'{getattr(error, "url", "a URL")} cannot be read: {error.reason}'
            '. Look at the URLs of the config and of the options'
        )
    if not isinstance(error, (IndexError, RuntimeError)):
        return None
    died = WORKER_DIED.match(str(error))
    if died:
        return (
            f'a process of the data loader {died[1].strip()}. Either '
            'memory ran out: lower num_workers or batch_size, or give '
            '/dev/shm more (`docker run --shm-size`). Or a decoder crashed '
            'on a broken file: `python tools/data/check.py CONFIG` names it'
        )
    lost = PEER_LOST.search(str(error))
    if lost:
        return (
            'another process of the training has ended, or does not '
            f'answer ({lost[0]}); if it ended, its own output says why. '
            'How long to wait, in seconds: env_cfg.dist_cfg.timeout'
        )
    return None
