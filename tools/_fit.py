"""Whether a checkpoint holds the weights of the network that a config builds.

MMEngine loads what fits, and leaves the rest at random.
"""

from typing import NamedTuple


class Misfit(NamedTuple):
    """Keys of a network and of a checkpoint, each with a few words."""

    shapes: 'list[str]'
    missing: 'list[str]'
    extra: 'list[str]'
    nothing_fits: bool


def compare(model, loaded: dict) -> Misfit:
    """Compare names and shapes.

    Args:
        model (Module): The network; may be wrapped.
        loaded (dict): A checkpoint, or its state dict.

    Returns:
        Misfit: What differs.
    """
    from mmengine.model import is_model_wrapper

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


def first_of(faults: 'list[str]') -> str:
    """Three of them in one line, and how many more there are."""
    more = f', and {len(faults) - 3} more' if len(faults) > 3 else ''
    return '; '.join(faults[:3]) + more


def watch(runner, resume: bool, path: str) -> None:
    """Compare what the Runner is going to load, before it is loaded.

    To go on with another network is an error. To start from other weights is
    what pretraining is for, so what they lack is fine; what is dropped of
    them, such as a block, is a warning.

    Args:
        runner (Runner): Built; has not loaded anything yet.
        resume (bool): Whether it is going to resume.
        path (str): What to call the checkpoint.
    """
    from mmengine.hooks import Hook
    from mmengine.runner import Runner

    if type(runner) is not Runner:  # FlexibleRunner may have sharded it
        return

    class FitHook(Hook):
        def after_load_checkpoint(self, runner, checkpoint):
            _judge(runner, compare(runner.model, checkpoint), resume, path)

    # after those that change the checkpoint, as that of an EMA
    runner.register_hook(FitHook(), 'LOWEST')


def _judge(runner, found: Misfit, resume: bool, path: str) -> None:
    from cgnl_mm.errors import SetupError

    config = runner.cfg.filename
    if resume:
        faults = [*found.shapes, *found.missing, *found.extra]
        if faults:
            raise SetupError(
                f'--resume: {path} is of another network than {config}: '
                f'{first_of(faults)}. load_from starts from its weights'
            )
    elif found.nothing_fits:
        runner.logger.warning(
            f'load_from: nothing in {path} has the name of a weight of '
            f'{config}: training starts without it'
        )
    else:
        backbone = [key for key in found.extra if key.startswith('backbone.')]
        for faults, end in (
            (found.shapes, 'stay as initialised'),
            (backbone, 'are dropped: the config has no such part'),
        ):
            if faults:
                runner.logger.warning(
                    f'load_from: not all of {path} fits {config}: '
                    f'{first_of(faults)}. These weights {end}'
                )


def _is_learned(name: str) -> bool:
    return not name.endswith('num_batches_tracked') and not name.startswith(
        'data_preprocessor.'
    )
