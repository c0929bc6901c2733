"""Call functions in processes of their own: a crash ends no more than one."""

import faulthandler
import multiprocessing
import signal
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool


def call_apart(function: Callable, argument, crashed):
    """Call a function in a process of its own.

    Args:
        function (Callable): A function of a module.
        argument: Its argument.
        crashed: What to return if the process ends.
    """
    with start_pool(function.__module__, 1) as pool:
        try:
            return pool.submit(function, argument).result()
        except BrokenProcessPool:
            return crashed


def start_pool(
    module: str, workers: 'int | None' = None
) -> ProcessPoolExecutor:
    """Start processes that have imported a module.

    Args:
        module (str): Name of the module.
        workers (int, optional): Number of processes. Defaults to None, one
            for each core.
    """
    context = multiprocessing.get_context('forkserver')
    context.set_forkserver_preload([module])
    return ProcessPoolExecutor(workers, context, _begin)


def _begin() -> None:
    # Ctrl-C is the parent's matter, and so is a report of a crash.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    faulthandler.disable()
