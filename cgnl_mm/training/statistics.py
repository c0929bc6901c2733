"""Log curves that show whether a block is alive."""

from functools import partial
from typing import Dict, Optional

import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook, LoggerHook
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.distributed.fsdp import FullyShardedDataParallel

from ..errors import require_count
from ..visualization import find_blocks, group_factors, is_cgnl

PREFIX = 'cgnl'
FSDP_INFIX = '._fsdp_wrapped_module'


@HOOKS.register_module()
class CGNLStatisticsHook(Hook):
    """Log what each block does: its attention, its share of the output.

    ::

        custom_hooks = [dict(type='CGNLStatisticsHook')]

    Scalars ``cgnl/<block>/<name>`` go to the message hub and to every
    visualizer backend (TensorBoard, scalars.json), not to the terminal:

    ====================================  ==================================
    attention_mean, attention_std         of the factor <phi, g> over the
                                          samples and groups
                                          (:func:`.group_factors`)
    attention_positive                    share of positive ones, 0 to 1
    norm_weight                           mean absolute weight of the last
                                          norm; of W_z if there is none. 0:
                                          the block is the identity
    output_ratio                          norm of block(x) - x over that of x
    gradient_share_phi, gradient_share_g  gradient norm over weight norm,
                                          relative to theta's. Near 0: the
                                          attention has stopped learning
    ====================================  ==================================

    With several powers in the series the attention of power p is
    ``attention_p<p>_mean`` and so on. A non-local block of mmcv gets all but
    the attention, which it has per position. While theta has no gradient
    there are no shares; so it is in a fresh block.

    Nothing is attached to the network between two logged iterations, and the
    training computes what it would without the hook. The values are of the
    main process's samples in that iteration, and of the block's first call
    in it; the gradients are those of the next optimizer step: of all
    processes, unscaled and accumulated. FSDP shards the gradients, so there
    are no shares. A network compiled as a whole may ignore hooks; it
    then gets ``norm_weight`` and the gradients alone.

    Args:
        interval (int, optional): Iterations between two records; None:
            together with the LoggerHook's. Defaults to None.

    Raises:
        ConfigError: If interval is not positive.
    """

    priority = 'NORMAL'

    def __init__(self, interval: Optional[int] = None) -> None:
        if interval is not None:
            require_count('CGNLStatisticsHook: interval', interval)
        self.interval = interval
        self._scalars: Dict[str, float] = {}
        self._handles: list = []  # of the blocks, in a logged iteration
        self._optimizer_handles: list = []
        self._pending: set = set()  # optimizers whose next step is recorded

    def before_train(self, runner: Runner) -> None:
        model = runner.model
        self._is_sharded = any(
            isinstance(m, FullyShardedDataParallel) for m in model.modules()
        )
        while is_model_wrapper(model):
            model = model.module
        self._blocks = {
            name.replace(FSDP_INFIX, ''): block
            for name, block in find_blocks(model).items()
        }
        if not self._blocks:
            runner.logger.warning(
                'CGNLStatisticsHook: this network has no CGNL or non-local '
                'block, so nothing is logged'
            )
        if not is_main_process():
            self._blocks = {}
        if self.interval is None:
            loggers = [h for h in runner.hooks if isinstance(h, LoggerHook)]
            self.interval = loggers[0].interval if loggers else 10
        self._optimizers = _optimizers(runner.optim_wrapper)
        if self._blocks and not self._is_sharded:
            self._optimizer_handles = [
                optimizer.register_step_pre_hook(self._record_gradients)
                for optimizer in self._optimizers
            ]

    def before_train_iter(self, runner, batch_idx: int, **kwargs) -> None:
        if not self._blocks or not self._is_due(runner, batch_idx):
            return
        self._pending.update(self._optimizers)
        for name, block in self._blocks.items():
            if not self._is_sharded:
                self._scalars[f'{name}/norm_weight'] = _last_weight(block)
            record = partial(self._record, name)
            self._handles.append(block.register_forward_hook(record))

    def after_train_iter(self, runner: Runner, **kwargs) -> None:
        _remove(self._handles)
        if not self._scalars:
            return
        tags = {f'{PREFIX}/{k}': v for k, v in self._scalars.items()}
        self._scalars = {}
        runner.message_hub.update_scalars(tags)
        runner.visualizer.add_scalars(tags, step=runner.iter + 1)

    def after_train(self, runner: Runner) -> None:
        _remove(self._handles)
        _remove(self._optimizer_handles)

    def _is_due(self, runner: Runner, batch_idx: int) -> bool:
        """Return whether the LoggerHook, with this interval, would log."""
        if self.every_n_inner_iters(batch_idx, self.interval):
            return True
        loader = runner.train_dataloader
        return len(loader) <= self.interval and self.end_of_epoch(
            loader, batch_idx
        )

    @torch.no_grad()
    def _record(
        self, name: str, block: nn.Module, args: tuple, out: Tensor
    ) -> None:
        x, scalars = args[0], self._scalars
        if f'{name}/output_ratio' in scalars:
            return
        if self._is_sharded:  # whole in the forward pass alone
            scalars[f'{name}/norm_weight'] = _last_weight(block)
        wide = torch.promote_types(x.dtype, torch.float32)
        x_wide = x.to(wide)
        ratio = (out.to(wide) - x_wide).norm() / x_wide.norm()
        scalars[f'{name}/output_ratio'] = ratio.item()
        if not is_cgnl(block) or block.mode == 'none':
            return
        factors = group_factors(block, x)
        for power, factor in factors.items():
            key = f'{name}/attention'
            if len(factors) > 1:
                key += f'_p{power}'
            scalars[f'{key}_mean'] = factor.mean().item()
            scalars[f'{key}_std'] = factor.std(correction=0).item()
            scalars[f'{key}_positive'] = (factor > 0).float().mean().item()

    @torch.no_grad()
    def _record_gradients(self, optimizer, *_) -> None:
        """Record before the step, when gradients are summed and unscaled."""
        # with accumulated gradients the step may come iterations later
        if optimizer not in self._pending:
            return
        self._pending.remove(optimizer)
        own = {id(p) for g in optimizer.param_groups for p in g['params']}
        for name, block in self._blocks.items():
            sizes = {}
            for layer in ('theta', 'phi', 'g'):
                weight = _weight(getattr(block, layer, None))
                if id(weight) in own and weight.grad is not None:
                    size = weight.grad.float().norm() / weight.float().norm()
                    sizes[layer] = size.item()
            theta = sizes.pop('theta', 0)
            if theta:
                for layer, size in sizes.items():
                    key = f'{name}/gradient_share_{layer}'
                    self._scalars[key] = size / theta


def _remove(handles: list) -> None:
    while handles:
        handles.pop().remove()


def _weight(layer: Optional[nn.Module]) -> Optional[nn.Parameter]:
    """Return the weight of a convolution, or of the one in mmcv's modules."""
    return next(iter(layer.parameters()), None) if layer is not None else None


def _last_weight(block: nn.Module) -> float:
    if is_cgnl(block):
        layers = (block.norm, block.conv_out)
    else:
        out = block.conv_out
        layers = (out.norm if out.with_norm else None, out.conv)
    weight = next(w for w in map(_weight, layers) if w is not None)
    return weight.detach().float().abs().mean().item()


def _optimizers(wrapper) -> list:
    """Return the optimizers of an OptimWrapper or an OptimWrapperDict."""
    if hasattr(wrapper, 'optim_wrappers'):
        return [w.optimizer for w in wrapper.optim_wrappers.values()]
    return [wrapper.optimizer]
