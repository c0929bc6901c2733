"""Call functions in processes of their own: a crash ends no more than one."""

import faulthandler
import multiprocessing
import resource
import signal
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool


def call_apart(
    function: Callable,
    argument,
    crashed,
    method: str = 'forkserver',
    seconds: int = 0,
):
    """Call a function in a process of its own.

    Args:
        function (Callable): A function of a module.
        argument: Its argument.
        crashed: What to return if the process ends.
        method (str): How the process starts. 'fork' is faster, and is for a
            program without threads. Defaults to 'forkserver'.
        seconds (int): Processor time after which the process is ended.
            Defaults to
            0, no limit.
    """
    with start_pool(1, function.__module__, method, seconds) as pool:
        try:
            return pool.submit(function, argument).result()
        except BrokenProcessPool:
            return crashed


def start_pool(
    workers: int,
    module: str,
    method: str = 'forkserver',
    seconds: int = 0,
) -> ProcessPoolExecutor:
    """Start processes that have imported a module.

    Args:
        workers (int): Number of processes.
        module (str): Name of the module.
        method (str): How they start. Defaults to 'forkserver'.
        seconds (int): Processor time that each has. Defaults to 0, no
            limit.
    """
    context = multiprocessing.get_context(method)
    context.set_forkserver_preload([module])
    return ProcessPoolExecutor(workers, context, _begin, (seconds,))


def _begin(seconds: int) -> None:
    # Ctrl-C is the parent's matter, and so is a report of a crash.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    faulthandler.disable()
    if seconds:
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
