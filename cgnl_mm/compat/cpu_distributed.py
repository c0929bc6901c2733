"""Distributed training on a machine without an accelerator.

Symptom: ``torchrun ... --launcher pytorch`` ends in ``torch.cuda.set_device``
(``RuntimeError: Found no NVIDIA driver on your system``, or ``Torch not
compiled with CUDA enabled``); after that, in DistributedDataParallel
(``device_ids`` for a module on the CPU), and in any SyncBN (``SyncBatchNorm
expected input tensor to be on GPU``).

Versions: mmengine, all up to 0.10.7: its launchers set a CUDA device, its
Runner passes ``device_ids=[LOCAL_RANK]`` and its default backend is nccl.

Upstream: not reported.

Cure, and only where no accelerator is: no device is set, nccl becomes gloo,
``device_ids`` becomes None, and SyncBN becomes BN, as mmengine does in
non-distributed training.

Delete when: mmengine asks for the device before it sets it.
"""

import functools
import logging
from typing import Optional

import torch

from .workaround import Workaround


def not_needed() -> Optional[str]:
    from mmengine.device import get_device

    if not torch.distributed.is_available():
        return 'this torch has no torch.distributed'
    device = get_device()
    return None if device == 'cpu' else f'the device is {device}'


def _without_device(init_dist):
    """Wrap a launcher of mmengine: gloo, and no device to set."""

    @functools.wraps(init_dist)
    def wrapper(backend, **kwargs):
        set_device = torch.cuda.set_device
        # it can only fail here
        torch.cuda.set_device = lambda device: None
        try:
            init_dist('gloo' if backend == 'nccl' else backend, **kwargs)
        finally:
            torch.cuda.set_device = set_device

    return wrapper


def _without_device_ids(init):
    """Wrap MMDistributedDataParallel.__init__ for a module on the CPU."""
    from mmengine.logging import print_log
    from mmengine.model import revert_sync_batchnorm

    @functools.wraps(init)
    def wrapper(self, module, *args, **kwargs):
        kwargs['device_ids'] = None
        if any(
            isinstance(layer, torch.nn.SyncBatchNorm)
            for layer in module.modules()
        ):
            print_log(
                'SyncBN runs on GPUs only: each process normalises over its '
                'own samples (BN)',
                logger='current',
                level=logging.WARNING,
            )
            module = revert_sync_batchnorm(module)
        init(self, module, *args, **kwargs)

    return wrapper


def apply() -> None:
    from mmengine.dist import utils
    from mmengine.model import MMDistributedDataParallel

    for name in ('_init_dist_pytorch', '_init_dist_mpi', '_init_dist_slurm'):
        setattr(utils, name, _without_device(getattr(utils, name)))
    MMDistributedDataParallel.__init__ = _without_device_ids(
        MMDistributedDataParallel.__init__
    )


WORKAROUND = Workaround(
    name='cpu_distributed',
    symptom='RuntimeError in torch.cuda.set_device with --launcher pytorch',
    versions='mmengine <= 0.10.7, without a GPU',
    upstream='not reported',
    not_needed=not_needed,
    apply=apply,
)
