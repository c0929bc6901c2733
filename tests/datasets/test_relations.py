from itertools import product

import numpy as np
import pytest
import torch
from scipy.optimize import Bounds, LinearConstraint, milp

from cgnl_mm.datasets.digits import enlarge
from cgnl_mm.datasets.generate import load_split
from cgnl_mm.datasets.moving_digits import DIGIT
from cgnl_mm.datasets.relations import (
    CUE_BOUNDS,
    additive_bound,
    draw_cue,
    draw_parts,
    prepare_relations,
)

PIPELINE = [
    dict(type='VideoCache'),
    dict(type='SampleFrames', clip_len=6, frame_interval=1, num_clips=1),
    dict(type='ArrayDecode'),
]
NUMBERS = dict(num_train=20, num_test=10, num_frames=6, gap=2)
LAWS = {
    'same': lambda first, second: int(first == second),
    'cue': lambda cue, digit: (digit + 5 * cue) % 10,
    'digit': lambda digit, *others: digit,
}


@pytest.fixture(scope='module', params=LAWS)
def made(request, tmp_path_factory):
    """The task, and its data set in a tiny size."""
    root = tmp_path_factory.mktemp('data') / request.param
    prepare_relations(root, task=request.param, **NUMBERS)
    return request.param, root


@pytest.mark.parametrize('split', ['train', 'test'])
def test_files_show_what_the_truth_says_and_the_law_gives_the_class(
    made, split, build
):
    """Each part shows its own picture, of the writers of its split."""
    task, root = made
    truth = np.load(root / f'{split}.npz')
    images, digits = load_split(split)
    data_set = build(
        'mmaction', 'Relations', root, split=split, task=task,
        pipeline=PIPELINE, **NUMBERS,
    )  # fmt: skip
    counts = np.bincount(truth['labels'])
    assert len(data_set) == len(truth['labels']) and np.ptp(counts) == 0
    if task == 'digit':
        frames_of_part = [(frame,) for frame in range(6)]
    else:
        frames_of_part = [(0, 1), (4, 5)]
    for index, label in enumerate(truth['labels']):
        sample = data_set[index]
        shown = truth['shown'][index]
        assert sample['label'] == label == LAWS[task](*shown)
        clip = np.stack(sample['imgs']).astype(float).mean(-1)
        for part, frames in enumerate(frames_of_part):
            picture = truth['pictures'][index, part]
            if picture < 0:
                stamp = draw_cue(shown[part], 2)
            else:
                assert digits[picture] == shown[part]
                stamp = enlarge(images[picture], DIGIT)
            x, y = truth['places'][index, part] - DIGIT // 2
            for frame in frames:
                seen = clip[frame, y : y + DIGIT, x : x + DIGIT]
                assert np.corrcoef(seen.ravel(), stamp.ravel())[0, 1] > 0.9
        if task != 'digit':
            assert clip[2:4].max() < 110  # the ground alone


def test_same_options_same_bytes(tmp_path, digest):
    for name in 'ab':
        prepare_relations(tmp_path / name, 6, 4)
    first, again = (digest(tmp_path / name) for name in 'ab')
    assert first == again
    # no two clips are the same
    assert len(first) == len({*first.values()}) == 6 + 4 + 6


def test_every_frame_is_coded_by_itself(made):
    """The bound counts on it: no trace of a part is in the other's frames."""
    import av

    for path in (made[1] / 'videos').iterdir():
        with av.open(str(path)) as container:
            frames = list(container.decode(video=0))
        assert len(frames) == 6 and all(frame.key_frame for frame in frames)


def test_cues_divide_the_digits(tmp_path):
    with pytest.raises(ValueError, match='divide num_digits=10, got 3'):
        prepare_relations(tmp_path / 'd', task='cue', num_cues=3)


