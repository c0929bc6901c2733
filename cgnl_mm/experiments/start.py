"""Study which first state of a block learns a relation of two frames.

The features are those of handwritten digits, in two frames of 4x4 positions.
Only the block mixes the frames: all other layers see one position at a time,
and the average over the positions feeds a linear classifier.
"""

import functools
import itertools
import re
from pathlib import Path

import pandas as pd
import torch
from matplotlib.figure import Figure
from mmcv.cnn import NonLocal3d
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot, pad, unfold
from torch.optim.lr_scheduler import LambdaLR

from ..analysis.environment import environment
from ..blocks import CGNL3d
from ..datasets.generate import load_split
from ..errors import SetupError, require_count

TASKS = ('cue', 'same')
CHANNELS, BATCH, LAST, TESTED = 64, 64, 100, 2000
LEARNING_RATE = 0.05
AUTHOR, WARM = dict(init_std=0.01), dict(norm_weight=0.1)
GN1, BN = dict(type='GN', num_groups=1), dict(type='BN')
BN3D = dict(type='BN3d')  # mmcv's name
GAUSSIAN = dict(mode='embedded_gaussian')
# The class and the arguments of each block; 'rate' is its learning rate over
# that of the other layers.
# fmt: off
SETTINGS = {
    'no block': dict(kind=nn.Identity),
    'NonLocal3d': dict(kind=NonLocal3d, norm_cfg=BN3D, **GAUSSIAN),
    'author': AUTHOR,
    'weight 0': {},
    'weight 0.1': WARM,
    'weight 1': dict(norm_weight=1.0),
    'author, weight 0.1': {**AUTHOR, **WARM},
    'std 0.1, weight 0.1': dict(init_std=0.1, **WARM),
    # Without attention: what the norm alone relates.
    'control, weight 0.1': dict(mode='none', **WARM),
    'GN(1), control, weight 0.1': dict(mode='none', norm_cfg=GN1, **WARM),
    'BN, control, weight 0.1': dict(mode='none', norm_cfg=BN, **WARM),
    'weight 0.1, eps 1e-3': dict(norm_cfg=dict(type='GN', eps=1e-3), **WARM),
    'author, 10 x rate': dict(rate=10.0, **AUTHOR),
    'GN(1), author': dict(norm_cfg=GN1, **AUTHOR),
    'GN(1), weight 0.1': dict(norm_cfg=GN1, **WARM),
    'BN, author': dict(norm_cfg=BN, **AUTHOR),
    'BN, weight 0.1': dict(norm_cfg=BN, **WARM),
    'no norm, weight 0.1': dict(norm_cfg=False, **WARM),
    'Gaussian, weight 0.1': {**GAUSSIAN, **WARM},
    'RBF, weight 1': dict(mode='gaussian_rbf', norm_weight=1.0),
    'learnable, weight 0.1': dict(mode='learnable', **WARM),
}
# fmt: on


def look(images: Tensor) -> Tensor:
    """Return random features (N, 16, 1024) of pictures (N, 8, 8), 0 to 255.

    A position sees the picture through a window of its own, shifted by -1 to
    2 pixels along each axis.
    """
    random = torch.Generator().manual_seed(0)
    maps = torch.randn(64, 1024, generator=random) / 4
    padded = pad(images[:, None].float() / 255, (1, 2, 1, 2))
    return (unfold(padded, 8).mT @ maps).relu()


@functools.cache
def fit_channels(channels: int) -> Tensor:
    """Fit a map (1024, C) of the features by ridge regression.

    The channels are a fixed random map of the scores of the ten digits, as a
    trained stage of a network would give them.
    """
    images, labels = map(torch.as_tensor, load_split('train'))
    inputs = look(images).flatten(0, 1)
    targets = one_hot(labels.repeat_interleave(16)).float()
    gram = inputs.mT @ inputs + torch.eye(1024)
    scores = torch.linalg.solve(gram, inputs.mT @ targets)
    random = torch.Generator().manual_seed(1)
    return scores @ torch.randn(10, channels, generator=random)


