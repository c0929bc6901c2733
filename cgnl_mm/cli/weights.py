"""Compare a checkpoint with the network that a config builds.

MMEngine loads what fits and leaves the rest at random.
"""

from typing import NamedTuple

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import CheckpointLoader, Runner
from torch import nn

from ..errors import SetupError
from ..training.start import require_start


class Misfit(NamedTuple):
    """The keys in which a network and a checkpoint differ, in words."""

    shapes: list[str]
    missing: list[str]
    extra: list[str]
    nothing_fits: bool

    @property
    def extra_in_backbone(self) -> list[str]:
        """Keys that the network lacks, without those of heads and losses."""
        return [key for key in self.extra if key.startswith('backbone.')]


def compare(model: nn.Module, loaded: dict) -> Misfit:
    """Compare the names and shapes of weights.

    Args:
        model (Module): The network; may be wrapped.
        loaded (dict): A checkpoint, or its state dict.
    """
    while is_model_wrapper(model):
        model = model.module
    there = {
        name.removeprefix('module.'): tuple(value.shape)
        for name, value in loaded.get('state_dict', loaded).items()
        if hasattr(value, 'shape')
    }
    here = {name: tuple(v.shape) for name, v in model.state_dict().items()}
    return Misfit(
        shapes=[
            f'{name} is {there[name]} there and {here[name]} here '
            '(num_classes?)'
            for name in here
            if name in there and there[name] != here[name]
        ],
        missing=[
            f'{name} is not there'
            for name in here
            if name not in there and _is_learned(name)
        ],
        extra=[
            f'{name} is there only'
            for name in there
            if name not in here and _is_learned(name)
        ],
        nothing_fits=not here.keys() & there.keys(),
    )


def first_of(faults: list[str]) -> str:
    """Join the first three faults and count the others."""
    more = f', and {len(faults) - 3} more' if len(faults) > 3 else ''
    return '; '.join(faults[:3]) + more


def require_fit(runner: Runner, path: str) -> dict:
    """Raise SetupError where a checkpoint lacks weights, or has others.

    MMEngine warns, and tests what is left at random.

    Returns:
        dict: The ``dataset_meta`` of the checkpoint; {} without one.
    """
    if not isinstance(runner.model, nn.Module):
        return {}  # FlexibleRunner builds it later
    loaded = CheckpointLoader.load_checkpoint(path, map_location='cpu')
    found = compare(runner.model, loaded)
    # the weights of a loss or of a teacher are not needed here
    faults = [*found.shapes, *found.missing, *found.extra_in_backbone]
    if faults:
        raise SetupError(
            f'{path} is of another network than {runner.cfg.filename}: '
            + first_of(faults)
        )
    return loaded.get('meta', {}).get('dataset_meta') or {}


class FitHook(Hook):
    """Compare the checkpoint that the Runner is about to load.

    The hook also asks :func:`.require_start`, for a config without
    AtomicCheckpointHook.

    To go on with another network is an error. To start from other weights is
    what pretraining is for, so missing weights are fine; weights that are
    dropped, such as those of a block, are a warning.

    Args:
        resume (bool): Whether the Runner resumes.
        path (str): The name of the checkpoint in messages.
    """

    def __init__(self, resume: bool, path: str):
        self.resume = resume
        self.path = path

    def before_train(self, runner):
        require_start(runner)

    def after_load_checkpoint(self, runner, checkpoint):
        found = compare(runner.model, checkpoint)
        config = runner.cfg.filename
        if self.resume:
            faults = [*found.shapes, *found.missing, *found.extra]
            if faults:
                raise SetupError(
                    f'--resume: {self.path} is of another network than '
                    f'{config}: {first_of(faults)}. load_from starts from '
                    'its weights'
                )
        elif found.nothing_fits:
            runner.logger.warning(
                f'load_from: nothing in {self.path} has the name of a weight '
                f'of {config}: training starts without it'
            )
        else:
            dropped = 'are dropped: the config has no such part'
            for faults, end in (
                (found.shapes, 'stay as initialised'),
                (found.extra_in_backbone, dropped),
            ):
                if faults:
                    runner.logger.warning(
                        f'load_from: not all of {self.path} fits {config}: '
                        f'{first_of(faults)}. These weights {end}'
                    )


def watch(runner: Runner, resume: bool, path: str) -> None:
    """Register a :class:`FitHook`, except where the model may be sharded."""
    if type(runner) is Runner:
        # after the hooks that change the checkpoint, as that of an EMA
        runner.register_hook(FitHook(resume, path), 'LOWEST')


def _is_learned(name: str) -> bool:
    return not name.endswith('num_batches_tracked') and not name.startswith(
        'data_preprocessor.'
    )
