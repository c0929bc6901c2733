"""Curves that show whether a block is alive."""

from typing import Dict, Optional

import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook, LoggerHook
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.distributed.fsdp import FullyShardedDataParallel

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
        ValueError: If interval is not positive.
    """

    priority = 'NORMAL'

    def __init__(self, interval: Optional[int] = None) -> None:
        if interval is not None and interval < 1:
            raise ValueError(f'interval must be at least 1, got {interval}')
        self.interval = interval
        self._blocks: Dict[str, nn.Module] = {}
        self._scalars: Dict[str, float] = {}
        self._handles: list = []
        self._step_handles: dict = {}  # by optimizer
        self._stepped: list = []
        self._is_sharded = False

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

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch=None
    ) -> None:
        if not self._blocks or not self._is_due(runner, batch_idx):
            return
        for name, block in self._blocks.items():
            if not self._is_sharded:
                self._scalars[f'{name}/norm_weight'] = _last_weight(block)
            self._handles.append(
                block.register_forward_hook(
                    lambda block, args, out, name=name: self._record(
                        name, block, args[0], out
                    )
                )
            )
        if self._is_sharded:
            return
        for optimizer in _optimizers(runner.optim_wrapper):
            if optimizer not in self._step_handles:
                self._step_handles[optimizer] = (
                    optimizer.register_step_pre_hook(self._record_gradients)
                )

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch=None, outputs=None
    ) -> None:
        self._detach()
        if not self._scalars:
            return
        tags = {f'{PREFIX}/{k}': v for k, v in self._scalars.items()}
        self._scalars = {}
        runner.message_hub.update_scalars(tags)
        runner.visualizer.add_scalars(tags, step=runner.iter + 1)

    def after_train(self, runner: Runner) -> None:
        self._detach()
        for handle in self._step_handles.values():
            handle.remove()
        self._step_handles.clear()

    def _detach(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        # with accumulated gradients the step may come iterations later
        for optimizer in self._stepped:
            self._step_handles.pop(optimizer).remove()
        self._stepped.clear()

    def _is_due(self, runner: Runner, batch_idx: int) -> bool:
        """As the LoggerHook: counted in the epoch, and its end if short."""
        if self.every_n_inner_iters(batch_idx, self.interval):
            return True
        loader = runner.train_dataloader
        return len(loader) <= self.interval and self.end_of_epoch(
            loader, batch_idx
        )

    @torch.no_grad()
    def _record(
        self, name: str, block: nn.Module, x: Tensor, out: Tensor
    ) -> None:
        scalars = self._scalars
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
        """Before the step: gradients are summed over processes, unscaled."""
        if optimizer in self._stepped:
            return
        self._stepped.append(optimizer)
        own = {id(p) for g in optimizer.param_groups for p in g['params']}
        for name, block in self._blocks.items():
            sizes = {}
            for layer in ('theta', 'phi', 'g'):
                weight = _weight(getattr(block, layer, None))
                if weight is None or id(weight) not in own:
                    continue
                if weight.grad is not None:
                    size = weight.grad.float().norm() / weight.float().norm()
                    sizes[layer] = size.item()
            if not sizes.get('theta'):
                continue
            for layer in ('phi', 'g'):
                if layer in sizes:
                    self._scalars[f'{name}/gradient_share_{layer}'] = (
                        sizes[layer] / sizes['theta']
                    )


def _weight(layer: Optional[nn.Module]) -> Optional[nn.Parameter]:
    """Weight of a convolution, or of the one in mmcv's modules."""
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
    """Those of an OptimWrapper or of an OptimWrapperDict."""
    if hasattr(wrapper, 'optim_wrappers'):
        return [w.optimizer for w in wrapper.optim_wrappers.values()]
    return [wrapper.optimizer]
