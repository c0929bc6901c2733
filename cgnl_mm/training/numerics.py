"""NaN and overflow, named where they begin."""

from functools import partial
from itertools import chain
from typing import Dict, List, Optional

import torch
from mmengine import dist
from mmengine.hooks import EMAHook, Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import Tensor, nn

from ..errors import NonFiniteError, require_count
from ..visualization import find_blocks

ADVICE = (
    'AtomicCheckpointHook has saved nothing since weights or losses ceased '
    'to be finite: go on with `--resume`, or `--resume` and an earlier one '
    'if it comes again, and with a lower learning rate, gradient clipping or '
    'bfloat16 in place of float16'
)


@HOOKS.register_module()
class NumericsHook(Hook):
    """Name the block, its groups and the iteration of a NaN or an overflow.

    ::

        custom_hooks = [dict(type='NumericsHook')]

    MMEngine trains on when the loss is NaN. This hook looks at the loss and
    at the input and output of every CGNL and non-local block, in each
    iteration and process. It says once what left the range of its numbers,
    and where. After ``patience`` such iterations in a row it stops the run.
    A dynamic loss scale (AMP with float16) gets over single ones.

    AtomicCheckpointHook and PreemptionHook save nothing, and so keep the last
    good checkpoint, while weights are not finite or the last two iterations
    were not. A run that ends in this state ends with an error.

    The hook sums each channel over its positions. That takes two passes over
    memory for a block, where the block itself makes ten or more. A network
    compiled as a whole may ignore hooks; the hook then sees the loss alone.

    Args:
        patience (int): Iterations in a row after which the run stops.
            Defaults to 5.

    Raises:
        ConfigError: If patience is not positive.
        NonFiniteError: In training, when patience or the run is at its end.
    """

    priority = 'LOW'  # before CheckpointHook

    def __init__(self, patience: int = 5) -> None:
        require_count('NumericsHook: patience', patience)
        self.patience = patience
        self._row = 0
        self._began = ''  # iteration, rank and fault of the row's first
        self._warned = False
        self._sums: Dict[str, tuple] = {}
        self._handles: list = []

    def before_train(self, runner: Runner) -> None:
        self._groups = {}
        for name, block in find_blocks(runner.model).items():
            self._groups[name] = getattr(block, 'groups', 1)
            look = partial(self._look, name)
            self._handles.append(block.register_forward_hook(look))
        # such as a mask with -inf
        self._never_finite = _not_finite(runner)

    def after_train(self, runner: Runner) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []
        fault = self.find_fault(runner)
        if fault:
            raise NonFiniteError(f'the training ended while {fault}. {ADVICE}')

    def may_save(self, runner: Runner) -> bool:
        """Return whether a run could go on from a checkpoint of now.

        Every process has to ask. The first no is logged as a warning.

        Args:
            runner (Runner): The runner of the training.
        """
        fault = self.find_fault(runner)
        if fault and not self._warned:
            runner.logger.warning(
                f'no checkpoint is saved while {fault}. Earlier ones stay'
            )
        self._warned = bool(fault)
        return not fault

    def find_fault(self, runner: Runner) -> Optional[str]:
        """Say what is not finite in any process; every process has to ask.

        Args:
            runner (Runner): The runner of the training.
        """
        names = _not_finite(runner)
        bad = [name for name in names if name not in self._never_finite]
        # a single iteration, of finite weights, is what AMP gets over
        mine = None
        if bad:
            mine = f'weights are not finite, such as {bad[0]}'
        elif self._row > 1:
            mine = f'{self._row} iterations in a row were not finite'
        if mine and self._began:
            mine += f'. It began in {self._began}'
        found = torch.tensor(int(mine is not None))
        dist.all_reduce(found, 'max')
        if found and not mine:
            mine = 'another process is not finite'
        return mine

    @torch.no_grad()
    def _look(self, name: str, block: nn.Module, args: tuple, out: Tensor):
        if block.training and name not in self._sums:
            self._sums[name] = _channel_sums(args[0]), _channel_sums(out)

    def after_train_iter(self, runner: Runner, outputs=None, **kwargs) -> None:
        sums, self._sums = self._sums, {}
        loss = outputs['loss']
        values = (loss, *chain.from_iterable(sums.values()))
        # one look at the device
        finite = [torch.isfinite(value).all() for value in values]
        if torch.stack(finite).all():
            self._row = 0
            self._began = ''
            return
        self._row += 1
        now = runner.iter + 1
        if self._row == 1:
            found = self._origin(sums)
            if not torch.isfinite(loss):
                found = found or 'no block is seen at fault'
                found += f'; the loss is {loss.item()}'
            self._began = f'iteration {now}, rank {dist.get_rank()}: {found}'
            runner.logger.error(self._began)
        if self._row >= self.patience:
            raise NonFiniteError(
                f'{self._row} iterations in a row, up to {now}, were not '
                f'finite. It began in {self._began}. {ADVICE}'
            )

    def _origin(self, sums: Dict[str, tuple]) -> str:
        for name, (x, out) in sums.items():
            if not torch.isfinite(x).all():
                return f'{name}: its input is not finite: the fault is before'
            bad = ~torch.isfinite(out).all(0)
            if bad.any():
                groups = bad.view(self._groups[name], -1).any(1).nonzero()
                return (
                    f'{name}: input finite, output not, in channel group '
                    f'{", ".join(map(str, groups.flatten().tolist()))} '
                    f'of 0 to {self._groups[name] - 1}'
                )
        return ''


def may_save(runner: Runner) -> bool:
    """Return whether each NumericsHook of a runner lets it save.

    Every process has to ask.

    Args:
        runner (Runner): The runner of the training.
    """
    hooks = [hook for hook in runner.hooks if isinstance(hook, NumericsHook)]
    return all([hook.may_save(runner) for hook in hooks])


def _channel_sums(x: Tensor) -> Tensor:
    """Return sums (batch, channels) that are not finite where x is not.

    They are in float32 or wider: a sum in float16 would overflow itself.
    """
    wide = torch.promote_types(x.dtype, torch.float32)
    return x.detach().flatten(2).sum(2, dtype=wide)


def _not_finite(runner: Runner) -> List[str]:
    """Return the names of the weights and buffers that are not finite.

    Those of an average (EMAHook) count, too: it is what a checkpoint holds.
    """
    averages = (h.ema_model for h in runner.hooks if isinstance(h, EMAHook))
    parts = [('', runner.model), *(('average of ', x) for x in averages)]
    return [
        part + name
        for part, model in parts
        for name, x in chain(model.named_parameters(), model.named_buffers())
        if not torch.isfinite(x).all()
    ]
