"""Repair checkpoints and gradient clipping of MMEngine's FSDP.

Symptom: with ``FSDPStrategy``, ``--resume`` ends in ``TypeError: unhashable
type: 'dict'``; silently, each process clips its gradients by a norm of its
own; and with any strategy, resuming skips an epoch after ``save_best``.

Versions: mmengine 0.8.0 to 0.10.7. The first with torch >= 2.1, which changed
the order of arguments of ``FSDP.optim_state_dict_to_load``. The second with
any: a process holds a shard of each gradient, and mmengine takes the norm of
what it holds. The third since mmengine 0.10.0, whose CheckpointHook saves the
last checkpoint again behind the best one and says for which epoch, which
FlexibleRunner overwrites by the next (Runner does not).

Upstream: of the norm, https://github.com/pytorch/pytorch/issues/72548; the
others not reported.

Cure: the arguments go by name, FSDP's own ``clip_grad_norm_`` clips, and the
hook's epoch and iteration stay.

Delete when: mmengine does the three.
"""

import functools
from types import ModuleType

import torch

from .imports import after_import


def _load_optim_state_dict(self, state_dict: dict) -> None:
    """Stand in the place of FSDPStrategy.load_optim_state_dict."""
    from torch.distributed.fsdp import FullyShardedDataParallel

    sharded = FullyShardedDataParallel.optim_state_dict_to_load(
        model=self.model,
        optim=self.optim_wrapper.optimizer,
        optim_state_dict=state_dict,
    )
    self.optim_wrapper.load_state_dict(sharded)


def _mend_strategy(module: ModuleType) -> None:
    strategy = module.FSDPStrategy
    strategy.load_optim_state_dict = _load_optim_state_dict
    build = strategy.build_optim_wrapper

    @functools.wraps(build)
    def with_whole_norm(self, optim_wrapper, model=None):
        built = build(self, optim_wrapper, model)
        clip = getattr(built, 'clip_func', None)
        if clip is torch.nn.utils.clip_grad_norm_:
            built.clip_func = lambda _, **kwargs: model.clip_grad_norm_(
                **kwargs
            )
        return built

    strategy.build_optim_wrapper = with_whole_norm


def _mend_runner(module: ModuleType) -> None:
    runner = module.FlexibleRunner
    save_checkpoint = runner.save_checkpoint

    @functools.wraps(save_checkpoint)
    def with_callers_epoch(self, *args, **kwargs):
        given = dict(kwargs.get('meta') or {})
        save = self.strategy.save_checkpoint

        def save_as_given(**options):
            options['extra_ckpt']['meta'].update(given)
            save(**options)

        self.strategy.save_checkpoint = save_as_given
        try:
            save_checkpoint(self, *args, **kwargs)
        finally:
            del self.strategy.save_checkpoint

    runner.save_checkpoint = with_callers_epoch


def apply() -> None:
    after_import('mmengine._strategy.fsdp', _mend_strategy)
    after_import('mmengine.runner._flexible_runner', _mend_runner)
