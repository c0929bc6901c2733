"""MMEngine's AMP on a CPU, which MMEngine itself reserves for GPUs."""

import functools
from contextlib import contextmanager

import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmengine.registry import HOOKS, OPTIM_WRAPPERS


@OPTIM_WRAPPERS.register_module()
class CpuAmpOptimWrapper(AmpOptimWrapper):
    """Steps, scaling and state are the parent's."""

    def __init__(self, dtype, loss_scale=None, **kwargs):
        OptimWrapper.__init__(self, **kwargs)
        self._scale_update_param = None
        self.cast_dtype = getattr(torch, dtype)
        self.loss_scaler = torch.amp.GradScaler(
            'cpu', enabled=dtype == 'float16', **(loss_scale or {})
        )

    @contextmanager
    def optim_context(self, model):
        with OptimWrapper.optim_context(self, model):
            with torch.autocast('cpu', self.cast_dtype):
                yield


@HOOKS.register_module()
class PrecisionHook(Hook):
    """Write what each iteration's blocks and losses were to ``amp.pt``.

    And the first iteration's gradients of the blocks, in the scale of AMP.
    """

    def before_train(self, runner):
        self.losses, self.types, self.grads = [], set(), {}
        for name, weight in runner.model.named_parameters():
            if '.cgnl_' in name:
                weight.register_post_accumulate_grad_hook(
                    functools.partial(self.keep, name)
                )
        for name, module in runner.model.named_modules():
            if name.endswith('.theta'):
                module.register_forward_hook(self.note)

    def keep(self, name, weight):
        self.grads.setdefault(name, weight.grad.clone())

    def note(self, module, args, out):
        if module.training:
            self.types.add(out.dtype)

    def after_train_iter(self, runner, batch_idx, data_batch=None,
                         outputs=None):  # fmt: skip
        self.losses.append({k: float(v) for k, v in outputs.items()})

    def after_train(self, runner):
        if get_rank() == 0:
            torch.save(
                dict(losses=self.losses, types=self.types, grads=self.grads),
                f'{runner.work_dir}/amp.pt',
            )
