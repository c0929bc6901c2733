"""Colours in the pictures are those of the values."""

import matplotlib
import numpy as np
import pytest

from cgnl_mm.visualization.draw import (
    COLOURS,
    SHADE,
    AttentionPlot,
    draw_panels,
    drawable,
    rendered,
)

SIDE = 32  # pixels of the frames


def attention(maps, brightness=255):
    """``maps``: (T, H, W) of one group, over grey frames."""
    maps = np.asarray(maps, float)[None]
    count = maps.shape[1]
    frames = np.full((count, SIDE, SIDE, 3), brightness, np.uint8)
    return AttentionPlot(
        frames=frames,
        maps=maps,
        point=(0, 1, 1),
        size=(SIDE, SIDE),
        cell=(0, 0, SIDE / maps.shape[3], SIDE / maps.shape[2]),
        title='',
        groups=range(1),
    )


def pixels_of(fig, places):
    """RGB in the group's panel, at (x, y) in pixels of the frame."""
    image = rendered(fig)
    panel = fig.axes[1]
    found = []
    for place in places:
        across, up = panel.transData.transform(place)
        found.append(image[image.shape[0] - 1 - int(up), int(across)])
    return np.array(found, int)


def centres(count):
    """Of a square grid's cells, row by row."""
    edge = SIDE / count
    return [
        ((column + 0.5) * edge, (row + 0.5) * edge)
        for row in range(count)
        for column in range(count)
    ]


@pytest.mark.parametrize('brightness', [255, 0])
def test_colours_are_those_of_the_values(brightness):
    """A white frame leaves them, a black one darkens all alike."""
    values = np.linspace(-1, 1, 9).reshape(3, 3)
    shown = attention(values[None] * 0.07, brightness)
    found = pixels_of(draw_panels(shown), centres(3))
    expected = matplotlib.colormaps[COLOURS]((values.ravel() + 1) / 2)
    expected = expected[:, :3] * 255
    if not brightness:
        expected *= 1 - SHADE
    # the first cell is the point's
    np.testing.assert_allclose(found[1:], expected[1:], atol=3)


def test_frames_of_a_clip_have_one_scale():
    values = np.zeros((2, 3, 3))
    values[0], values[1] = 0.25, -1.0
    fig = draw_panels(attention(values))
    found = pixels_of(fig, centres(3)[3:])
    pale = np.array(matplotlib.colormaps[COLOURS](0.625)[:3]) * 255
    np.testing.assert_allclose(found, np.tile(pale, (6, 1)), atol=3)
    assert fig.axes[1].get_title() == 'group 0\nmax 1'


def test_chosen_group_keeps_its_number():
    plot = attention(np.full((1, 3, 3), 2.0))
    plot.maps = np.concatenate([plot.maps, 3 * plot.maps])
    plot.groups = [1]
    titles = [axes.get_title() for axes in draw_panels(plot).axes]
    assert titles == ['input', 'group 1\nmax 6']


def test_titles_do_not_overlap():
    plot = attention(np.full((2, 3, 3), -1.23e-05))
    plot.maps, plot.groups = plot.maps.repeat(15, 0), range(15)
    fig = draw_panels(plot)
    rendered(fig)
    boxes = [axes.title.get_window_extent() for axes in fig.axes[:16]]
    for left, right in zip(boxes, boxes[1:]):
        assert not left.overlaps(right)


def test_names_without_glyphs_are_escaped():
    assert drawable('a digit: é') == 'a digit: é'
    assert drawable('\u4e2d\n\udce9') == r'\u4e2d\n\udce9'
