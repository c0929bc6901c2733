"""Resuming and loading with torch's safe checkpoint loader.

Symptom: ``--resume`` ends with ``_pickle.UnpicklingError: Weights only load
failed ... Unsupported global: GLOBAL
mmengine.logging.history_buffer.HistoryBuffer was not an allowed global``.

Versions: torch >= 2.6, whose ``torch.load`` reads plain data only, with
mmengine <= 0.10.7, whose checkpoints hold the log history.

Upstream: https://github.com/open-mmlab/mmengine/issues/1655 and
https://github.com/open-mmlab/mmengine/pull/1650 (which gives the safety up)

Cure: what mmengine stores is put on torch's list of allowed names:
HistoryBuffer, its four statistics, and what numpy pickles its numbers and
arrays of numbers with, under the names of numpy 1 and of numpy 2. The loader
stays the safe one. In particular ``getattr``, through which a HistoryBuffer
names its statistics, is answered for those four only.

Delete when: mmengine allows these types itself, or stores plain data.
"""

import pickle
from typing import Callable, Optional

import numpy as np
import torch
from torch.torch_version import TorchVersion

from .workaround import Workaround

STATISTICS = ('min', 'max', 'current', 'mean')


def not_needed() -> Optional[str]:
    if torch.__version__ < TorchVersion('2.6'):
        return f'torch {torch.__version__} does not restrict torch.load'
    return None


def _statistic(owner: type, name: str) -> Callable:
    """Stand for ``getattr`` in a checkpoint: HistoryBuffer's own methods.

    Args:
        owner (type): Must be HistoryBuffer.
        name (str): 'min', 'max', 'current' or 'mean'.

    Raises:
        UnpicklingError: For everything else.
    """
    from mmengine.logging import HistoryBuffer

    if owner is not HistoryBuffer or name not in STATISTICS:
        raise pickle.UnpicklingError(
            f'the checkpoint asks for getattr({owner!r}, {name!r}), which '
            f'is not safe; allowed: {STATISTICS} of HistoryBuffer'
        )
    return getattr(owner, name)


def apply() -> None:
    from mmengine.logging import HistoryBuffer

    # private, and renamed between numpy 1 and 2: found through what uses them
    reconstruct = np.zeros(0).__reduce__()[0]
    scalar = np.float64(0).__reduce__()[0]
    torch.serialization.add_safe_globals(
        [
            HistoryBuffer,
            (_statistic, 'builtins.getattr'),
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


WORKAROUND = Workaround(
    name='safe_load',
    symptom='UnpicklingError: Weights only load failed, with --resume',
    versions='torch >= 2.6 with mmengine <= 0.10.7',
    upstream='https://github.com/open-mmlab/mmengine/issues/1655',
    not_needed=not_needed,
    apply=apply,
)
