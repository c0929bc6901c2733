"""Sign and size of each group's attention over the test data."""

import math
from collections import defaultdict

import torch
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from rich.progress import track
from torch import nn

from ..errors import SetupError
from ..hosts import host_of
from .attention import group_factors
from .blocks import block_inputs, choose_blocks


def print_groups(
    model: nn.Module, cfg, limit: int, block: str | None = None
) -> None:
    """Print a table for every block and power: a line for each group.

    Args:
        model (Module): In evaluation mode.
        cfg (Config): Its config.
        limit (int): Most samples (of videos: views) to take.
        block (str | None): Name of a block; None for all.

    Raises:
        SetupError: The limit is not positive, or there is no such block.
    """
    if limit < 1:
        raise SetupError(f'--dataset takes a positive number, got {limit}')
    blocks = choose_blocks(model, block)
    with DefaultScope.overwrite_default_scope(host_of(cfg)):
        loader = Runner.build_dataloader(cfg.test_dataloader)
    factors, seen = defaultdict(list), 0
    total = min(len(loader), math.ceil(limit / (loader.batch_size or 1)))
    for batch in track(loader, 'samples', total, transient=True):
        with torch.no_grad(), block_inputs(blocks) as inputs:
            model.test_step(batch)
        for name, x in inputs.items():
            for power, values in group_factors(blocks[name], x).items():
                factors[name, power].append(values.double().cpu())
        seen += len(x)
        if seen >= limit:
            break
    for (name, power), parts in factors.items():
        values = torch.cat(parts)[:limit].numpy()
        print(f'{name}, power {power} of theta, {len(values)} samples')
        print('group       mean        std  positive')
        for group, column in enumerate(values.T):
            print(
                f'{group:5} {column.mean():10.3g} {column.std():10.3g} '
                f'{(column > 0).mean():9.1%}'
            )
