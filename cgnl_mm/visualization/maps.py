"""Pictures of what one position attends to, for visualize_attention.py."""

from pathlib import Path

import torch
from _visualize_input import Seen, follow, look

from cgnl_mm.errors import SetupError
from cgnl_mm.visualization import attention_map, is_cgnl
from cgnl_mm.visualization.animation import write_gif, write_mp4
from cgnl_mm.visualization.draw import (
    Attention,
    draw_filmstrip,
    draw_panels,
    rendered,
)


def draw_maps(model, cfg, blocks, args, out: Path) -> None:
    """Write the pictures of every block and print where they are.

    Args:
        model (Module): In evaluation mode.
        cfg (Config): Its config.
        blocks (dict[str, Module]): Blocks by name.
        args (Namespace): 'input', 'point', 'groups', 'weighted', 'fps'.
        out (Path): Folder.

    Raises:
        SetupError: The file cannot be read, or an option does not fit it.
    """
    seen = look(model, cfg, blocks, args.input)
    point = args.point
    if point is not None:
        x, y = follow(cfg, args.input, point)
        height, width = seen.frames.shape[1:3]
        if (x, y) != point[:2]:
            print(
                f'x={point[0]}, y={point[1]} of {args.input} is x={x}, y={y} '
                f'of the {width} x {height} pixels that the network gets'
            )
        point = (x, y, *point[2:])
    point = place(point, seen)
    for name, block in blocks.items():
        if name not in seen.blocks:
            raise SetupError(f'{name} does not run when this model predicts')
        shown = attend(name, block, seen, point, args)
        out.mkdir(parents=True, exist_ok=True)
        files = [out / f'{name}.png']
        frame = point[0] if len(shown.frames) > 1 else 0
        draw_panels(shown, frame, own_scale=True).savefig(files[0])
        if len(shown.frames) > 1:
            files += [
                out / f'{name}_frames.png',
                out / f'{name}.mp4',
                out / f'{name}.gif',
            ]
            draw_filmstrip(shown).savefig(files[1])
            panels = [
                rendered(draw_panels(shown, frame))
                for frame in range(len(shown.frames))
            ]
            write_mp4(panels, files[2], args.fps)
            write_gif(panels, files[3], args.fps)
        print('\n'.join(map(str, files)))


def place(point: tuple[int, ...] | None, seen: Seen) -> tuple[int, int, int]:
    """The point as (frame, x, y); the middle where none is given.

    Pixels and frames are those of the network.

    Raises:
        SetupError: It is outside.
    """
    total, height, width = seen.frames.shape[:3]
    if point is None:
        return total // 2, width // 2, height // 2
    x, y = point[:2]
    frame = point[2] if len(point) == 3 else total // 2
    if not (0 <= x < width and 0 <= y < height and 0 <= frame < total):
        raise SetupError(
            f'--point: x={x}, y={y}, frame {frame} is outside: the network '
            f'gets {width} x {height} pixels and {total} '
            f'frame{"s" * (total > 1)} (0 to {total - 1})'
        )
    return frame, x, y


def attend(name, block, seen: Seen, point, args) -> Attention:
    """Maps of one block, ready to be drawn."""
    x, frames, (frame, across, down) = seen.blocks[name], seen.frames, point
    if x.dim() == 4:  # each frame is a sample of its own
        if frame >= len(x):
            raise SetupError(
                f'{name} gets {len(x)} frames at once: choose an earlier one'
            )
        x, frames = x[frame : frame + 1], frames[frame : frame + 1]
    spatial = tuple(x.shape[2:])
    grid = (1,) * (3 - len(spatial)) + spatial
    place_in = 0 if len(frames) == 1 else frame
    cell = (
        place_in * grid[0] // len(frames),
        down * grid[1] // seen.size[0],
        across * grid[2] // seen.size[1],
    )
    try:
        maps = attention_map(
            block, x[:1], cell[3 - len(spatial) :], args.weighted
        )[0]
    except ValueError as error:
        raise SetupError(f'{name}: {error}') from error
    maps = maps.cpu()
    if len(spatial) == 2:
        maps = maps.unsqueeze(1)
    groups = range(len(maps)) if args.groups is None else args.groups
    if not all(0 <= group < len(maps) for group in groups):
        raise SetupError(
            f'--groups {" ".join(map(str, groups))}: {name} has the groups '
            f'0 to {len(maps) - 1}'
        )
    what = 'contribution to the output' if args.weighted else 'attention'
    if is_cgnl(block):
        signed, share = True, 'the largest of the group'
        names = [f'group {group}' for group in groups]
        if not args.weighted and has_constant(block):
            # every position gets it, and far more than the rest
            maps = maps - maps.mean((1, 2, 3), keepdim=True)
            what += ' above its mean'
    else:
        signed = block.mode == 'dot_product'
        names, share = ['all channels'], 'the largest'
    where = f'x={across}, y={down}'
    if len(seen.frames) > 1:
        where += f', frame {frame}'
    return Attention(
        frames=frames,
        maps=maps[list(groups)].double().numpy(),
        names=names,
        point=(place_in, across, down),
        size=seen.size,
        cell=cell,
        grid=grid,
        title=f'What the position at {where} (green, with its cell of the '
        f'feature map) attends to\n{name}: {type(block).__name__}, '
        f'{block.mode}',
        legend=f'{what}, relative to {share}',
        signed=signed,
    )


def has_constant(block) -> bool:
    """Whether the series has a power 0."""
    if isinstance(block.coefficients, torch.Tensor):
        return True
    return block.coefficients[0] != 0
