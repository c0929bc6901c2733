"""Attention over pictures, with matplotlib."""

import math
from dataclasses import dataclass
from typing import Dict, Optional, Sequence, Tuple

import numpy as np
from matplotlib import colors
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

SIGNED, POSITIVE = 'RdBu_r', 'Reds'  # zero is white in both
POINT = '#39ff14'  # in neither colour map
SHADE = 0.25  # of black, where the picture is: it must not hide the colours
FEW = 4  # positions: blurred, so few would show what is not there


@dataclass
class Attention:
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
    point: Tuple[int, int, int]
    size: Tuple[int, int]
    cell: Tuple[int, int, int]
    grid: Tuple[int, int, int]
    title: str
    legend: str
    signed: bool = True

    def strongest(self, group: int, frame: Optional[int] = None) -> float:
        """Largest magnitude in a group's map, or at one frame of it."""
        values = self.maps[group]
        if frame is not None:
            values = values[self.slice_of(frame)]
        return float(np.abs(values).max())

    def slice_of(self, frame: int) -> int:
        """Index on the maps' time axis of a frame."""
        return frame * self.maps.shape[1] // len(self.frames)


def draw_panels(
    shown: Attention, frame: int = 0, own_scale: bool = False
) -> Figure:
    """Draw one frame: the picture with the point, then a panel a group.

    Args:
        shown (Attention): What to draw.
        frame (int): Which frame. Defaults to 0.
        own_scale (bool): Whether colours end at the frame's largest value,
            not the clip's, beside which it may be pale. Defaults to False.

    Returns:
        Figure: To be saved, or closed by forgetting it.
    """
    count = len(shown.names) + 1
    columns = min(count, math.ceil(math.sqrt(count)) + (count < 4))
    rows = math.ceil(count / columns)
    fig, cells = _figure(shown, rows, columns, gap=0.3)
    for axes in cells.flat[count:]:
        axes.axis('off')
    _draw_frame(cells.flat[0], shown, frame, None)
    number = f', frame {frame}' if len(shown.frames) > 1 else ''
    cells.flat[0].set_title(f'input{number}')
    for group, axes in enumerate(cells.flat[1:count]):
        _draw_frame(axes, shown, frame, group, own_scale)
        axes.set_title(_name(shown, group, frame if own_scale else None))
    return fig


def draw_filmstrip(shown: Attention, limit: int = 8) -> Figure:
    """Draw a clip: a row a group, a column a frame.

    Args:
        shown (Attention): What to draw.
        limit (int): Most frames to show, evenly spread, the point's among
            them. Defaults to 8.
    """
    total = len(shown.frames)
    chosen = np.linspace(0, total - 1, min(limit, total)).round().astype(int)
    chosen[np.abs(chosen - shown.point[0]).argmin()] = shown.point[0]
    fig, cells = _figure(
        shown, len(shown.names) + 1, len(chosen), gap=0.07, margin=1.1
    )
    for row, line in enumerate(cells):
        group = row - 1 if row else None
        label = _name(shown, group) if row else 'input'
        for frame, axes in zip(chosen, line):
            _draw_frame(axes, shown, frame, group)
            if not row:
                axes.set_title(f'frame {frame}')
        line[0].set_ylabel(
            label.replace(': ', '\n'), rotation=0, ha='right', va='center'
        )
    return fig


def draw_factors(factors: Dict[int, np.ndarray], title: str) -> Figure:
    """Draw sign and size of each group's attention over a data set.

    Args:
        factors (dict[int, ndarray]): (samples, G) by power.
        title (str): First line of the picture.
    """
    fig = Figure(
        figsize=(9, 1 + 3.2 * len(factors)), dpi=110, layout='constrained'
    )
    FigureCanvasAgg(fig)
    fig.suptitle(title, fontsize=11)
    rows = fig.subplots(len(factors), 2, squeeze=False, width_ratios=(3, 2))
    for (power, values), (left, right) in zip(factors.items(), rows):
        places = np.arange(values.shape[1])
        positive = (values > 0).mean(0)
        size = np.abs(values).max() or 1.0
        left.axhline(0, color='0.5', lw=0.8)
        jitter = np.random.default_rng(0).uniform(-0.25, 0.25, values.shape)
        left.scatter(
            places + jitter,
            values,
            c=values,
            cmap=SIGNED,
            norm=colors.CenteredNorm(0, size),
            s=10,
            edgecolors='0.4',
            linewidths=0.2,
        )
        left.errorbar(
            places,
            values.mean(0),
            values.std(0),
            fmt='_k',
            ms=16,
            capsize=4,
            lw=1.2,
        )
        left.set(
            xlabel='channel group',
            ylabel=_factor_name(power),
            xticks=places,
            title='a dot a sample; mean and standard deviation in black',
        )
        red, blue = colors.to_hex('#b2182b'), colors.to_hex('#2166ac')
        right.barh(places, positive, color=red, label='positive')
        right.barh(
            places, 1 - positive, left=positive, color=blue, label='negative'
        )
        right.axvline(0.5, color='w', lw=0.8, ls=':')
        right.set(
            xlim=(0, 1),
            xlabel='share of the samples',
            ylabel='channel group',
            yticks=places,
            title='sign of the attention',
        )
        right.invert_yaxis()
        right.legend(
            loc='upper center',
            bbox_to_anchor=(0.5, -0.17),
            ncols=2,
            frameon=False,
            fontsize=8,
        )
        for axes in (left, right):
            axes.title.set_fontsize(9)
    return fig


