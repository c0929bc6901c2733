"""Sign and size of each group's attention over the test data."""

import numpy as np
import torch
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from torch import nn

from ..errors import SetupError
from ..hosts import host_of
from .attention import group_factors
from .blocks import block_inputs, choose_groups


def print_groups(
    model: nn.Module, cfg, limit: int, block: str | None = None
) -> None:
    """Print a table of every block: a line for each power and group.

    Args:
        model (Module): In evaluation mode.
        cfg (Config): Its config.
        limit (int): Most samples (of videos: views) to take.
        block (str | None): Name of a block; None for all that have groups.

    Raises:
        SetupError: No block has groups.
    """
    if limit < 1:
        raise SetupError(f'--dataset takes a positive number, got {limit}')
    blocks = choose_groups(model, block, '--dataset')
    for name, by_power in collect(model, cfg, blocks, limit).items():
        count = len(next(iter(by_power.values())))
        print(f'{name}, {count} samples')
        print('power group       mean        std  positive')
        for power, values in by_power.items():
            for group, column in enumerate(values.T):
                print(
                    f'{power:5} {group:5} {column.mean():10.3g} '
                    f'{column.std():10.3g} {(column > 0).mean():9.1%}'
                )


def collect(
    model: nn.Module, cfg, blocks: dict[str, nn.Module], limit: int
) -> dict[str, dict[int, np.ndarray]]:
    """Return factors (samples, G), float64, by block and power."""
    with DefaultScope.overwrite_default_scope(host_of(cfg)):
        loader = Runner.build_dataloader(cfg.test_dataloader)
    parts = {name: {} for name in blocks}
    seen = 0
    for batch in loader:
        with torch.no_grad(), block_inputs(blocks) as inputs:
            model.test_step(batch)
        for name, x in inputs.items():
            for power, values in group_factors(blocks[name], x).items():
                values = values.double().cpu().numpy()
                parts[name].setdefault(power, []).append(values)
        seen += len(x)
        if seen >= limit:
            break
    return {
        name: {p: np.concatenate(v)[:limit] for p, v in by_power.items()}
        for name, by_power in parts.items()
    }
