"""Study which first state of a block learns a relation of two frames.

The features are those of handwritten digits, in two frames of 4x4 positions.
Only the block mixes the frames: all other layers see one position at a time,
and the average over the positions feeds a linear classifier.
"""

import functools
import itertools
import re
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import LambdaLR

from ..analysis.environment import environment
from ..blocks import CGNL3d
from ..errors import SetupError
from .frames import TASKS, Features

SPLITS = 'train', 'test'
BATCH, STEPS, LAST, TESTED = 64, 800, 100, 2000
LEARNING_RATE = 0.05
RESULTS = ('accuracy', 'held out', 'learnt at')


@dataclass(frozen=True)
class Setting:
    """Describe a line of the study.

    Attributes:
        block (dict | None): Arguments of CGNL3d; those of mmcv's NonLocal3d
            if they have its ``type``; None: no block.
        width (int): Channels of the features.
        block_rate (float): Learning rate of the block over that of the rest.
    """

    block: dict | None = field(default_factory=dict)
    width: int = 64
    block_rate: float = 1.0


AUTHOR, WARM, HOT = (
    dict(init_std=0.01), dict(norm_weight=0.1), dict(norm_weight=1.0),
)  # fmt: skip
GN1, BN = dict(type='GN', num_groups=1), dict(type='BN')
SHARP, DULL = (dict(type='GN', eps=eps) for eps in (1e-8, 1e-3))
# fmt: off
SETTINGS = {
    'no block': Setting(None),
    'NonLocal3d': Setting(dict(type='NonLocal3d')),
    'author': Setting(AUTHOR),
    'weight 0': Setting(),
    'weight 0.1': Setting(WARM),
    'weight 1': Setting(HOT),
    'author, weight 0.1': Setting({**AUTHOR, **WARM}),
    'author, weight 1': Setting({**AUTHOR, **HOT}),
    'std 0.1': Setting(dict(init_std=0.1)),
    'std 0.1, weight 0.1': Setting(dict(init_std=0.1, **WARM)),
    'std 0.1, weight 1': Setting(dict(init_std=0.1, **HOT)),
    'author, eps 1e-8': Setting(dict(norm_cfg=SHARP, **AUTHOR)),
    'weight 0.1, eps 1e-3': Setting(dict(norm_cfg=DULL, **WARM)),
    'author, 10 x rate': Setting(AUTHOR, block_rate=10.0),
    'weight 0, 10 x rate': Setting(block_rate=10.0),
    'GN(1), author': Setting(dict(norm_cfg=GN1, **AUTHOR)),
    'GN(1), weight 0': Setting(dict(norm_cfg=GN1)),
    'GN(1), weight 0.1': Setting(dict(norm_cfg=GN1, **WARM)),
    'BN, author': Setting(dict(norm_cfg=BN, **AUTHOR)),
    'BN, weight 0': Setting(dict(norm_cfg=BN)),
    'BN, weight 0.1': Setting(dict(norm_cfg=BN, **WARM)),
    'no norm, weight 0': Setting(dict(norm_cfg=False)),
    'no norm, weight 0.1': Setting(dict(norm_cfg=False, **WARM)),
    'no norm, weight 1': Setting(dict(norm_cfg=False, **HOT)),
    'Gaussian, author': Setting(dict(mode='embedded_gaussian', **AUTHOR)),
    'Gaussian, weight 0': Setting(dict(mode='embedded_gaussian')),
    'Gaussian, weight 0.1': Setting(dict(mode='embedded_gaussian', **WARM)),
    'RBF, weight 0.1': Setting(dict(mode='gaussian_rbf', **WARM)),
    'RBF, weight 1': Setting(dict(mode='gaussian_rbf', **HOT)),
    'learnable, author': Setting(dict(mode='learnable', **AUTHOR)),
    'learnable, weight 0.1': Setting(dict(mode='learnable', **WARM)),
    '1 group, weight 0.1': Setting(dict(groups=1, **WARM)),
    '32 groups, weight 0.1': Setting(dict(groups=32, **WARM)),
    '256 channels, author': Setting(AUTHOR, width=256),
    '256 channels, weight 0': Setting(width=256),
    '256 channels, weight 0.1': Setting(WARM, width=256),
    '1,024 channels, author': Setting(AUTHOR, width=1024),
    '1,024 channels, weight 0.1': Setting(WARM, width=1024),
}
# fmt: on


class Unit(nn.Sequential):
    """Add a bottleneck of 1x1 convolutions to a map.

    It starts as the identity, as the units of OpenMMLab's ResNets do
    (``zero_init_residual``).

    Args:
        width (int): Channels.
    """

    def __init__(self, width: int) -> None:
        inner = width // 4
        super().__init__(
            nn.Conv3d(width, inner, 1, bias=False),
            nn.BatchNorm3d(inner),
            nn.ReLU(),
            nn.Conv3d(inner, width, 1, bias=False),
            nn.BatchNorm3d(width),
        )
        nn.init.zeros_(self[-1].weight)

    def forward(self, x: Tensor) -> Tensor:
        return (x + super().forward(x)).relu()


def build_block(setting: Setting) -> nn.Module:
    """Build the block of a setting."""
    if setting.block is None:
        return nn.Identity()
    if 'type' in setting.block:
        # mmcv is optional.
        from mmcv.cnn import NonLocal3d

        norm = dict(type='BN3d')
        return NonLocal3d(
            setting.width, mode='embedded_gaussian', norm_cfg=norm
        )
    return CGNL3d(setting.width, **setting.block)


