"""Pictures of what one position of an image or a video attends to."""

from pathlib import Path

from torch import nn

from ..errors import SetupError
from .attention import attention_map, has_constant, is_cgnl
from .blocks import choose_blocks
from .draw import (
    AttentionPlot,
    draw_filmstrip,
    draw_panels,
    rendered,
    write_film,
)
from .inputs import Seen, follow, look


def draw_maps(
    model: nn.Module,
    cfg,
    file: Path,
    out: Path,
    block: str | None = None,
    point: tuple[int, ...] | None = None,
    groups: list[int] | None = None,
    weighted: bool = False,
    fps: float = 4.0,
) -> None:
    """Write the pictures of every block and print where they are.

    Args:
        model (Module): In evaluation mode.
        cfg (Config): Its config.
        file (Path): An image or a video.
        out (Path): Folder for the pictures.
        block (str | None): Name of a block; None for all.
        point (tuple[int, ...] | None): x, y and maybe frame of the position;
            None for the middle.
        groups (list[int] | None): Channel groups to draw; None for all.
        weighted (bool): Whether to weigh the attention with g.
        fps (float): Frames a second of mp4 and gif.

    Raises:
        SetupError: The file cannot be read, or an option does not fit it.
    """
    if not 0 < fps <= 1000:
        raise SetupError(f'--fps takes a number up to 1000, got {fps}')
    blocks = choose_blocks(model, block)
    seen = look(model, cfg, blocks, file)
    place = place_of(cfg, file, point, seen)
    for name, block in blocks.items():
        plot = plot_of(name, block, seen, place, groups, weighted)
        out.mkdir(parents=True, exist_ok=True)
        is_clip = len(plot.frames) > 1
        still = out / f'{name}.png'
        frame = place[0] if is_clip else 0
        draw_panels(plot, frame, own_scale=True).savefig(still)
        print(still)
        if is_clip:
            strip, film = out / f'{name}_frames.png', out / f'{name}.mp4'
            draw_filmstrip(plot).savefig(strip)
            frames = range(len(plot.frames))
            pictures = [rendered(draw_panels(plot, at)) for at in frames]
            write_film(pictures, film, fps)
            print(strip, film, film.with_suffix('.gif'), sep='\n')


def read_point(text: str | None) -> tuple[int, ...] | None:
    """Read 'x,y' or 'x,y,frame' as numbers.

    Raises:
        SetupError: The text is something else.
    """
    try:
        point = tuple(map(int, text.split(','))) if text else None
    except ValueError:
        point = ()
    if point is not None and len(point) not in (2, 3):
        raise SetupError(f'--point takes X,Y or X,Y,T, got {text!r}')
    return point


def place_of(
    cfg, file: Path, point: tuple[int, ...] | None, seen: Seen
) -> tuple[int, int, int]:
    """Return a point of the file as (frame, x, y) of the network's pixels.

    Raises:
        SetupError: The point is outside.
    """
    total, height, width = seen.frames.shape[:3]
    if point is None:
        return total // 2, width // 2, height // 2
    x, y = follow(cfg, file, point)
    if (x, y) != point[:2]:
        print(
            f'x={point[0]}, y={point[1]} of {file} is x={x}, y={y} of the '
            f'{width} x {height} pixels that the network gets'
        )
    frame = point[2] if len(point) == 3 else total // 2
    if not 0 <= frame < total:
        raise SetupError(
            f'--point: frame {frame} is outside: the network gets {total} '
            f'frame{"s" * (total > 1)} (0 to {total - 1})'
        )
    return frame, x, y


def choose_groups(
    name: str, count: int, groups: list[int] | None
) -> list[int]:
    """Return the channel groups to show; None asks for all.

    Raises:
        SetupError: The block has no such group.
    """
    chosen = list(range(count) if groups is None else groups)
    if not all(0 <= group < count for group in chosen):
        raise SetupError(
            f'--groups {" ".join(map(str, chosen))}: {name} has the groups '
            f'0 to {count - 1}'
        )
    return chosen


def plot_of(
    name: str,
    block: nn.Module,
    seen: Seen,
    place: tuple[int, int, int],
    groups: list[int] | None,
    weighted: bool,
) -> AttentionPlot:
    """Compute the maps of one block, ready to be drawn.

    Args:
        name (str): Name of the block.
        block (Module): A CGNL or a non-local block.
        seen (Seen): What the network saw.
        place (tuple[int, int, int]): Frame, x and y of the position.
        groups (list[int] | None): Channel groups to draw; None for all.
        weighted (bool): Whether to weigh the attention with g.

    Raises:
        SetupError: The block has not that frame, no such group or no
            attention.
    """
    x, frames, (frame, across, down) = seen.input_of(name), seen.frames, place
    at = frame
    if x.dim() == 4:  # each frame is a sample of its own
        if frame >= len(x):
            raise SetupError(
                f'{name} gets {len(x)} frames at once: choose an earlier one'
            )
        x, frames, at = x[[frame]], frames[[frame]], 0
    grid = (1, *x.shape[2:])[-3:]
    lengths = len(frames), *seen.size
    cell = [
        index * cells // length
        for index, cells, length in zip((at, down, across), grid, lengths)
    ]
    try:
        maps = attention_map(block, x[:1], cell[5 - x.dim() :], weighted)[0]
    except ValueError as error:
        raise SetupError(f'{name}: {error}') from error
    maps = maps.reshape(len(maps), -1, *maps.shape[-2:]).cpu()
    groups = choose_groups(name, len(maps), groups)
    what = 'contribution to the output' if weighted else 'attention'
    names = [f'group {group}' for group in groups]
    if not is_cgnl(block):
        names = ['all channels']
    elif not weighted and has_constant(block):
        maps = maps - maps.mean((1, 2, 3), keepdim=True)
        what += ' above its mean'
    share = 'the largest of the group' if is_cgnl(block) else 'the largest'
    where = f'x={across}, y={down}'
    if len(seen.frames) > 1:
        where += f', frame {frame}'
    return AttentionPlot(
        frames=frames,
        maps=maps[groups].double().numpy(),
        names=names,
        point=(at, across, down),
        size=seen.size,
        cell=cell,
        grid=grid,
        title=f'What the position at {where} (green, with its cell of the '
        f'feature map) attends to\n{name}: {type(block).__name__}, '
        f'{block.mode}',
        legend=f'{what}, relative to {share}',
        signed=is_cgnl(block) or block.mode == 'dot_product',
    )
