"""Resume and load with torch's safe checkpoint loader.

Symptom: ``--resume`` ends with ``_pickle.UnpicklingError: Weights only load
failed ... Unsupported global: GLOBAL
mmengine.logging.history_buffer.HistoryBuffer was not an allowed global``, or
``... OneCycleParamScheduler ...`` where a config has a one-cycle schedule.

Versions: torch >= 2.6, whose ``torch.load`` reads plain data only, with
mmengine <= 0.10.7, whose checkpoints hold the log history. OneDL's mmengine
0.10.12 adds the names only while it loads one file, then removes them for
every other caller, and falls back to unsafe loading if the safe loader refuses
a file. A URL goes through ``torch.hub``, which is unsafe by default. To look
for MMCV's ``gpu_ids``, resuming executes ``meta['config']`` of a checkpoint.

Upstream: https://github.com/open-mmlab/mmengine/issues/1655 and
https://github.com/open-mmlab/mmengine/pull/1650 (which gives the safety up)

Cure: what mmengine stores is put on torch's list of allowed names:
HistoryBuffer, its four statistics, the two curves of the one-cycle schedule,
and what numpy pickles its numbers and arrays of numbers with, under the names
of numpy 1 and of numpy 2. The loader stays the safe one. In particular
``getattr``, through which the functions are named, is answered for those six
only, and the class of the schedule cannot be called. OneDL's loader gives way
to torch's own, and what comes from a URL is loaded as what comes from a disk.
Runners drop ``meta['config']``, which MMEngine does not write, before that.

Delete when: mmengine allows these types itself, or stores plain data.
"""

import functools
import pickle
from typing import Callable, Optional

import torch

from ..ops.torch_versions import TORCH
from .imports import after_import

STATISTICS = ('min', 'max', 'current', 'mean')
CURVES = ('_annealing_cos', '_annealing_linear')
ONE_CYCLE = object()  # stands for the class, which is not needed but to name


def not_needed() -> Optional[str]:
    if TORCH < (2, 6):
        return f'torch {torch.__version__} does not restrict torch.load'
    return None


def _function(owner: object, name: str) -> Callable:
    """Stand for ``getattr`` in a checkpoint: the functions mmengine stores.

    Args:
        owner (object): HistoryBuffer or :data:`ONE_CYCLE`.
        name (str): One of :data:`STATISTICS` or :data:`CURVES`, respectively.

    Raises:
        UnpicklingError: For everything else.
    """
    from mmengine.logging import HistoryBuffer
    from mmengine.optim.scheduler.param_scheduler import OneCycleParamScheduler

    if owner is HistoryBuffer and name in STATISTICS:
        return getattr(HistoryBuffer, name)
    if owner is ONE_CYCLE and name in CURVES:
        return getattr(OneCycleParamScheduler, name)
    raise pickle.UnpicklingError(
        f'the checkpoint asks for getattr({owner!r}, {name!r}), which is not '
        f'safe; allowed: {STATISTICS} of HistoryBuffer, {CURVES} of '
        'OneCycleParamScheduler'
    )


def _mend_loader(module) -> None:
    # takes names off the list again, and has the unsafe loader behind
    if hasattr(module, '_safe_torch_load'):
        module._safe_torch_load = torch.load
    # None: as torch.load decides, TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD included
    module.load_url = functools.partial(module.load_url, weights_only=None)


def _mend_runner(module) -> None:
    runner = getattr(module, 'FlexibleRunner', None) or module.Runner
    call_hook = runner.call_hook

    @functools.wraps(call_hook)
    def without_config(self, fn_name: str, **kwargs) -> None:
        if fn_name == 'after_load_checkpoint':
            (kwargs['checkpoint'].get('meta') or {}).pop('config', None)
        call_hook(self, fn_name, **kwargs)

    runner.call_hook = without_config


def apply() -> None:
    import numpy as np  # PyTorch alone comes without it
    from mmengine.logging import HistoryBuffer
    from mmengine.optim.scheduler import param_scheduler

    # private, and renamed between numpy 1 and 2: found through what uses them
    reconstruct = np.zeros(0).__reduce__()[0]
    scalar = np.float64(0).__reduce__()[0]
    after_import('mmengine.runner.checkpoint', _mend_loader)
    for name in ('runner', '_flexible_runner'):
        after_import(f'mmengine.runner.{name}', _mend_runner)
    torch.serialization.add_safe_globals(
        [
            HistoryBuffer,
            (ONE_CYCLE, f'{param_scheduler.__name__}.OneCycleParamScheduler'),
            (_function, 'builtins.getattr'),
            np.ndarray,
            np.dtype,
            *(
                (function, f'{package}.multiarray.{function.__name__}')
                for package in ('numpy.core', 'numpy._core')
                for function in (reconstruct, scalar)
            ),
            # bool, int and float of every width
            *{type(np.dtype(code)) for code in '?bhilqBHILQefd'},
        ]
    )
