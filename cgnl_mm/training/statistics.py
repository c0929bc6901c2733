"""Log curves that show whether a block is alive."""

import random
from contextlib import contextmanager
from functools import partial
from typing import Dict, Iterator, Optional

import numpy as np
import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook, LoggerHook
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.distributed.fsdp import FullyShardedDataParallel

from ..errors import ConfigError, require_count
from ..visualization import find_blocks, group_factors, is_cgnl

PREFIX = 'cgnl'


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

    With ``maps``, pictures ``cgnl_<block>_<number>`` go to the backends, too:
    what the middle of some samples of the validation data attends to, the
    same samples each time. The network computes them in evaluation mode, in
    the main process, after every ``maps_interval``-th epoch.

    Nothing is attached to the network between two logged iterations, and the
    training computes what it would without the hook. The values are of the
    main process's samples in that iteration, and of the block's first call
    in it; the gradients are those of the next optimizer step: of all
    processes, unscaled and accumulated. There are no shares where FSDP
    shards the gradients, or where there are several optimizers. A network
    compiled as a whole may ignore hooks; it then gets the shares alone.

    Args:
        interval (int, optional): Iterations between two records; None:
            together with the LoggerHook's. Defaults to None.
        maps (int): Number of samples to draw. Defaults to 0.
        maps_interval (int): Epochs between two pictures. Defaults to 1.

    Raises:
        ConfigError: If an interval is not positive, or maps are wanted
            without validation data or with FSDP.
    """

    priority = 'NORMAL'

    def __init__(
        self,
        interval: Optional[int] = None,
        maps: int = 0,
        maps_interval: int = 1,
    ) -> None:
        if interval is not None:
            require_count('CGNLStatisticsHook: interval', interval)
        require_count('CGNLStatisticsHook: maps_interval', maps_interval)
        if maps:
            require_count('CGNLStatisticsHook: maps', maps)
        self.interval, self.maps_interval = interval, maps_interval
        self.maps = maps
        self._samples: list = []
        self._scalars: Dict[str, float] = {}
        self._handles: list = []  # of the blocks, in a logged iteration
        self._optimizer_handles: list = []
        self._is_pending = False  # the optimizer's next step is recorded

    def before_train(self, runner: Runner) -> None:
        model = runner.model
        is_sharded = any(
            isinstance(m, FullyShardedDataParallel) for m in model.modules()
        )
        if self.maps and (is_sharded or runner.val_dataloader is None):
            raise ConfigError(
                f'CGNLStatisticsHook: maps={self.maps} are of validation '
                'data, which this training lacks, or of a network that FSDP '
                'has sharded: leave maps out'
            )
        # other processes log nothing
        self._blocks = find_blocks(model) if is_main_process() else {}
        if self.interval is None:
            loggers = [h for h in runner.hooks if isinstance(h, LoggerHook)]
            self.interval = loggers[0].interval if loggers else 10
        optimizer = getattr(runner.optim_wrapper, 'optimizer', None)
        if self._blocks and optimizer is not None and not is_sharded:
            handle = optimizer.register_step_pre_hook(self._record_gradients)
            self._optimizer_handles.append(handle)
        if self._blocks and self.maps:
            data = runner.val_dataloader.dataset
            places = np.linspace(0, len(data) - 1, self.maps).astype(int)
            with _same_randomness():
                self._samples = [data[place] for place in places.tolist()]

    def before_train_iter(self, runner, batch_idx: int, **kwargs) -> None:
        if not self._is_due(runner, batch_idx):
            return
        self._is_pending = True
        for name, block in self._blocks.items():
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

    def after_train_epoch(self, runner: Runner) -> None:
        if not self._samples or not self.every_n_epochs(
            runner, self.maps_interval
        ):
            return
        # here, since it needs matplotlib
        from ..visualization.maps import add_maps

        model = runner.model
        if is_model_wrapper(model):
            model = model.module
        modes = {module: module.training for module in model.modules()}
        model.eval()
        with _same_randomness():
            add_maps(
                runner.visualizer, model, runner.cfg, self._samples,
                runner.iter,
            )  # fmt: skip
        for module, mode in modes.items():
            module.training = mode

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
        # FSDP has it whole in the forward pass alone
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
        if not self._is_pending:
            return
        self._is_pending = False
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


@contextmanager
def _same_randomness() -> Iterator[None]:
    """Let what is drawn inside change nothing that is drawn later."""
    states = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        yield
    random.setstate(states[0])
    np.random.set_state(states[1])
