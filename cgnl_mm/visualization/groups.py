"""Sign and size of each group's attention over the test data."""

import csv
from pathlib import Path

import numpy as np
import torch
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from torch import nn

from ..errors import SetupError
from ..hosts import host_of
from .attention import group_factors, is_cgnl
from .blocks import block_inputs, choose_blocks
from .draw import draw_factors


def draw_groups(
    model: nn.Module, cfg, limit: int, out: Path, block: str | None = None
) -> None:
    """Write picture and table of every block and print a summary.

    Args:
        model (Module): In evaluation mode.
        cfg (Config): Its config.
        limit (int): Most samples (of videos: views) to take.
        out (Path): Folder for the files.
        block (str | None): Name of a block; None for all that have groups.

    Raises:
        SetupError: No block has groups.
    """
    if limit < 1:
        raise SetupError(f'--dataset takes a positive number, got {limit}')
    named = choose_blocks(model, block)
    blocks = {
        name: block
        for name, block in named.items()
        if is_cgnl(block) and block.mode != 'none'
    }
    if not blocks:
        raise SetupError(
            f'--dataset is about the attention of channel groups, and '
            f'{", ".join(named)} has none: give an image or a video'
        )
    factors = collect(model, cfg, blocks, limit)
    out.mkdir(parents=True, exist_ok=True)
    for name, by_power in factors.items():
        block = blocks[name]
        count = len(next(iter(by_power.values())))
        title = (
            f'Attention of each channel group over {count} test samples\n'
            f'{name}: {type(block).__name__}, {block.mode}'
        )
        picture, table = (out / f'{name}_groups{e}' for e in ('.png', '.csv'))
        draw_factors(by_power, title).savefig(picture)
        write_table(by_power, table)
        print_summary(name, by_power)
        print(f'{picture}\n{table}')


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


def write_table(by_power: dict[int, np.ndarray], path: Path) -> None:
    """Write a line for each sample, group and power."""
    with open(path, 'w', newline='', encoding='utf-8') as file:
        writer = csv.writer(file)
        writer.writerow(('sample', 'group', 'power', 'factor'))
        for power, values in by_power.items():
            for (sample, group), value in np.ndenumerate(values):
                writer.writerow((sample, group, power, float(value)))


def print_summary(name: str, by_power: dict[int, np.ndarray]) -> None:
    """Print mean, standard deviation and share of positive signs."""
    print(f'{name}\npower group       mean        std  positive')
    for power, values in by_power.items():
        for group, column in enumerate(values.T):
            print(
                f'{power:5} {group:5} {column.mean():10.3g} '
                f'{column.std():10.3g} {(column > 0).mean():9.1%}'
            )
