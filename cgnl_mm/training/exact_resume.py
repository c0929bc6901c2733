"""Let a resumed run compute what an uninterrupted one would."""

from mmengine.dist import get_rank, get_world_size
from mmengine.hooks import EarlyStoppingHook, Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from ..datasets.seeded import SeededBatchSampler, seed_everything
from .accumulation import mean_gradients, restore_gradients
from .loaders import is_iter_based, start_workers_late

KEY = 'exact_resume'


@HOOKS.register_module()
class ExactResumeHook(Hook):
    """Go on with ``--resume`` as if nothing had happened.

    ::

        custom_hooks = [dict(type='ExactResumeHook')]

    MMEngine restores weights, optimizer, schedules and logs. It restores
    neither the random numbers (augmentation, dropout), nor the place within
    an epoch, nor an evaluation that was cut off, nor accumulated gradients,
    nor what EarlyStoppingHook has counted. An iteration-based run decodes
    all that it was trained on again. With the hook

    - random numbers depend on the seed, the rank and the number of the
      batch alone: not on the workers, nor on what came before;
    - a checkpoint of mid-epoch is taken up at the next batch; what comes
      before it is not decoded;
    - an evaluation that was due and not finished comes first;
    - a checkpoint inside a group of ``accumulative_counts`` iterations
      holds the group's gradients: one copy of them, for all processes;
    - EarlyStoppingHook goes on counting, and a run that it ended is over.

    So the weights of a resumed run equal those of an uninterrupted one, bit
    for bit where the operators are deterministic (CPU; on a GPU with
    ``randomness=dict(deterministic=True)``), with the same number of
    processes and batch size.
    In several processes, gradients inside a group are equal up to rounding.
    With another number, or other data, the place is found by the number of
    samples, and a warning says so. The hook costs about 20 us a batch. The
    seed is that of ``randomness`` or, if there is none, of the checkpoint.

    Samples of an iterable data set have no number and stay as they are.
    """

    # after DistSamplerSeedHook, before CheckpointHook
    priority = 'BELOW_NORMAL'

    def __init__(self) -> None:
        self._loaded = self._seed = None  # of the checkpoint
        self._done = 0  # batches of this epoch
        self._validated = -1  # iteration of the last finished evaluation
        self._sampler = None
        self._gradients = {}  # of the save that is under way
        start_workers_late()

    def before_run(self, runner: Runner) -> None:
        # a checkpoint after an evaluation holds what that one has changed
        place = runner.hooks.index(self) + 1
        later = sorted(
            runner.hooks[place:],
            key=lambda hook: not isinstance(hook, EarlyStoppingHook),
        )
        runner._hooks = [*runner.hooks[:place], *later]
        runner.register_hook(_EvaluationFirst(self), 'LOWEST')

    # what a checkpoint tells

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        checkpoint[KEY] = dict(
            batches_done=self._done,
            validated=self._validated,
            **_sizes(runner),
            stopped=getattr(runner.train_loop, 'stop_training', False),
            early_stopping=[
                (hook.wait_count, hook.best_score)
                for hook in _early_stopping_hooks(runner)
            ],
        )
        if 'optimizer' in checkpoint:
            if get_world_size() == 1:
                self._gradients = mean_gradients(runner)
            checkpoint[KEY]['gradients'] = self._gradients
        self._gradients = {}

    def gather_gradients(self, runner: Runner) -> None:
        """Prepare a save; save_whole asks for it in every process."""
        self._gradients = mean_gradients(runner)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        if not runner._resume:
            return
        self._loaded = checkpoint.get(KEY)
        self._seed = self._loaded and checkpoint['meta'].get('seed')
        if self._loaded is None:
            runner.logger.warning(
                'ExactResumeHook: the checkpoint was written without it; '
                'the run goes on at the beginning of an epoch'
            )

    # where to begin

    def before_train(self, runner: Runner) -> None:
        if self._loaded:
            restore_gradients(runner, self._loaded.get('gradients'))
            self._restore_early_stopping(runner, self._loaded)
        loader = runner.train_dataloader
        if loader.batch_sampler is None:  # a data set without indices
            return
        self._sampler = SeededBatchSampler(
            loader.batch_sampler,
            (runner.seed, get_rank(), 0),
            endless=is_iter_based(runner),
        )
        # DataLoader refuses the assignment; a loader built anew would lack
        # batch_size and sampler, which MMEngine and the hosts read
        loader.__dict__['batch_sampler'] = self._sampler
        sampler = loader.batch_sampler.sampler
        # it was built before the checkpoint's seed was known
        if self._seed is not None and not _has_seed_of_rank(runner):
            if getattr(sampler, 'seed', None) is not None:
                sampler.seed = self._seed

    def _restore_early_stopping(self, runner: Runner, loaded: dict) -> None:
        hooks = _early_stopping_hooks(runner)
        for hook, state in zip(hooks, loaded.get('early_stopping', [])):
            hook.wait_count, hook.best_score = state
        if hooks and loaded.get('stopped'):
            runner.train_loop.stop_training = True
            runner.logger.warning(
                'EarlyStoppingHook has ended this run, so nothing is trained. '
                'To train on, take the hook out of the config'
            )

    def before_train_epoch(self, runner: Runner) -> None:
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
        # an epoch that was through ends at once
        length = len(loop.dataloader)
        skipped = min(self._converted(runner, loaded, done), length)
        self._sampler.start = self._done = skipped
        if skipped:
            runner.logger.info(
                f'epoch {loop.epoch + 1} goes on after batch {skipped} of '
                f'{length}'
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

    def finish_validation(self, runner: Runner) -> None:
        """Evaluate what the checkpoint's run had to, and did not finish."""
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
        now = _sizes(runner)
        then = loaded or now
        sizes, old = (
            f'{x["samples_per_step"]} of {x["samples"]}' for x in (now, then)
        )
        if sizes != old:
            runner.logger.warning(
                f'a step takes {sizes} samples, before the checkpoint it took '
                f'{old}: the run goes on at the same number of samples, but '
                'computes other batches than it would have'
            )
        return batches * then['samples_per_step'] // now['samples_per_step']


class _EvaluationFirst(Hook):
    """Finish an evaluation when every other hook is ready to train.

    It may end the training, which a loop asks before its first epoch.
    """

    def __init__(self, owner: ExactResumeHook) -> None:
        self.owner = owner

    def before_train(self, runner: Runner) -> None:
        self.owner.finish_validation(runner)


def _early_stopping_hooks(runner: Runner) -> list:
    return [h for h in runner.hooks if isinstance(h, EarlyStoppingHook)]


def _has_seed_of_rank(runner: Runner) -> bool:
    return bool(runner._randomness_cfg.get('diff_rank_seed'))


def _sizes(runner: Runner) -> dict:
    loader = runner.train_dataloader
    batch_size = getattr(loader.batch_sampler, 'batch_size', 1)
    data = loader.dataset
    return dict(
        samples_per_step=batch_size * get_world_size(),
        # an iterable one may have no length
        samples=len(data) if hasattr(data, '__len__') else None,
    )
