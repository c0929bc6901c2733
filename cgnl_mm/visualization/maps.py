"""Pictures of what one position of an image or a video attends to."""

from collections.abc import Sequence
from pathlib import Path

from mmengine.visualization import Visualizer
from PIL import Image
from torch import nn

from ..errors import SetupError
from .attention import attention_map, has_constant
from .blocks import attending_blocks, choose_blocks
from .draw import AttentionPlot, draw_panels, rendered
from .inputs import Seen, load_sample, look

PAUSE = 600  # milliseconds that a film shows a frame


def draw_maps(
    model: nn.Module,
    cfg,
    file: Path,
    out: Path,
    block: str | None = None,
    point: tuple[int, ...] | None = None,
    groups: Sequence[int] | None = None,
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
        groups (Sequence[int] | None): Which groups; None for all.

    Raises:
        SetupError: The file cannot be read, or an option does not fit it.
    """
    blocks = choose_blocks(model, block)
    seen = look(model, cfg, blocks, load_sample(cfg, file))
    place = place_of(point, seen)
    for name in seen.blocks:
        plot = plot_of(name, blocks[name], seen, place, groups)
        pictures = [
            Image.fromarray(rendered(draw_panels(plot, frame)))
            for frame in range(len(plot.frames))
        ]
        out.mkdir(parents=True, exist_ok=True)
        still, film = out / f'{name}.png', out / f'{name}.gif'
        pictures[plot.point[0]].save(still)
        print(still)
        if len(pictures) > 1:
            options = dict(save_all=True, duration=PAUSE, loop=0)
            pictures[0].save(film, append_images=pictures[1:], **options)
            print(film)


def add_maps(
    visualizer: Visualizer, model: nn.Module, cfg, samples: list, step: int
) -> None:
    """Draw what the middle of each sample attends to, for a visualizer.

    Args:
        visualizer (Visualizer): Gets ``cgnl_<block>_<number>``, a picture
            for each block that attends and for each sample.
        model (Module): In evaluation mode.
        cfg (Config): Its config.
        samples (list[dict]): What the test pipeline makes of the samples.
        step (int): Number of the iteration.
    """
    blocks = attending_blocks(model)
    for number, data in enumerate(samples):
        seen = look(model, cfg, blocks, data)
        for name in seen.blocks:
            plot = plot_of(name, blocks[name], seen, place_of(None, seen))
            picture = rendered(draw_panels(plot, plot.point[0]))
            # a slash would name a folder that LocalVisBackend lacks
            visualizer.add_image(f'cgnl_{name}_{number}', picture, step)


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
    point: tuple[int, ...] | None, seen: Seen
) -> tuple[int, int, int]:
    """Return a point as frame, x and y; the middle if it is None.

    Raises:
        SetupError: The point is outside.
    """
    lengths = seen.frames.shape[:3]
    frame, down, across = (length // 2 for length in lengths)
    if point is not None:
        across, down, frame = (*point, frame)[:3]
    if not all(0 <= i < n for i, n in zip((frame, down, across), lengths)):
        total, height, width = lengths
        raise SetupError(
            f'--point {",".join(map(str, point))} is outside: the network '
            f'gets {width} x {height} pixels (x 0 to {width - 1}, y 0 to '
            f'{height - 1}) and {total} frame{"s" * (total > 1)} (0 to '
            f'{total - 1})'
        )
    return frame, across, down


def plot_of(
    name: str,
    block: nn.Module,
    seen: Seen,
    place: tuple[int, int, int],
    groups: Sequence[int] | None = None,
) -> AttentionPlot:
    """Compute the maps of one block, ready to be drawn.

    Args:
        name (str): Name of the block.
        block (Module): A CGNL block.
        seen (Seen): What the network saw.
        place (tuple[int, int, int]): Frame, x and y of the position.
        groups (Sequence[int] | None): Which groups; None for all.

    Raises:
        SetupError: The block has not that frame, or not these groups.
    """
    every = range(block.groups)
    unknown = sorted({*(groups or every)} - {*every})
    if unknown:
        raise SetupError(
            f'--groups {unknown[0]}: {name} has the groups 0 to {every[-1]}'
        )
    x, frames, (frame, across, down) = seen.blocks[name], seen.frames, place
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
    maps = attention_map(block, x[:1], cell[5 - x.dim() :])[0]
    maps = maps.reshape(len(maps), -1, *maps.shape[-2:]).cpu().double()
    what = 'Attention'
    if has_constant(block):
        maps = maps - maps.mean((1, 2, 3), keepdim=True)
        what += ' above its mean'
    where = f'x={across}, y={down}'
    if len(seen.frames) > 1:
        where += f', frame {frame}'
    tall, wide = (n / cells for n, cells in zip(seen.size, grid[1:]))
    return AttentionPlot(
        frames=frames,
        maps=maps.numpy(),
        point=(at, across, down),
        size=seen.size,
        cell=(cell[2] * wide, cell[1] * tall, wide, tall),
        title=f'{what}, from {where} (green)\nred: + max, blue: - max\n'
        f'{name}: {type(block).__name__}, {block.mode}',
        groups=groups or every,
    )
