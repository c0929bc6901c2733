"""Attention over pictures, with matplotlib."""

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from matplotlib import colors, font_manager
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from PIL import Image

from ..datasets.moving_digits import import_av

SIGNED, POSITIVE = 'RdBu_r', 'Reds'  # zero is white in both
RED, BLUE = '#b2182b', '#2166ac'
POINT = '#39ff14'  # in neither colour map
SHADE = 0.25  # of black, where the picture is: it must not hide the colours
FEW = 4  # positions: blurred, so few would show what is not there


@dataclass
class AttentionPlot:
    """What one position attends to, ready to be drawn.

    Attributes:
        frames (ndarray): (T, H, W, 3) RGB, uint8; T is 1 for an image.
        maps (ndarray): (G, T', H', W') one map a group, over the frames.
        names (Sequence[str]): Name of each group.
        point (tuple[int, int, int]): Frame, x and y in pixels.
        size (tuple[int, int]): (H, W) that the maps cover; more than the
            frames where the network's input was padded.
        cell (tuple[int, int, int]): Index of the position in the network's
            maps: T', H', W'.
        grid (tuple[int, int, int]): Size of these maps, which ``sub_sample``
            does not halve.
        title (str): First line of the picture.
        legend (str): What the colours say.
        signed (bool): Whether values below zero mean something.
    """

    frames: np.ndarray
    maps: np.ndarray
    names: Sequence[str]
    point: tuple[int, int, int]
    size: tuple[int, int]
    cell: tuple[int, int, int]
    grid: tuple[int, int, int]
    title: str
    legend: str
    signed: bool = True

    def strongest(self, group: int, frame: int | None = None) -> float:
        """Return the largest magnitude in a group's map, or at one frame."""
        values = self.maps[group]
        if frame is not None:
            values = values[self.slice_of(frame)]
        return float(np.abs(values).max())

    def slice_of(self, frame: int) -> int:
        """Return the index of a frame on the time axis of the maps."""
        return frame * self.maps.shape[1] // len(self.frames)


def draw_panels(
    plot: AttentionPlot, frame: int = 0, own_scale: bool = False
) -> Figure:
    """Draw one frame: the picture with the point, then a panel a group.

    Args:
        plot (AttentionPlot): What to draw.
        frame (int): Which frame. Defaults to 0.
        own_scale (bool): Whether colours end at the frame's largest value,
            not the clip's, beside which it may be pale. Defaults to False.
    """
    count = len(plot.names) + 1
    columns = min(count, math.ceil(math.sqrt(count)) + (count < 4))
    rows = math.ceil(count / columns)
    fig, cells = _figure(plot, rows, columns, gap=0.45)
    for axes in cells.flat[count:]:
        axes.axis('off')
    is_clip = len(plot.frames) > 1
    _draw_frame(cells.flat[0], plot, frame, None)
    number = f', frame {frame}' if is_clip else ''
    cells.flat[0].set_title(f'input{number}', fontsize=9)
    for group, axes in enumerate(cells.flat[1:count]):
        _draw_frame(axes, plot, frame, group, own_scale)
        largest = f'max {plot.strongest(group):.3g}'
        if own_scale and is_clip:
            own = plot.strongest(group, frame)
            largest = f'max {own:.3g} (clip {largest[4:]})'
        axes.set_title(f'{plot.names[group]}\n{largest}', fontsize=9)
    return fig


def draw_filmstrip(plot: AttentionPlot, limit: int = 8) -> Figure:
    """Draw a clip: a row a group, a column a frame.

    Args:
        plot (AttentionPlot): What to draw.
        limit (int): Most frames to show, evenly spread, the point's among
            them. Defaults to 8.
    """
    total = len(plot.frames)
    chosen = np.linspace(0, total - 1, min(limit, total)).round().astype(int)
    chosen[np.abs(chosen - plot.point[0]).argmin()] = plot.point[0]
    rows = len(plot.names) + 1
    fig, cells = _figure(plot, rows, len(chosen), gap=0.07, margin=1.1)
    labels = ['input'] + [
        f'{name}\nmax {plot.strongest(group):.3g}'
        for group, name in enumerate(plot.names)
    ]
    for row, (line, label) in enumerate(zip(cells, labels)):
        for frame, axes in zip(chosen, line):
            _draw_frame(axes, plot, frame, row - 1 if row else None)
            if not row:
                axes.set_title(f'frame {frame}', fontsize=9)
        line[0].set_ylabel(
            label, rotation=0, ha='right', va='center', fontsize=9
        )
    return fig


