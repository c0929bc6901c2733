"""NaN and overflow, named where they begin."""

from typing import Dict

import torch
from mmengine import dist
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import Tensor, nn

from ..errors import NonFiniteError
from ..visualization import find_blocks


@HOOKS.register_module()
class NumericsHook(Hook):
    """Name the block, its groups and the iteration of a NaN or an overflow.

    ::

        custom_hooks = [dict(type='NumericsHook')]

    MMEngine trains on when the loss is NaN. This hook looks at the loss and
    at the input and output of every CGNL and non-local block, in each
    iteration and process, and says once what left the range of its numbers
    and where. After ``patience`` such iterations in a row it stops the run:
    single ones are what a dynamic loss scale (AMP with float16) gets over.

    A sum over the positions of each channel is what it looks at: two passes
    over memory for a block, where the block itself makes ten or more. A
    network compiled as a whole may ignore hooks; then the loss is left.

    Args:
        patience (int): Iterations in a row after which the run stops.
            Defaults to 5.

    Raises:
        ValueError: If patience is not positive.
        NonFiniteError: In training, when patience is at its end.
    """

    priority = 'VERY_LOW'

    def __init__(self, patience: int = 5) -> None:
        if patience < 1:
            raise ValueError(f'patience must be at least 1, got {patience}')
        self.patience = patience
        self._row = 0
        self._sums: Dict[str, tuple] = {}
        self._handles: list = []

    def before_train(self, runner: Runner) -> None:
        model = runner.model
        while is_model_wrapper(model):
            model = model.module
        self._groups = {}
        for name, block in find_blocks(model).items():
            self._groups[name] = getattr(block, 'groups', 1)
            self._handles.append(
                block.register_forward_hook(
                    lambda block, args, out, name=name: self._look(
                        name, block, args[0], out
                    )
                )
            )

    def after_train(self, runner: Runner) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []

    @torch.no_grad()
    def _look(self, name: str, block: nn.Module, x: Tensor, out: Tensor):
        if block.training and name not in self._sums:
            self._sums[name] = _channel_sums(x), _channel_sums(out)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch=None, outputs=None
    ) -> None:
        sums, self._sums = self._sums, {}
        loss = (outputs or {}).get('loss')
        values = [s for pair in sums.values() for s in pair]
        if isinstance(loss, Tensor):
            values.append(loss.detach().float().reshape(1))
        if not values or _all_finite(values):
            self._row = 0
            return
        self._row += 1
        if self._row == 1:
            runner.logger.error(
                f'iteration {runner.iter + 1}, rank {dist.get_rank()}: '
                + self._describe(sums, loss)
            )
        if self._row >= self.patience:
            raise NonFiniteError(
                f'{self._row} iterations in a row, up to {runner.iter + 1}, '
                f'were not finite: {self._describe(sums, loss)}. The log '
                'names the first. The last checkpoint may hold such weights '
                'already: go on with `--resume` and an earlier one, and with '
                'a lower learning rate, gradient clipping or bfloat16 in '
                'place of float16'
            )

    def _describe(self, sums: Dict[str, tuple], loss) -> str:
        """In the order of the network: the first is the origin."""
        found = []
        for name, (x, out) in sums.items():
            if not torch.isfinite(x).all():
                found.append(
                    f'{name}: its input is not finite, so the fault lies '
                    'before it'
                )
                break
            bad = ~torch.isfinite(out).all(0)
            if bad.any():
                groups = bad.view(self._groups[name], -1).any(1).nonzero()
                which = ', '.join(str(int(g)) for g in groups)
                found.append(
                    f'{name}: input finite, output not, in channel group '
                    f'{which} of 0 to {self._groups[name] - 1}'
                )
                break
        if isinstance(loss, Tensor) and not torch.isfinite(loss).all():
            found.append(f'the loss is {loss.item()}')
            if len(found) == 1 and sums:
                found.append('all blocks are finite')
        return '; '.join(found)


def _channel_sums(x: Tensor) -> Tensor:
    """(batch, channels), not finite where x is not.

    In float32 or wider: a sum over float16 would overflow itself.
    """
    wide = torch.promote_types(x.dtype, torch.float32)
    return x.detach().flatten(2).sum(2, dtype=wide)


def _all_finite(values) -> bool:
    """With one look at the device."""
    return bool(
        torch.stack([torch.isfinite(v).all() for v in values]).all()
    )