@functools.cache
def make_maps(split: str, channels: int) -> tuple[Tensor, Tensor]:
    """Make the maps of a split's digits, and those of the two cues.

    Args:
        split (str): 'train' or 'test'; the test has other writers.
        channels (int): Number of channels C.

    Returns:
        tuple[Tensor, Tensor]: (10, N, C, 4, 4), N samples of each digit, and
        (2, C, 4, 4).
    """
    images, labels = map(torch.as_tensor, load_split(split))
    bars = torch.zeros(2, 8, 8)
    bars[0, :, 2:6] = bars[1, 2:6] = 255
    digits, cues = (
        (look(part) @ fit_channels(channels)).relu().mT.unflatten(2, (4, 4))
        for part in (images, bars)
    )
    count = labels.bincount().min()
    each = [digits[labels == digit][:count] for digit in range(10)]
    return torch.stack(each), cues


def draw_samples(
    split: str,
    task: str,
    channels: int,
    number: int,
    random: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Draw samples of a task.

    In 'cue', one frame shows a digit and the other one of two cues; the class
    is the digit or, behind the second cue, the digit + 5 modulo 10. In
    'same', the class tells whether both frames show one digit.

    Args:
        split (str): 'train' or 'test'.
        task (str): 'cue' or 'same'.
        channels (int): Number of channels C.
        number (int): Number of samples B.
        random (Generator): Source of randomness.

    Returns:
        tuple[Tensor, Tensor]: Maps (B, C, 2, 4, 4) and classes (B,).
    """

    def pick(below: int) -> Tensor:
        return torch.randint(below, (number,), generator=random)

    digits, cues = make_maps(split, channels)
    digit, bit = pick(10), pick(2)
    one = digits[digit, pick(digits.shape[1])]
    if task == 'cue':
        other, classes = cues[bit], (digit + 5 * bit) % 10
    else:
        second = (digit + (1 - bit) * (1 + pick(9))) % 10
        other, classes = digits[second, pick(digits.shape[1])], bit
    swap = pick(2).bool()[:, None, None, None, None]
    frames = torch.stack([one, other], dim=2)
    return torch.where(swap, frames.flip(2), frames), classes


class Unit(nn.Sequential):
    """Add a bottleneck of 1x1 convolutions to a map.

    It starts as the identity, as the units of OpenMMLab's ResNets do
    (``zero_init_residual``).
    """

    def __init__(self, channels: int) -> None:
        super().__init__(
            nn.Conv3d(channels, channels // 4, 1, bias=False),
            nn.BatchNorm3d(channels // 4),
            nn.ReLU(),
            nn.Conv3d(channels // 4, channels, 1, bias=False),
            nn.BatchNorm3d(channels),
        )
        nn.init.zeros_(self[-1].weight)

    def forward(self, x: Tensor) -> Tensor:
        return (x + super().forward(x)).relu()


def train(
    name: str, task: str, seed: int, steps: int, channels: int = CHANNELS
) -> dict:
    """Train a network of two units with the block between them.

    Args:
        name (str): The setting.
        task (str): 'cue' or 'same'.
        seed (int): Of the weights and of the samples.
        steps (int): Steps of SGD.
        channels (int): Channels of the features. Defaults to 64.

    Returns:
        dict: 'accuracy' of the last 100 steps and of 'held out' writers, in
        percent, and the step by which 100 steps in a row, on average, passed
        95 % ('learnt at'; nan: none did).
    """
    torch.manual_seed(seed)
    random = torch.Generator().manual_seed(seed)
    ends = nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(channels, 10)
    first, last = Unit(channels), Unit(channels)
    rest = nn.ModuleList([first, last, *ends])
    setting = {'kind': CGNL3d, 'rate': 1.0, **SETTINGS[name]}
    kind, rate = setting.pop('kind'), LEARNING_RATE * setting.pop('rate')
    block = kind(channels, **setting)
    network = nn.Sequential(first, block, last, *ends)
    optimizer = torch.optim.SGD(rest.parameters(), lr=LEARNING_RATE)
    optimizer.add_param_group(dict(params=block.parameters(), lr=rate))
    # The rate falls in the last quarter, so that no late spike decides.
    schedule = LambdaLR(optimizer, lambda step: min(1, 4 - 4 * step / steps))
    right = []
    for _ in range(steps):
        x, classes = draw_samples('train', task, channels, BATCH, random)
        scores = network(x)
        optimizer.zero_grad()
        cross_entropy(scores, classes).backward()
        optimizer.step()
        schedule.step()
        right.append((scores.argmax(1) == classes).float().mean().item())
    course = 100 * pd.Series(right).rolling(min(LAST, steps)).mean()
    network.eval()
    x, classes = draw_samples('test', task, channels, TESTED, random)
    with torch.no_grad():
        held_out = (network(x).argmax(1) == classes).float().mean().item()
    found = {'accuracy': course.iloc[-1], 'held out': 100 * held_out}
    found['learnt at'] = course.index[course >= 95].min() + 1
    return {key: round(float(value), 2) for key, value in found.items()}


def run_study(
    out: Path, only: re.Pattern, channels: int, seeds: int, steps: int
) -> None:
    """Train what is missing of the study, and write its results.

    ``OUT/start.csv`` gets a line after each training; a line that is there
    is not trained again. The table and the figure are of all its lines.

    Args:
        out (Path): The folder.
        only (Pattern): Found in the names of the settings to train.
        channels (int): Channels of the features, a multiple of 16.
        seeds (int): Trainings of each setting and task.
        steps (int): Steps of each training.

    Raises:
        SetupError: There is nothing to train.
    """
    if channels < 16 or channels % 16:  # 8 groups of half of them
        raise SetupError(f'--channels {channels} must be a multiple of 16')
    require_count('--seeds', seeds)
    require_count('--steps', steps)
    chosen = list(filter(only.search, SETTINGS))
    if not chosen:
        names = '; '.join(SETTINGS)
        raise SetupError(f'--only {only.pattern!r} finds none of {names}')
    out.mkdir(parents=True, exist_ok=True)
    path, facts = out / 'start.csv', environment()
    rows = pd.read_csv(path).to_dict('records') if path.is_file() else []
    key = 'channels', 'setting', 'task', 'seed'
    there = {tuple(row[column] for column in key) for row in rows}
    # Seed by seed, so that a comparison is whole early.
    for seed, name, task in itertools.product(range(seeds), chosen, TASKS):
        values = channels, name, task, seed
        if values in there:
            continue
        row = dict(zip(key, values))
        row.update(train(name, task, seed, steps, channels))
        print(row, flush=True)
        made_with = {key: facts.get(key) for key in ('commit', 'torch')}
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
    keys = ['channels', 'setting']
    for (channels, name), runs in frame.groupby(keys, sort=False):
        line = dict(channels=str(channels), setting=name)
        line['seeds'] = str(runs.seed.nunique())
        for task, found in runs.groupby('task'):
            values, steps = found.accuracy, found['learnt at']
            lowest = f' ({values.min():.1f})' if len(values) > 1 else ''
            line[f'{task}, %'] = f'{values.mean():.1f}{lowest}'
            line[f'{task} held out, %'] = f'{found["held out"].mean():.1f}'
            middle = '-' if steps.hasnans else f'{steps.median():.0f}'
            line[f'{task} from step'] = middle
        lines.append(line)
    return pd.DataFrame(lines).fillna('')


def draw(frame: pd.DataFrame) -> Figure:
    """Draw the accuracy of each run, a panel for each task."""
    size = 10, 1.2 + 0.22 * frame.setting.nunique()
    figure = Figure(size, layout='constrained')
    panels = figure.subplots(1, 2, sharey=True)
    for axes, (task, runs) in zip(panels, frame.groupby('task')):
        for channels, some in runs.groupby('channels'):
            label = f'{channels} channels'
            axes.plot(some.accuracy, some.setting, 'o', alpha=0.5, label=label)
        axes.axvline(95, color='gray', linewidth=0.8)
        axes.set(title=task, xlabel='accuracy of the last 100 steps, %')
        axes.grid(alpha=0.3)
    axes.invert_yaxis()
    entries = axes.get_legend_handles_labels()
    figure.legend(*entries, loc='outside lower center', ncols=3)
    return figure
