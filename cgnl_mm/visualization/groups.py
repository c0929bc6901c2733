"""Sign and size of each group's attention over the test data."""

import csv
from pathlib import Path

import torch
from mmengine.registry import init_default_scope
from mmengine.runner import Runner

from cgnl_mm.errors import SetupError
from cgnl_mm.visualization import BlockInputs, group_factors, is_cgnl
from cgnl_mm.visualization.draw import draw_factors


def draw_groups(model, cfg, blocks, limit: int, out: Path) -> None:
    """Write picture and table of every block and print a summary.

    Args:
        model (Module): In evaluation mode.
        cfg (Config): Its config.
        blocks (dict[str, Module]): Blocks by name; those without groups are
            left out.
        limit (int): Most samples (of videos: views) to take.
        out (Path): Folder.

    Raises:
        SetupError: No block has groups.
    """
    chosen = {
        name: block
        for name, block in blocks.items()
        if is_cgnl(block) and block.mode != 'none'
    }
    if not chosen:
        raise SetupError(
            f'--dataset is about the attention of channel groups, and '
            f'{", ".join(blocks)} has none: give an image or a video'
        )
    factors = collect(model, cfg, chosen, limit)
    out.mkdir(parents=True, exist_ok=True)
    for name, by_power in factors.items():
        block = chosen[name]
        count = len(next(iter(by_power.values())))
        picture = out / f'{name}_groups.png'
        title = (
            f'Attention of each channel group over {count} test samples\n'
            f'{name}: {type(block).__name__}, {block.mode}'
        )
        draw_factors(
            {power: v.numpy() for power, v in by_power.items()}, title
        ).savefig(picture)
        table = out / f'{name}_groups.csv'
        write_table(by_power, table)
        print_summary(name, by_power)
        print(f'{picture}\n{table}')


def collect(model, cfg, blocks, limit: int) -> dict:
    """Factors (samples, G), float64, by block and power."""
    init_default_scope(cfg.default_scope)
    loader = Runner.build_dataloader(cfg.test_dataloader)
    parts = {name: {} for name in blocks}
    seen = 0
    for batch in loader:
        with torch.no_grad(), BlockInputs(blocks) as inputs:
            model.test_step(batch)
            for name, x in inputs.items():
                for power, values in group_factors(blocks[name], x).items():
                    parts[name].setdefault(power, []).append(
                        values.double().cpu()
                    )
        seen += len(x)
        if seen >= limit:
            break
    return {
        name: {
            power: torch.cat(values)[:limit]
            for power, values in by_power.items()
        }
        for name, by_power in parts.items()
    }


def write_table(by_power: dict, path: Path) -> None:
    """A line for each sample, group and power."""
    with open(path, 'w', newline='', encoding='utf-8') as file:
        writer = csv.writer(file)
        writer.writerow(('sample', 'group', 'power', 'factor'))
        for power, values in by_power.items():
            for sample, row in enumerate(values.tolist()):
                for group, value in enumerate(row):
                    writer.writerow((sample, group, power, repr(value)))


def print_summary(name: str, by_power: dict) -> None:
    """Mean, standard deviation and share of positive signs."""
    print(f'{name}\npower group       mean        std  positive')
    for power, values in by_power.items():
        for group, column in enumerate(values.T):
            positive = (column > 0).double().mean().item()
            print(
                f'{power:5} {group:5} {column.mean().item():10.3g} '
                f'{column.std(correction=0).item():10.3g} {positive:9.1%}'
            )
