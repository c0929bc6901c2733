"""Let several processes train on a machine without an accelerator.

Symptom: ``torchrun ... --launcher pytorch`` ends in ``torch.cuda.set_device``
(``RuntimeError: Found no NVIDIA driver on your system``, or ``Torch not
compiled with CUDA enabled``); after that, in DistributedDataParallel
(``device_ids`` for a module on the CPU), in FullyShardedDataParallel (a GPU's
index), and in any SyncBN (``SyncBatchNorm expected input tensor to be on
GPU``). Now and then a process that has done all its work aborts when it exits
(``terminate called without an active exception``).

Versions: mmengine, all up to 0.10.7: its launchers set a CUDA device, its
Runner passes ``device_ids=[LOCAL_RANK]`` and its default backend is nccl.

Upstream: not reported.

Cure, and only where no accelerator is: no device is set, nccl becomes gloo,
``device_ids`` becomes None, and SyncBN becomes BN, as mmengine does in
non-distributed training. FSDP is told the CPU, and not to offload to it:
PyTorch (2.14.1) then saves the last of an optimizer's states, Adam's second
moments, in place of all of them. The process group is left before exit.

Delete when: mmengine asks for the device before it sets it.
"""

import atexit
import functools
import logging
import time
from types import ModuleType
from typing import Optional

import torch

from .imports import after_import


def not_needed() -> Optional[str]:
    from mmengine.device import get_device

    device = get_device()
    return None if device == 'cpu' else f'the device is {device}'


def _without_device(init_dist):
    """Wrap a launcher of mmengine: it takes gloo and sets no device."""

    @functools.wraps(init_dist)
    def wrapper(backend, **kwargs):
        set_device = torch.cuda.set_device
        # it can only fail here
        torch.cuda.set_device = lambda device: None
        try:
            init_dist('gloo' if backend == 'nccl' else backend, **kwargs)
        finally:
            torch.cuda.set_device = set_device
        atexit.register(_leave_group)

    return wrapper


def _leave_group() -> None:
    """End gloo's threads before the interpreter, whose exit they would abort.

    They end a little after the group: 4 of 24 exits still aborted at once
    behind it (2 processes, 2 busy cores), none half a second later.
    """
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
        time.sleep(0.5)


def _without_sync_bn(module: torch.nn.Module) -> torch.nn.Module:
    """Revert SyncBN, which has no CPU kernel, and say so."""
    from mmengine.logging import print_log
    from mmengine.model import revert_sync_batchnorm

    if any(isinstance(m, torch.nn.SyncBatchNorm) for m in module.modules()):
        print_log(
            'SyncBN runs on GPUs only: each process normalises over its own '
            'samples (BN)',
            logger='current',
            level=logging.WARNING,
        )
        module = revert_sync_batchnorm(module)
    return module


def _on_cpu(init, **device):
    """Wrap the __init__ of a model wrapper, which got the index of a GPU."""

    @functools.wraps(init)
    def wrapper(self, module, *args, **kwargs):
        init(self, _without_sync_bn(module), *args, **{**kwargs, **device})

    return wrapper


def _mend_fsdp(module: ModuleType) -> None:
    """Keep FSDP from moving the states of an optimizer to the CPU.

    PyTorch gathers all states in one buffer and takes the transfer to the CPU
    for a copy; without it, it copies.
    """
    strategy = module.FSDPStrategy
    original = strategy._init_state_dict_cfg

    @functools.wraps(original)
    def without_offload(self, state_dict_cfg):
        original(self, state_dict_cfg)
        self.optim_state_dict_config.offload_to_cpu = False

    strategy._init_state_dict_cfg = without_offload


def apply() -> None:
    from mmengine.dist import utils
    from mmengine.model import (
        MMDistributedDataParallel,
        MMFullyShardedDataParallel,
    )

    for name in ('_init_dist_pytorch', '_init_dist_mpi', '_init_dist_slurm'):
        setattr(utils, name, _without_device(getattr(utils, name)))
    MMDistributedDataParallel.__init__ = _on_cpu(
        MMDistributedDataParallel.__init__, device_ids=None
    )
    MMFullyShardedDataParallel.__init__ = _on_cpu(
        MMFullyShardedDataParallel.__init__, device_id=torch.device('cpu')
    )
    after_import('mmengine._strategy.fsdp', _mend_fsdp)
