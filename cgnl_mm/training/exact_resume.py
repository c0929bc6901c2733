"""Let a resumed run compute what an uninterrupted one would."""

from mmengine.dist import get_rank, get_world_size
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from ..datasets.seeded import SeededBatchSampler, seed_everything
from .config_changes import warn_of_changes
from .loaders import is_iter_based, start_workers_late

KEY = 'exact_resume'


@HOOKS.register_module()
class ExactResumeHook(Hook):
    """Go on with ``--resume`` as if nothing had happened.

    ::

        custom_hooks = [dict(type='ExactResumeHook')]

    MMEngine restores weights, optimizer, schedules and logs. It restores
    neither the random numbers (augmentation, dropout), nor the place within
    an epoch, nor an evaluation that was cut off. An iteration-based run
    decodes all that it was trained on again. With the hook

    - random numbers depend on the seed, the rank and the number of the
      batch alone: not on the workers, nor on what came before;
    - a checkpoint of mid-epoch is taken up at the next batch; what comes
      before it is not decoded;
    - an evaluation that was due and not finished comes first.

    So the weights of a resumed run equal those of an uninterrupted one, bit
    for bit where the operators are deterministic (CPU; on a GPU with
    ``--deterministic``), with the same number of processes and batch size.
    With another one the place is found by the number of samples, and a
    warning says so. Another warning shows the settings that differ from the
    checkpoint's. The hook costs about 20 us a batch. The seed is that of
    ``randomness`` or, if there is none, of the checkpoint.

    Samples of an iterable data set have no number and stay as they are.
    """

    # after DistSamplerSeedHook, before CheckpointHook
    priority = 'BELOW_NORMAL'

    def __init__(self) -> None:
        self._loaded = self._seed = None  # of the checkpoint
        self._done = 0  # batches of this epoch
        self._validated = -1  # iteration of the last finished evaluation
        self._sampler = None
        start_workers_late()

    # what a checkpoint tells

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        checkpoint[KEY] = dict(
            batches_done=self._done,
            samples_per_step=_samples_per_step(runner),
            validated=self._validated,
        )

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        if not runner._resume:
            return
        warn_of_changes(runner, checkpoint)
        self._loaded = checkpoint.get(KEY)
        self._seed = self._loaded and checkpoint['meta'].get('seed')
        if self._loaded is None:
            runner.logger.warning(
                'ExactResumeHook: the checkpoint was written without it; '
                'the run goes on at the beginning of an epoch'
            )

    # where to begin

    def before_train(self, runner: Runner) -> None:
        loader = runner.train_dataloader
        if loader.batch_sampler is None:
            runner.logger.warning(
                'ExactResumeHook: a data set without indices; random numbers '
                'and place are not restored'
            )
            return
        self._sampler = SeededBatchSampler(
            loader.batch_sampler, (runner.seed, get_rank(), 0)
        )
        # DataLoader refuses the assignment; a loader built anew would lack
        # batch_size and sampler, which MMEngine and the hosts read
        loader.__dict__['batch_sampler'] = self._sampler
        sampler = loader.batch_sampler.sampler
        # it was built before the checkpoint's seed was known
        if self._seed is not None and not _has_seed_of_rank(runner):
            if getattr(sampler, 'seed', None) is not None:
                sampler.seed = self._seed

    def before_train_epoch(self, runner: Runner) -> None:
        self._finish_validation(runner)
        loaded, self._loaded = self._loaded, None
        if self._sampler is None:
            return
        loop = runner.train_loop
        if is_iter_based(runner):
            skipped = self._converted(runner, loaded, loop.iter)
            self._sampler.epoch, self._sampler.start = 0, skipped
            loop.dataloader_iterator.skipped = loop.iter
            return
        self._sampler.epoch = loop.epoch
        done = loaded['batches_done'] if loaded else 0
        skipped = self._converted(runner, loaded, done)
        self._sampler.start = self._done = skipped
        if skipped:
            runner.logger.info(
                f'epoch {loop.epoch + 1} goes on after batch {skipped} of '
                f'{len(loop.dataloader)}'
            )
            # MMEngine counts an epoch's batches from 0 and asks no hook
            run_iter = loop.run_iter
            loop.run_iter = lambda idx, batch: run_iter(idx + skipped, batch)

    def before_train_iter(self, runner: Runner, **kwargs) -> None:
        rank = get_rank() if _has_seed_of_rank(runner) else 0
        seed_everything(runner.seed, rank, 1, runner.iter)

    def after_train_iter(self, runner, batch_idx: int, **kwargs) -> None:
        self._done = batch_idx + 1

    def after_train_epoch(self, runner: Runner) -> None:
        self._done = 0
        runner.train_loop.__dict__.pop('run_iter', None)

    def after_val_epoch(self, runner: Runner, metrics=None) -> None:
        self._validated = runner.iter

    def after_train(self, runner: Runner) -> None:
        self._finish_validation(runner)  # of a run that was through
        self._loaded = None

    def _finish_validation(self, runner: Runner) -> None:
        loop, loaded = runner.train_loop, self._loaded
        if loaded is None or runner.val_loop is None:
            return
        self._validated = loaded['validated']
        loop._decide_current_val_interval()
        at, last = loop.epoch, loop.max_epochs
        if is_iter_based(runner):
            at, last = loop.iter, loop.max_iters
        elif loaded['batches_done']:
            return
        is_due = at % loop.val_interval == 0 or at == last
        if (
            at >= max(1, loop.val_begin)
            and is_due
            and (self._validated != loop.iter)
        ):
            runner.logger.info('the evaluation that was cut off comes first')
            runner.val_loop.run()

    def _converted(self, runner: Runner, loaded, batches: int) -> int:
        """Return how many batches of now hold the samples of those then."""
        now = _samples_per_step(runner)
        then = loaded['samples_per_step'] if loaded else now
        if now == then or not batches:
            return batches
        runner.logger.warning(
            f'a step takes {now} samples, before the checkpoint it took '
            f'{then}: the run goes on at the same number of samples, but '
            'computes other batches than it would have'
        )
        return batches * then // now


def _has_seed_of_rank(runner: Runner) -> bool:
    return bool(runner._randomness_cfg.get('diff_rank_seed'))


def _samples_per_step(runner: Runner) -> int:
    batch_sampler = runner.train_dataloader.batch_sampler
    return getattr(batch_sampler, 'batch_size', 1) * get_world_size()
