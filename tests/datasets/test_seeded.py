"""What a sample draws depends on its batch, not on who loads it."""

import pickle
import random
from itertools import chain, islice, repeat

import numpy as np
import pytest
import torch
from mmengine.dataset import DefaultSampler, InfiniteSampler
from torch.utils.data import BatchSampler, DataLoader, Dataset

from cgnl_mm.datasets.seeded import (
    SeededBatchSampler,
)


class Draws(Dataset):
    """Three random numbers a sample, of the three generators."""

    def __len__(self):
        return 20

    def __getitem__(self, index):
        return torch.tensor(
            [index, random.random(), np.random.rand(), torch.rand(1).item()]
        )


def epochs(count, start=0, seed=(1, 0, 0), **options):
    """The batches of some epochs, the first of them begun at ``start``."""
    sampler = DefaultSampler(Draws(), shuffle=True, seed=5)
    batches = SeededBatchSampler(BatchSampler(sampler, 4, False), seed)
    loader = DataLoader(Draws(), batch_sampler=batches, **options)
    found = []
    for epoch in range(count):
        batches.epoch = epoch
        if epoch == 0:
            batches.start = start
        random.seed()
        np.random.seed()
        torch.seed()
        found.append(list(loader))
    return found


def assert_equal(one, other):
    assert len(one) == len(other)
    for a, b in zip(one, other):
        assert torch.equal(torch.stack(a), torch.stack(b))


@pytest.mark.parametrize(
    'options',
    [
        dict(num_workers=1),
        dict(num_workers=3),
        dict(num_workers=2, persistent_workers=True),
    ],
    ids=str,
)
def test_workers_do_not_matter(options):
    assert_equal(epochs(2), epochs(2, **options))


def test_begins_in_mid_epoch():
    whole = epochs(2)
    for workers in (0, 2):
        begun = epochs(2, start=3, num_workers=workers)
        assert_equal(begun, [whole[0][3:], whole[1]])


def test_all_numbers_differ():
    """Between samples, batches, epochs, ranks and seeds."""
    runs = [epochs(2, seed=s) for s in ((1, 0, 0), (1, 1, 0), (2, 0, 0))]
    drawn = torch.cat([torch.cat(e) for run in runs for e in run])[:, 1:]
    assert len(drawn) == 3 * 2 * 20
    for column in drawn.T:
        assert len(column.unique()) == len(column)


def batches_from(skipped, count, kind):
    sampler = kind(Draws(), shuffle=True, seed=5)
    sampler = BatchSampler(sampler, 4, False)
    batches = SeededBatchSampler(sampler, (1,), endless=True)
    batches.start = skipped
    passes = chain.from_iterable(repeat(batches))
    found = islice(passes, count - skipped)
    return [(list(batch), batch.seed) for batch in found]


@pytest.mark.parametrize('kind', [DefaultSampler, InfiniteSampler])
def test_begins_some_epochs_later(kind):
    """As _InfiniteDataloaderIterator does, whatever is left out."""
    whole = batches_from(0, 17, kind)
    assert len({str(x) for x in whole}) == 17
    for skipped in (1, 4, 5, 6, 10, 16):
        assert batches_from(skipped, 17, kind) == whole[skipped:]


def test_begins_in_an_empty_sampler():
    sampler = BatchSampler([], 4, False)
    batches = SeededBatchSampler(sampler, (1,), endless=True)
    batches.start = 3
    assert list(batches) == []


def test_looks_like_the_batch_sampler_inside():
    inner = BatchSampler(range(10), 4, True)
    batches = pickle.loads(pickle.dumps(SeededBatchSampler(inner, (1,))))
    assert (len(batches), batches.batch_size) == (2, 4)
    assert batches.drop_last
    assert not hasattr(batches, 'nothing')
