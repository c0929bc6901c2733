"""Workers of an iteration-based loop that start after the hooks.

Symptom: what a hook changes about the training data (its pipeline, its
sampler) has no effect with IterBasedTrainLoop; batches are taken from an
InfiniteSampler before training begins.

Versions: mmengine <= 0.10.7. The loop starts its workers when it is built,
before the first hook runs; EpochBasedTrainLoop starts them in each epoch.

Upstream: not reported.

Cure: they start when the first batch is asked for.

Delete when: mmengine does so.
"""

from types import ModuleType
from typing import Optional

from .after_import import after_import
from .workaround import Workaround


def not_needed() -> Optional[str]:
    return None


def _mend(module: ModuleType) -> None:
    iterator = module._InfiniteDataloaderIterator
    following = iterator.__next__

    def __init__(self, dataloader):
        self._dataloader = dataloader
        self._iterator = None
        self._epoch = 0

    def __next__(self):
        if self._iterator is None:
            self._iterator = iter(self._dataloader)
        return following(self)

    iterator.__init__ = __init__
    iterator.__next__ = __next__


def apply() -> None:
    after_import('mmengine.runner.loops', _mend)


WORKAROUND = Workaround(
    name='late_workers',
    symptom='hooks cannot change the data of an iteration-based training',
    versions='mmengine <= 0.10.7',
    upstream='not reported',
    not_needed=not_needed,
    apply=apply,
)