def draw_factors(factors: dict[int, np.ndarray], title: str) -> Figure:
    """Draw sign and size of each group's attention over a data set.

    Args:
        factors (dict[int, ndarray]): (samples, G) by power.
        title (str): First line of the picture.
    """
    size = 9, 1 + 3.2 * len(factors)  # inches
    fig = Figure(size, dpi=110, layout='constrained')
    fig.suptitle(title, fontsize=11)
    rows = fig.subplots(len(factors), 2, squeeze=False, width_ratios=(3, 2))
    for (power, values), (left, right) in zip(factors.items(), rows):
        _draw_sizes(left, power, values)
        _draw_signs(right, values)
    return fig


def _draw_sizes(axes: Axes, power: int, values: np.ndarray) -> None:
    groups = np.arange(values.shape[1])
    jitter = np.random.default_rng(0).uniform(-0.25, 0.25, values.shape)
    axes.axhline(0, color='0.5', lw=0.8)
    dots = axes.scatter(
        groups + jitter, values, c=values, cmap=SIGNED, s=10,
        edgecolors='0.4', linewidths=0.2,
    )  # fmt: skip
    dots.set_norm(colors.CenteredNorm(0, np.abs(values).max() or 1.0))
    axes.errorbar(
        groups, values.mean(0), values.std(0), fmt='_k', ms=16, capsize=4,
        lw=1.2,
    )  # fmt: skip
    name = 'factor of theta' + (f'^{power}' if power > 1 else '')
    axes.set(
        xlabel='channel group',
        ylabel=name if power else 'constant part of the output',
        xticks=groups,
    )
    title = 'a dot a sample; mean and standard deviation in black'
    axes.set_title(title, fontsize=9)


def _draw_signs(axes: Axes, values: np.ndarray) -> None:
    groups, positive = np.arange(values.shape[1]), (values > 0).mean(0)
    axes.barh(groups, positive, color=RED, label='positive')
    axes.barh(
        groups, 1 - positive, left=positive, color=BLUE, label='negative'
    )
    axes.axvline(0.5, color='w', lw=0.8, ls=':')
    axes.set(xlim=(0, 1), xlabel='share of the samples', yticks=groups)
    axes.set_ylabel('channel group')
    axes.set_title('sign of the attention', fontsize=9)
    axes.invert_yaxis()
    below = dict(loc='upper center', bbox_to_anchor=(0.5, -0.17), ncols=2)
    axes.legend(**below, frameon=False, fontsize=8)


def rendered(fig: Figure) -> np.ndarray:
    """Return the pixels of a figure, (H, W, 3) RGB, uint8."""
    canvas = FigureCanvasAgg(fig)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def drawable(text: str) -> str:
    """Return text, escaped if the font of the pictures lacks a glyph."""
    file = font_manager.findfont(font_manager.FontProperties())
    font = font_manager.get_font(file)
    if all(font.get_char_index(ord(letter)) for letter in text):
        return text
    return ascii(text)[1:-1]


