"""Draw images/affinity.svg: three affinities of one small input, computed.

    python docs/draw_affinity.py

The same bytes on every run of one Matplotlib version.
"""

import argparse
from pathlib import Path

import matplotlib
import torch
from matplotlib import pyplot as plt

from cgnl_mm.ops import (
    cgnl_attention,
    generalized_nonlocal,
    taylor_coefficients,
)

CHANNELS, HEIGHT, WIDTH, GROUPS = 4, 2, 3, 2
POSITIONS = HEIGHT * WIDTH
SIZE = CHANNELS // GROUPS * POSITIONS  # numbers in a group
COLOURS = dict(cmap='RdBu_r', vmin=-2.2, vmax=2.2)


def draw(path: Path) -> None:
    matplotlib.use('Agg')
    plt.rcParams.update(
        {
            'font.size': 13,  # the page shows the figure at three quarters
            'svg.hashsalt': 'cgnl_mm',  # ids that do not change
        }
    )
    torch.manual_seed(0)
    shape = (3, 1, CHANNELS, HEIGHT, WIDTH)
    theta, phi, g = torch.randn(shape, dtype=torch.float64).unbind()
    y = cgnl_attention(theta, phi, g, groups=GROUPS)
    exact = generalized_nonlocal(theta, phi, g, 'dot_product', groups=GROUPS)
    torch.testing.assert_close(y, exact)  # what panels 2 and 3 claim

    figure, axes = plt.subplots(
        1, 4, figsize=(12, 4.2), layout='constrained',
        gridspec_kw=dict(width_ratios=[1, 1, 1, 1.15]),
    )  # fmt: skip
    rows, columns = theta.flatten(), phi.flatten()
    shared = theta.flatten(2)[0].T @ phi.flatten(2)[0]
    matrix(axes[0], shared, POSITIONS, 'non-local', 'positions of φ')
    axes[0].set_ylabel('positions of θ')

    affinity = torch.outer(rows, columns)
    group = torch.arange(rows.numel()) // SIZE
    affinity[group[:, None] != group] = torch.nan
    matrix(
        axes[1], affinity, SIZE, 'generalized, 2 groups',
        'positions × channels of φ',
    )  # fmt: skip
    axes[1].set_ylabel('positions × channels of θ')

    compact(axes[2], rows, columns)
    series(axes[3])
    figure.savefig(path, metadata=dict(Date=None))
    plt.close(figure)


def matrix(axis, values, every, title, label) -> None:
    """One square for each entry; a line at each end of a group."""
    axis.pcolormesh(values, **COLOURS)
    side = len(values)
    for line in range(0, side + 1, every):
        axis.axhline(line, color='black', linewidth=0.8, clip_on=False)
        axis.axvline(line, color='black', linewidth=0.8, clip_on=False)
    axis.invert_yaxis()
    axis.set(aspect='equal', xticks=[], yticks=[], xlabel=label)
    axis.spines[:].set_visible(False)
    axis.set_title(f'{title}\n{side} × {side}')


def compact(axis, rows, columns) -> None:
    """The blocks of the second panel as what they are: outer products."""
    edge = 1.6  # width of a drawn vector
    for index in range(GROUPS):
        part = slice(index * SIZE, (index + 1) * SIZE)
        along = torch.arange(part.start, part.stop + 1)
        start, stop = float(along[0]), float(along[-1])
        inside = [start + edge + 0.4, stop]
        axis.pcolormesh(
            [start, start + edge], along, rows[part, None], **COLOURS
        )
        axis.pcolormesh(
            torch.linspace(*inside, SIZE + 1),
            [start - edge - 0.4, start - 0.4],
            columns[None, part],
            **COLOURS,
        )
        middle = (start + stop) / 2
        axis.text(start - 0.5, middle, 'θ', ha='right', va='center')
        axis.text(
            sum(inside) / 2, start - edge - 0.7, 'φ',
            ha='center', va='bottom',
        )  # fmt: skip
        axis.text(
            sum(inside) / 2, middle, 'y = θ · ⟨φ, g⟩',
            ha='center', va='center', fontsize=11,
        )  # fmt: skip
    axis.set(
        aspect='equal', xlim=(-1.5, 2 * SIZE), ylim=(2 * SIZE, -4),
        xticks=[], yticks=[], xlabel='the same y, no affinity',
    )  # fmt: skip
    axis.spines[:].set_visible(False)
    axis.set_title(f'compact\n{GROUPS} inner products')


def series(axis) -> None:
    """A kernel, and its series by order."""
    ab = torch.linspace(-2, 2, 81)
    for order, colour in ((1, '#bdd7e7'), (2, '#6baed6'), (3, '#2171b5')):
        terms = taylor_coefficients('embedded_gaussian', order)
        values = sum(c * ab**p for p, c in enumerate(terms))
        axis.plot(ab, values, color=colour, label=f'P = {order}')
    axis.plot(ab, ab.exp(), color='black', linewidth=1, label='exp(ab)')
    axis.set(xlabel='ab', ylim=(-1.2, 7.5))
    axis.spines[['top', 'right']].set_visible(False)
    axis.legend(frameon=False, fontsize=11)
    axis.set_title('other kernels\n$\\Sigma_p\\, c_p\\, (ab)^p$')


if __name__ == '__main__':
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        'out', type=Path, nargs='?',
        default=Path(__file__).parent / 'images/affinity.svg',
    )  # fmt: skip
    draw(parser.parse_args().out)
