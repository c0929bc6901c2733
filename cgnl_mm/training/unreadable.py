"""Training that goes on past files which cannot be read."""

import os.path as osp
from collections import Counter
from typing import Dict

from mmengine import dist
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from ..datasets.unreadable import GuardedPipeline, guard, leaves
from ..errors import TooManyUnreadableError, csv_field, printable
from .loaders import is_iter_based, start_workers_late


@HOOKS.register_module()
class UnreadableDataHook(Hook):
    """Skip unreadable files in training, report them, stop at too many.

    A sample whose file is missing, empty or broken gives way to another one,
    as MMEngine provides for a pipeline that returns None. Every such file is
    reported once, with its reason, by whichever process met it, and listed
    once in that one's ``<log folder>/unreadable_<rank>.txt``. In validation
    and testing an unreadable file is an error that names it. Works for the
    data sets of all three hosts, and for those inside wrappers.

    ::

        custom_hooks = [dict(type='UnreadableDataHook', limit=0.02)]

    Args:
        limit (float): Share of the training samples above which the run
            stops. Defaults to 0.02.
        interval (int): Iterations between two looks at what the workers
            reported. Defaults to 50.

    Raises:
        ValueError: If limit is not in [0, 1) or interval not positive.
        TooManyUnreadableError: In training, above the limit.
    """

    priority = 'VERY_LOW'

    def __init__(self, limit: float = 0.02, interval: int = 50) -> None:
        if not 0 <= limit < 1:
            raise ValueError(f'limit must be in [0, 1), got {limit}')
        if interval < 1:
            raise ValueError(f'interval must be at least 1, got {interval}')
        self.limit, self.interval = limit, interval
        self.reasons: Dict[str, str] = {}
        self._log = None
        start_workers_late()

    def before_train(self, runner: Runner) -> None:
        self.total = sum(map(len, leaves(runner.train_dataloader.dataset)))
        path = osp.join(runner.log_dir, 'unreadable_{}.txt')
        self._lists = path.format(0 if dist.get_world_size() == 1 else '*')
        self._log = FaultLog(
            path.format(dist.get_rank()),
            self.limit,
            self.total,
        )

    def before_train_epoch(self, runner: Runner) -> None:
        # in each: a hook may put another pipeline in, as mmdet's
        # PipelineSwitchHook does
        for data_set in leaves(runner.train_dataloader.dataset):
            if not isinstance(data_set.pipeline, GuardedPipeline):
                guard(data_set, self._log)

    def before_val(self, runner: Runner) -> None:
        _name_broken_files(runner.val_dataloader)
        # its epoch ends with the run
        if self._log is not None and is_iter_based(runner):
            self._summarize(runner, f'iteration {runner.iter}')

    def before_test(self, runner: Runner) -> None:
        _name_broken_files(runner.test_dataloader)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch=None, outputs=None
    ) -> None:
        if self.every_n_train_iters(runner, self.interval):
            self._check(len(self._report(runner)))

    def after_train_epoch(self, runner: Runner) -> None:
        if is_iter_based(runner):
            self._summarize(runner, f'iteration {runner.iter}')
        else:
            self._summarize(runner, f'epoch {runner.epoch + 1}')

    def _summarize(self, runner: Runner, place: str) -> None:
        everyone = self._report(runner)
        if everyone:
            kinds = Counter(
                reason.partition(':')[0] for reason in everyone.values()
            )
            # MMEngine's logger drops a warning that it has given before
            runner.logger.warning(
                f'{place}: {len(everyone)} of {self.total} training samples '
                f'({len(everyone) / self.total:.2%}) could not be read so '
                'far: '
                + ', '.join(f'{n} {kind}' for kind, n in kinds.most_common())
                + f'; listed in {self._lists}'
            )
        self._check(len(everyone))

    def _report(self, runner: Runner) -> Dict[str, str]:
        """Log what is new in any process; return all reasons by path."""
        for found in dist.all_gather_object(self._log.read()):
            for path, reason in found.items():
                if path not in self.reasons:
                    self.reasons[path] = reason
                    # on the main process alone, as every warning
                    runner.logger.warning(f'skipped: {path}: {reason}')
        return self.reasons

    def _check(self, count: int) -> None:
        if count > self.limit * self.total:
            _stop(count, self.total, self.limit, self._lists)


def _stop(count: int, total: int, limit: float, path: str) -> None:
    raise TooManyUnreadableError(
        f'{count} of {total} training samples cannot be read, more than '
        f'{limit:.2%}: see {path}. Repair them, take them out of the '
        'annotation file, or raise `limit` of UnreadableDataHook'
    )


class FaultLog:
    """A file to which the workers of a process add what they skip.

    Args:
        path (str): The file.
        limit (float): Share of the samples that may be at fault.
        total (int): Number of samples.
    """

    def __init__(self, path: str, limit: float, total: int) -> None:
        self.path, self.limit, self.total = path, limit, total
        self.seen = set()

    def __call__(self, path: str, reason: str) -> None:
        path = csv_field(printable(path))
        if path in self.seen:
            return
        # other workers, and those of earlier epochs, have listed theirs
        self.seen.update(self.read())
        if path not in self.seen:
            self.seen.add(path)
            # short lines appended in one write stay whole
            with open(self.path, 'a', encoding='utf-8') as file:
                file.write(f'{path}\t{csv_field(printable(reason))}\n')
        if len(self.seen) > self.limit * self.total:
            # or MMEngine would look for a readable one 1000 times
            _stop(len(self.seen), self.total, self.limit, self.path)

    def read(self) -> Dict[str, str]:
        """Reason by path; the first of each."""
        found = {}
        if osp.isfile(self.path):
            with open(self.path, encoding='utf-8') as file:
                for line in file:
                    path, _, reason = line.rstrip('\n').partition('\t')
                    found.setdefault(path, reason)
        return found


def _name_broken_files(loader) -> None:
    for data_set in leaves(loader.dataset):
        if not isinstance(data_set.pipeline, GuardedPipeline):
            guard(data_set)