def write_film(pictures: list[np.ndarray], path: Path, fps: float) -> None:
    """Write pictures as an mp4 (H.264) and as an endless gif.

    Args:
        pictures (list[ndarray]): (H, W, 3) RGB, uint8, of one size; an odd
            last row or column is left out of the mp4, as the codec needs even
            sizes.
        path (Path): The mp4 file; the gif has its name.
        fps (float): Frames a second; a gif counts in hundredths of one.

    Raises:
        SetupError: PyAV or its H.264 encoder is missing.
    """
    av = import_av('mp4 files need')
    height, width = (length // 2 * 2 for length in pictures[0].shape[:2])
    rate = Fraction(fps).limit_denominator(1000)
    with av.open(str(path), 'w') as container:
        stream = container.add_stream('libx264', rate, {'crf': '18'})
        stream.height, stream.width = height, width
        stream.pix_fmt = 'yuv420p'
        for picture in pictures:
            even = np.ascontiguousarray(picture[:height, :width])
            frame = av.VideoFrame.from_ndarray(even, format='rgb24')
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    first, *rest = map(Image.fromarray, pictures)
    options = dict(duration=round(1000 / fps), loop=0)
    first.save(
        path.with_suffix('.gif'), save_all=True, append_images=rest, **options
    )


def _figure(
    plot: AttentionPlot,
    rows: int,
    columns: int,
    gap: float,
    margin: float = 0.0,
) -> tuple[Figure, np.ndarray]:
    """Make a figure with a bar of colours, and its axes (rows, columns).

    Lengths are in inches: ``gap`` between rows, ``margin`` on the left.
    """
    height, width = plot.frames.shape[1:3]
    wide = max(1.95, min(2.4, 14 / columns))  # room for a title
    size = (
        max(columns * wide + margin + 1.4, 6.5),
        rows * (wide * height / width + gap) + 0.9,
    )
    fig = Figure(size, dpi=110, layout='constrained')
    fig.get_layout_engine().set(h_pad=0.03, w_pad=0.03, hspace=0, wspace=0)
    fig.suptitle(plot.title, fontsize=10)
    cells = fig.subplots(rows, columns, squeeze=False)
    for axes in cells.flat:
        axes.set(xticks=[], yticks=[])
    norm = colors.Normalize(-1 if plot.signed else 0, 1)
    bar = fig.colorbar(
        ScalarMappable(norm, SIGNED if plot.signed else POSITIVE),
        ax=cells,
        shrink=0.7 if rows < 5 else 0.35,
        aspect=25,
        pad=0.02,
    )
    bar.set_label(textwrap.fill(plot.legend, 36), fontsize=8)
    ends = ('- max', '0', '+ max') if plot.signed else ('0', 'max')
    bar.set_ticks((-1, 0, 1) if plot.signed else (0, 1), labels=ends)
    return fig, cells


def _draw_frame(
    axes: Axes,
    plot: AttentionPlot,
    frame: int,
    group: int | None,
    own_scale: bool = False,
) -> None:
    """Draw one frame; a group's map in its colours, shaded by the frame.

    The shade is light, so that a value has the colour that the bar gives it.
    """
    picture = plot.frames[frame]
    height, width = picture.shape[:2]
    extent = (0, width, height, 0)
    if group is None:
        axes.imshow(picture, extent=extent)
    else:
        end = plot.strongest(group, frame if own_scale else None) or 1.0
        heat = plot.maps[group, plot.slice_of(frame)]
        axes.imshow(
            heat,
            cmap=SIGNED if plot.signed else POSITIVE,
            vmin=-end if plot.signed else 0,
            vmax=end,
            interpolation='nearest' if max(heat.shape) <= FEW else 'bilinear',
            extent=(0, plot.size[1], plot.size[0], 0),
        )
        black = np.zeros((height, width, 4))
        black[..., 3] = SHADE * (1 - picture.mean(-1) / 255)
        axes.imshow(black, extent=extent)
    axes.set(xlim=(0, width), ylim=(height, 0), aspect='equal')
    if plot.slice_of(frame) == plot.cell[0]:
        _mark(axes, plot, is_input=group is None, at=frame == plot.point[0])


def _mark(axes: Axes, plot: AttentionPlot, is_input: bool, at: bool) -> None:
    """Mark the cell; in the point's frame the point, and the input's frame."""
    (down, across), (_, row, column) = plot.grid[1:], plot.cell
    tall, wide = plot.size[0] / down, plot.size[1] / across
    corner = column * wide, row * tall
    cell = Rectangle(corner, wide, tall, fill=False, ec=POINT, lw=1.4)
    # green on white needs an edge
    cell.set_path_effects([withStroke(linewidth=2.6, foreground='k')])
    axes.add_patch(cell)
    if at:
        _, x, y = plot.point
        style = dict(marker='o', ms=6, mfc=POINT, mec='k', mew=0.8)
        axes.plot(x + 0.5, y + 0.5, **style)
    if at and is_input:
        for spine in axes.spines.values():
            spine.set(color=POINT, lw=2)