@pytest.mark.parametrize('cues, digits', [(2, 10), (3, 9), (5, 10)])
def test_each_cue_gives_the_digits_another_class(cues, digits):
    rng = np.random.default_rng(0)
    pairs = {
        (label, *draw_parts(rng, label, 'cue', digits, cues))
        for label in np.arange(400) % digits
    }
    assert len(pairs) == digits * cues
    assert all(
        label == (digit + cue * digits // cues) % digits
        for label, cue, digit in pairs
    )


def best_walk(digits: int, levels: int) -> float:
    """Return the best gain of ``same`` over 1 / 2, by dynamic programming.

    docs/relations.md reduces every additive network to a walk of the digits'
    tails from 1 to 0; here they go in steps of 1 / levels, one at a time.
    """
    share = 1 - 1 / digits
    start = (digits,) + (0,) * levels  # digits at 1, ..., at 0
    best = {start: 0.0}
    states = product(range(digits + 1), repeat=levels + 1)
    states = [state for state in states if sum(state) == digits]
    states.sort(key=lambda state: np.dot(state, range(levels + 1)))
    for state in states:
        total = np.dot(state, np.arange(levels, -1, -1)) / levels
        for i in range(levels):
            if not state[i]:
                continue
            ends = np.array([levels - i - 1, levels - i]) / levels
            away = ends - (total - ends[1]) / (digits - 1)
            gain = share * np.diff(away * np.abs(away) / 2)[0]
            after = list(state)
            after[i] -= 1
            after[i + 1] += 1
            best[tuple(after)] = max(
                best.get(tuple(after), 0.0), best[state] + gain
            )
    return best[start[::-1]] / (2 * (digits - 1))


@pytest.mark.parametrize('digits, levels', [(2, 8), (3, 8), (5, 3), (10, 1)])
def test_bound_of_same_is_the_best_walk(digits, levels):
    gain = best_walk(digits, levels)
    assert additive_bound('same', digits) == pytest.approx(0.5 + gain)


def most_right(cues: int) -> int:
    """Return how many pairs of cue and digit an additive network gets right.

    The digits that the cues exchange have classes of their own, so that one
    such set, of as many digits as cues, tells all.
    """
    cells = list(product(range(cues), repeat=2))
    size = len(cells)
    rows = []
    for (i, (cue, digit)), other in product(enumerate(cells), range(cues)):
        label = (cue + digit) % cues
        if other == label:
            continue
        row = np.zeros(3 * size)  # scores of the cues, of the digits; right?
        row[[label * cues + cue, size + label * cues + digit]] = 1
        row[[other * cues + cue, size + other * cues + digit]] = -1
        row[2 * size + i] = -50
        rows.append(row)
    right = np.r_[np.zeros(2 * size), np.ones(size)]
    free = np.where(right, 1, 50)
    found = milp(
        -right,
        integrality=right,
        bounds=Bounds(np.where(right, 0, -50), free),
        constraints=LinearConstraint(np.array(rows), lb=-49),
    )
    return round(-found.fun)


@pytest.mark.parametrize('cues', [
    2, 3, pytest.param(4, marks=pytest.mark.nightly),
    pytest.param(5, marks=pytest.mark.nightly),
])  # fmt: skip
def test_bound_of_cue_is_the_most_pairs_that_are_right(cues):
    assert most_right(cues) == pytest.approx(CUE_BOUNDS[cues] * cues**2)


@pytest.mark.parametrize('task', ['same', 'cue'])
def test_trained_additive_model_is_within_the_bound(task):
    """Train sums of a vector for each part on all pairs, as they are drawn.

    Cross-entropy is convex in the vectors and no digit differs from the
    others, so the training ends at chance between the two answers.
    """
    torch.manual_seed(0)
    pairs = torch.cartesian_prod(
        torch.arange(10 if task == 'same' else 2), torch.arange(10)
    )
    labels = torch.tensor([LAWS[task](*pair) for pair in pairs.tolist()])
    weights = 1 / torch.bincount(labels)[labels] / len(labels.unique())
    parts = torch.nn.Embedding(20, 10)
    optimizer = torch.optim.Adam(parts.parameters(), 0.05)
    index = pairs + (torch.tensor([10, 0]) if task == 'cue' else 0)
    for _ in range(60):
        scores = parts(index).sum(1)
        losses = torch.nn.functional.cross_entropy(
            scores, labels, reduction='none'
        )
        optimizer.zero_grad()
        (weights * losses).sum().backward()
        optimizer.step()
    reached = weights[scores.argmax(1) == labels].sum().item()
    assert reached <= additive_bound(task) + 1e-6
    assert reached > 0.4
