"""The data loader of a training loop, from inside a hook."""

from mmengine.runner import IterBasedTrainLoop, Runner

from ..errors import SetupError


def is_iter_based(runner: Runner) -> bool:
    """Whether the loop takes the data as one endless epoch."""
    return isinstance(runner.train_loop, IterBasedTrainLoop)


def require_not_started(runner: Runner) -> None:
    """Workers that run already would not see what a hook changes.

    Raises:
        SetupError: If they run.
    """
    loop = runner.train_loop
    if is_iter_based(runner) and loop.dataloader_iterator._iterator:
        raise SetupError(
            'the workers of this iteration-based training run already, so '
            'that no hook can change the data. CGNL_MM_COMPAT has to leave '
            "the workaround 'late_workers' on"
        )
