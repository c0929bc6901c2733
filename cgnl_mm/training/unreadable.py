"""Train on past files that cannot be read."""

import os.path as osp
from typing import Dict

from mmengine import dist
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from ..datasets.decode import list_kinds
from ..datasets.unreadable import guard_loader, leaves
from ..errors import (
    ConfigError,
    TooManyUnreadableError,
    csv_field,
    printable,
)
from .loaders import is_iter_based, start_workers_late

INTERVAL = 50  # iterations between two looks at what the workers reported


@HOOKS.register_module()
class UnreadableDataHook(Hook):
    """Skip unreadable files in training, report them, stop at too many.

    A sample whose file is missing, empty or broken gives way to another one,
    as MMEngine provides for a pipeline that returns None. Every such file is
    reported once with its reason, whichever process met it. That process
    lists it once in ``<log folder>/unreadable_<rank>.txt``. In validation
    and testing an unreadable file is an error that names it. The hook works
    for the data sets of all three hosts, and for those inside wrappers.

    ::

        custom_hooks = [dict(type='UnreadableDataHook', limit=0.02)]

    Args:
        limit (float): Share of the training samples above which the run
            stops. Defaults to 0.02.

    Raises:
        ConfigError: If limit is not in [0, 1).
        TooManyUnreadableError: In training, above the limit.
    """

    priority = 'VERY_LOW'

    def __init__(self, limit: float = 0.02) -> None:
        if not isinstance(limit, (int, float)) or not 0 <= limit < 1:
            raise ConfigError(
                f'UnreadableDataHook: limit is a share of the samples, from 0 '
                f'to below 1, got {limit!r}'
            )
        self.limit = limit
        self.reasons: Dict[str, str] = {}
        self._log = None
        start_workers_late()

    def before_train(self, runner: Runner) -> None:
        self.total = sum(map(len, leaves(runner.train_dataloader.dataset)))
        path = osp.join(runner.log_dir, 'unreadable_{}.txt').format
        self._lists = path(0 if dist.get_world_size() == 1 else '*')
        self._log = FaultLog(path(dist.get_rank()), self.limit, self.total)

    def before_train_epoch(self, runner: Runner) -> None:
        # mmdet's PipelineSwitchHook may have put another pipeline in
        guard_loader(runner.train_dataloader, self._log)

    def before_val(self, runner: Runner) -> None:
        guard_loader(runner.val_dataloader)
        # its epoch ends with the run
        if self._log is not None and is_iter_based(runner):
            self._summarize(runner)

    def before_test(self, runner: Runner) -> None:
        guard_loader(runner.test_dataloader)

    def after_train_iter(self, runner: Runner, **kwargs) -> None:
        if self.every_n_train_iters(runner, INTERVAL):
            self._log.check(len(self._report(runner)), self._lists)

    def after_train_epoch(self, runner: Runner) -> None:
        self._summarize(runner)

    def _summarize(self, runner: Runner) -> None:
        place = f'epoch {runner.epoch + 1}'
        if is_iter_based(runner):
            place = f'iteration {runner.iter}'
        everyone = self._report(runner)
        if everyone:
            # MMEngine's logger drops a warning that it has given before
            runner.logger.warning(
                f'{place}: {len(everyone)} of {self.total} training samples '
                f'({len(everyone) / self.total:.2%}) could not be read so '
                f'far: {list_kinds(everyone.values())}; '
                f'listed in {self._lists}'
            )
        self._log.check(len(everyone), self._lists)

    def _report(self, runner: Runner) -> Dict[str, str]:
        """Log what is new in any process; return all reasons by path."""
        for found in dist.all_gather_object(self._log.read()):
            for path, reason in found.items():
                if path not in self.reasons:
                    self.reasons[path] = reason
                    # on the main process alone, as every warning
                    runner.logger.warning(f'skipped: {path}: {reason}')
        return self.reasons


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
        # or MMEngine would look for a readable one 1000 times
        self.check(len(self.seen), self.path)

    def check(self, count: int, path: str) -> None:
        """Raise TooManyUnreadableError if the limit is exceeded."""
        if count > self.limit * self.total:
            raise TooManyUnreadableError(
                f'{count} of {self.total} training samples cannot be read, '
                f'more than {self.limit:.2%}: see {path}. Repair them, take '
                'them out of the annotation file, or raise `limit` of '
                'UnreadableDataHook'
            )

    def read(self) -> Dict[str, str]:
        """Return the first reason by path."""
        found = {}
        if osp.isfile(self.path):
            with open(self.path, encoding='utf-8') as file:
                for line in file:
                    path, _, reason = line.rstrip('\n').partition('\t')
                    found.setdefault(path, reason)
        return found
