"""Attention over pictures, with matplotlib."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke

COLOURS = 'RdBu_r'  # zero is white
POINT = '#39ff14'  # not among these colours
SHADE = 0.25  # of black, where the picture is: it must not hide the colours


@dataclass
class AttentionPlot:
    """What one position attends to, ready to be drawn.

    Attributes:
        frames (ndarray): (T, H, W, 3) RGB, uint8; T is 1 for an image.
        maps (ndarray): (G, T', H', W') one map a group, over the frames.
        point (tuple[int, int, int]): Frame, x and y in pixels.
        size (tuple[int, int]): (H, W) that the maps cover; more than the
            frames where the network's input was padded.
        cell (tuple[float, float, float, float]): Left, top, width and height
            of the point's cell of the feature map, in pixels.
        title (str): What stands above the panels.
        groups (Sequence[int]): Numbers of the groups that are drawn.
    """

    frames: np.ndarray
    maps: np.ndarray
    point: tuple[int, int, int]
    size: tuple[int, int]
    cell: tuple[float, float, float, float]
    title: str
    groups: Sequence[int]

    def slice_of(self, frame: int) -> int:
        """Return the index of a frame on the time axis of the maps."""
        return frame * self.maps.shape[1] // len(self.frames)


def draw_panels(plot: AttentionPlot, frame: int = 0) -> Figure:
    """Draw one frame: the picture with the point, then a panel a group.

    The colours of a group end at its largest value in the whole clip, so that
    frames can be compared.

    Args:
        plot (AttentionPlot): What to draw.
        frame (int): Which frame. Defaults to 0.
    """
    count = len(plot.groups) + 1
    columns = min(count, math.ceil(math.sqrt(count)) + (count < 4))
    rows = math.ceil(count / columns)
    height, width = plot.frames.shape[1:3]
    # inches; the titles are legible where 400 pixels show the whole
    size = (
        max(columns * 1.6, 4.6),
        rows * (1.6 * height / width + 0.4) + 0.7,
    )
    fig = Figure(size, dpi=110, layout='constrained')
    fig.get_layout_engine().set(h_pad=0.03, w_pad=0.03, hspace=0, wspace=0)
    fig.suptitle(plot.title, fontsize=10)
    cells = fig.subplots(rows, columns, squeeze=False)
    for axes in cells.flat[count:]:
        axes.axis('off')
    number = f', frame {frame}' if len(plot.frames) > 1 else ''
    _draw_frame(cells.flat[0], plot, frame)
    cells.flat[0].set_title(f'input{number}', fontsize=9)
    for axes, group in zip(cells.flat[1:], plot.groups):
        _draw_frame(axes, plot, frame, group)
        largest = f'max {np.abs(plot.maps[group]).max():.3g}'
        axes.set_title(f'group {group}\n{largest}', fontsize=9)
    return fig


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


def _draw_frame(
    axes: Axes,
    plot: AttentionPlot,
    frame: int,
    group: int | None = None,
) -> None:
    """Draw one frame, or a group's map in colours that the frame shades.

    The shade is light, so that each value keeps its colour.
    """
    picture = plot.frames[frame]
    height, width = picture.shape[:2]
    if group is not None:
        heat = plot.maps[group, plot.slice_of(frame)]
        end = np.abs(plot.maps[group]).max() or 1.0
        whole = dict(extent=(0, plot.size[1], plot.size[0], 0))
        axes.imshow(heat, COLOURS, vmin=-end, vmax=end, **whole)
        shade = SHADE * (1 - picture.mean(-1, keepdims=True) / 255)
        picture = np.concatenate([np.zeros((height, width, 3)), shade], -1)
    axes.imshow(picture, extent=(0, width, height, 0))
    axes.set(
        xlim=(0, width), ylim=(height, 0), aspect='equal', xticks=[], yticks=[]
    )
    at, x, y = plot.point
    if plot.slice_of(frame) == plot.slice_of(at):
        left, top, wide, tall = plot.cell
        box = Rectangle((left, top), wide, tall, fill=False, ec=POINT, lw=1.4)
        # green on white needs an edge
        box.set_path_effects([withStroke(linewidth=2.6, foreground='k')])
        axes.add_patch(box)
    if frame == at:
        style = dict(marker='o', ms=6, mfc=POINT, mec='k', mew=0.8)
        axes.plot(x + 0.5, y + 0.5, **style)
