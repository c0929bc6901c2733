"""Batches that know their random seed, so that a run can go on anywhere."""

import random
from typing import Iterator, List

import numpy as np
import torch


def seed_everything(*numbers: int) -> None:
    """Seed Python, NumPy and PyTorch in this process.

    Args:
        *numbers (int): Non-negative; hashed together by NumPy's
            SeedSequence, so that neighbours are independent.
    """
    words = np.random.SeedSequence(numbers).generate_state(4)
    random.seed(int(words[0]))
    np.random.seed(words[1])
    torch.manual_seed(int(words[2]) << 32 | int(words[3]))


class SeededBatch(list):
    """Indices of a batch; whoever iterates over them is seeded first.

    That is the loader's fetcher, in a worker or in the main process: what a
    pipeline draws depends on the batch alone, not on the worker that gets it
    or on what that worker did before.

    Args:
        indices (list): Of the samples.
        seed (tuple): For :func:`seed_everything`.
    """

    def __init__(self, indices: list, seed: tuple) -> None:
        super().__init__(indices)
        self.seed = seed

    def __iter__(self) -> Iterator[int]:
        seed_everything(*self.seed)
        return super().__iter__()

    def __reduce__(self):
        return type(self), (self[:], self.seed)


class SeededBatchSampler:
    """Number the batches of a batch sampler, and begin where asked to.

    Args:
        batch_sampler (BatchSampler): Yields lists of indices.
        seed (tuple): Of the run and the process.
        endless (bool): Whether more batches to leave out than a pass has go
            on in the next pass, as in a loop by iterations. Defaults to
            False.

    Attributes:
        epoch (int): Number of the next pass over the data.
        start (int): Batches to leave out, which are not loaded.
    """

    def __init__(
        self, batch_sampler, seed: tuple, endless: bool = False
    ) -> None:
        self.batch_sampler = batch_sampler
        self.seed = seed
        self.endless = endless
        self.epoch = self.start = 0

    def __len__(self) -> int:
        return len(self.batch_sampler)

    def __getattr__(self, name: str):
        if name == 'batch_sampler':  # while it is unpickled
            raise AttributeError(name)
        return getattr(self.batch_sampler, name)

    def __iter__(self) -> Iterator[List[int]]:
        start, self.start = self.start, 0
        sampler = getattr(self.batch_sampler, 'sampler', None)
        while True:
            # one pass of the sampler, no look ahead: InfiniteSampler goes on
            # where it was, and ends for good when its iterator is dropped
            if hasattr(sampler, 'set_epoch'):
                sampler.set_epoch(self.epoch)
            epoch, taken = self.epoch, 0
            for indices in self.batch_sampler:
                taken += 1
                if taken > start:
                    seed = (*self.seed, epoch, taken - 1)
                    yield SeededBatch(indices, seed)
            self.epoch = epoch + 1
            if not self.endless or not 0 < taken <= start:
                return
            start -= taken