def rendered(fig: Figure) -> np.ndarray:
    """Pixels of a figure, (H, W, 3) RGB, uint8."""
    fig.canvas.draw()
    return np.asarray(fig.canvas.buffer_rgba())[..., :3].copy()


def _factor_name(power: int) -> str:
    if power == 0:
        return 'constant part of the output'
    return 'factor of theta' + (f'^{power}' if power > 1 else '')


def _name(shown: Attention, group: int, frame: Optional[int] = None) -> str:
    whole = f'{shown.strongest(group):.2g}'
    if frame is None or len(shown.frames) == 1:
        return f'{shown.names[group]}: max {whole}'
    own = f'{shown.strongest(group, frame):.2g}'
    return f'{shown.names[group]}: max {own} (clip {whole})'


def _figure(
    shown: Attention, rows: int, columns: int, gap: float, margin: float = 0.0
):
    """Figure with a bar of colours, and its axes (rows, columns).

    Lengths are in inches: ``gap`` between rows, ``margin`` on the left.
    """
    height, width = shown.frames.shape[1:3]
    wide = max(1.1, min(2.4, 14 / columns))  # inches
    tall = wide * height / width
    fig = Figure(
        figsize=(
            max(columns * wide + margin + 1.3, 6.5),
            rows * (tall + gap) + 0.9,
        ),
        dpi=110,
        layout='constrained',
    )
    FigureCanvasAgg(fig)
    fig.get_layout_engine().set(h_pad=0.03, w_pad=0.03, hspace=0, wspace=0)
    fig.suptitle(shown.title, fontsize=10)
    cells = fig.subplots(rows, columns, squeeze=False)
    for axes in cells.flat:
        axes.set(xticks=[], yticks=[])
        axes.title.set_fontsize(9)
        axes.yaxis.label.set_fontsize(9)
    norm = colors.Normalize(-1 if shown.signed else 0, 1)
    bar = fig.colorbar(
        ScalarMappable(norm, SIGNED if shown.signed else POSITIVE),
        ax=cells,
        shrink=0.7 if rows < 5 else 0.35,
        aspect=25,
        pad=0.02,
    )
    bar.set_label(shown.legend, fontsize=8)
    ends = ('- max', '0', '+ max') if shown.signed else ('0', 'max')
    bar.set_ticks((-1, 0, 1) if shown.signed else (0, 1), labels=ends)
    return fig, cells


def _draw_frame(
    axes,
    shown: Attention,
    frame: int,
    group: Optional[int],
    own_scale: bool = False,
) -> None:
    """One frame; a group's map in its colours, shaded by the frame.

    Light, so that a value has the colour that the bar gives it.
    """
    picture = shown.frames[frame]
    height, width = picture.shape[:2]
    extent = (0, width, height, 0)
    if group is None:
        axes.imshow(picture, extent=extent)
    else:
        end = shown.strongest(group, frame if own_scale else None) or 1.0
        heat = shown.maps[group, shown.slice_of(frame)]
        axes.imshow(
            heat,
            cmap=SIGNED if shown.signed else POSITIVE,
            vmin=-end if shown.signed else 0,
            vmax=end,
            interpolation='nearest' if max(heat.shape) <= FEW else 'bilinear',
            extent=(0, shown.size[1], shown.size[0], 0),
        )
        black = np.zeros((height, width, 4))
        black[..., 3] = SHADE * (1 - picture.mean(-1) / 255)
        axes.imshow(black, extent=extent)
    axes.set(xlim=(0, width), ylim=(height, 0), aspect='equal')
    if shown.cell[0] == frame * shown.grid[0] // len(shown.frames):
        _mark(axes, shown, frame, group)


def _mark(axes, shown: Attention, frame: int, group: Optional[int]) -> None:
    """The position's cell; in the input, the point and the frame as well."""
    (down, across), (_, row, column) = shown.grid[1:], shown.cell
    tall, wide = shown.size[0] / down, shown.size[1] / across
    # green on white needs an edge
    for color, linewidth in (('k', 2.6), (POINT, 1.4)):
        axes.add_patch(
            Rectangle(
                (column * wide, row * tall), wide, tall,
                fill=False, ec=color, lw=linewidth,
            )
        )  # fmt: skip
    if frame == shown.point[0]:
        axes.plot(
            shown.point[1] + 0.5, shown.point[2] + 0.5,
            marker='o', ms=6, mfc=POINT, mec='k', mew=0.8,
        )  # fmt: skip
        if group is None:
            for spine in axes.spines.values():
                spine.set(color=POINT, lw=2)