def train(
    setting: Setting, task: str, seed: int, data: Features, test: Features,
    steps: int = STEPS,
) -> dict:  # fmt: skip
    """Train a network of two units with the block between them.

    Args:
        setting (Setting): What to train.
        task (str): 'cue' or 'same'.
        seed (int): Of the weights and of the samples.
        data (Features): What it learns.
        test (Features): What it is tested on in the end.
        steps (int): Steps of SGD. Defaults to 800.

    Returns:
        dict: 'accuracy' of the last 100 steps and of 'held out' writers, in
        percent, and the step by which 100 steps in a row, on average, passed
        95 % ('learnt at'; nan: none did).
    """
    torch.manual_seed(seed)
    random = torch.Generator().manual_seed(seed)
    ends = nn.Flatten(), nn.Linear(setting.width, 10)
    first, last = Unit(setting.width), Unit(setting.width)
    pool = nn.AdaptiveAvgPool3d(1)
    block = build_block(setting)
    rest = nn.ModuleList([first, last, *ends])
    groups = [dict(params=rest.parameters())]
    if setting.block is not None:
        rate = LEARNING_RATE * setting.block_rate
        groups.append(dict(params=block.parameters(), lr=rate))
    optimizer = torch.optim.SGD(groups, lr=LEARNING_RATE)
    # The rate falls in the last quarter, so that no late spike decides.
    schedule = LambdaLR(optimizer, lambda step: min(1, 4 - 4 * step / steps))
    network = nn.Sequential(first, block, last, pool, *ends)
    right = []
    for _ in range(steps):
        x, classes = data.draw(task, BATCH, random)
        scores = network(x)
        optimizer.zero_grad()
        cross_entropy(scores, classes).backward()
        optimizer.step()
        schedule.step()
        right.append((scores.argmax(1) == classes).float().mean().item())
    course = 100 * pd.Series(right).rolling(min(LAST, steps)).mean()
    network.eval()
    x, classes = test.draw(task, TESTED, random)
    with torch.no_grad():
        held_out = (network(x).argmax(1) == classes).float().mean().item()
    learnt = course.index[course >= 95]
    values = course.iloc[-1], 100 * held_out, learnt.min() + 1
    return {name: round(float(v), 2) for name, v in zip(RESULTS, values)}


def run_study(
    out: Path, only: re.Pattern, seeds: int = 5, steps: int = STEPS
) -> None:
    """Train what is missing of the study, and write its results.

    ``OUT/start.csv`` gets a line after each training; a line that is there
    is not trained again. The table and the figure are of all its lines.

    Args:
        out (Path): The folder; it must exist.
        only (Pattern): Found in the names of the settings to train.
        seeds (int): Trainings of each setting and task. Defaults to 5.
        steps (int): Steps of each training. Defaults to 800.

    Raises:
        SetupError: There is nothing to train.
    """
    chosen = {n: s for n, s in SETTINGS.items() if only.search(n)}
    if not chosen:
        raise SetupError(
            f'no setting is called {only.pattern!r}; there are '
            f'{"; ".join(SETTINGS)}'
        )
    if min(seeds, steps) < 1:
        raise SetupError(
            f'{seeds} seeds and {steps} steps: both must be at least 1'
        )
    path = out / 'start.csv'
    rows = pd.read_csv(path).to_dict('records') if path.is_file() else []
    there = {(row['setting'], row['task'], row['seed']) for row in rows}
    facts = environment()
    made_with = dict(commit=facts.get('commit', ''), torch=facts['torch'])
    features = functools.cache(Features)
    # Seed by seed, so that a comparison is whole early.
    for seed, name, task in itertools.product(range(seeds), chosen, TASKS):
        if (name, task, seed) in there:
            continue
        setting = chosen[name]
        parts = (features(setting.width, split) for split in SPLITS)
        found = train(setting, task, seed, *parts, steps)
        row = dict(setting=name, task=task, seed=seed, **found)
        print(*(f'{key} {value}' for key, value in row.items()), flush=True)
        rows.append({**row, **made_with})
        pd.DataFrame(rows).to_csv(path, index=False)
    frame = pd.DataFrame(rows)
    table = summarize(frame)
    table.to_markdown(out / 'start.md', index=False, disable_numparse=True)
    draw(frame).savefig(out / 'start.png', dpi=120)


def summarize(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the line of each setting, as text.

    Args:
        frame (DataFrame): What start.csv holds.
    """
    lines = []
    for name, runs in frame.groupby('setting', sort=False):
        line = dict(setting=name, seeds=str(runs.seed.nunique()))
        for task, found in runs.groupby('task'):
            values, steps = found.accuracy, found['learnt at'].dropna()
            line[f'{task}, %'] = f'{values.mean():.1f}'
            if len(values) > 1:
                line[f'{task}, %'] += f' ({values.min():.1f})'
            line[f'{task} held out, %'] = f'{found["held out"].mean():.1f}'
            line[f'{task} from step'] = (
                f'{steps.median():.0f}' if len(steps) == len(found) else '-'
            )
        lines.append(line)
    return pd.DataFrame(lines).fillna('')


def draw(frame: pd.DataFrame) -> Figure:
    """Draw the accuracy of each run, a panel for each task."""
    names = list(frame.setting.unique())
    figure = Figure((10, 1.2 + 0.22 * len(names)), layout='constrained')
    for axes, task in zip(figure.subplots(1, 2, sharey=True), TASKS):
        runs = frame[frame.task == task]
        axes.plot(runs.accuracy, runs.setting.map(names.index), 'o', alpha=0.5)
        axes.axvline(95, color='gray', linewidth=0.8)
        axes.set(
            title=task,
            xlabel='accuracy of the last 100 steps, %',
            yticks=range(len(names)),
            yticklabels=names,
            ylim=(len(names) - 0.5, -0.5),
        )
        axes.grid(alpha=0.3)
    return figure
