"""Compare a checkpoint with the network that a config builds.

MMEngine loads what fits and leaves the rest at random.
"""

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import CheckpointLoader, Runner
from torch import nn

from ..checkpoints import dataset_meta
from ..errors import SetupError
from ..training.start import require_start


def find_misfits(model: nn.Module, loaded: dict, part: str = '') -> list[str]:
    """Name the weights in which a network and a checkpoint differ.

    Args:
        model (Module): The network; may be wrapped.
        loaded (dict): A checkpoint, or its state dict.
        part (str): The beginning of the names of weights that the network
            must not lack. Defaults to '': all of them.
    """
    while is_model_wrapper(model):
        model = model.module
    there = {
        name.removeprefix('module.'): tuple(value.shape)
        for name, value in loaded.get('state_dict', loaded).items()
        if hasattr(value, 'shape')
    }
    here = {name: tuple(v.shape) for name, v in model.state_dict().items()}
    shapes = [
        f'{name} is {there[name]} there and {here[name]} here (num_classes?)'
        for name in here
        if here[name] != there.get(name, here[name])
    ]
    missing = [name for name in here if name not in there]
    extra = [n for n in there if n not in here and n.startswith(part)]
    return [
        *shapes,
        *(f'{name} is not there' for name in filter(_is_learned, missing)),
        *(f'{name} is there only' for name in filter(_is_learned, extra)),
    ]


def _is_learned(name: str) -> bool:
    return not name.endswith('num_batches_tracked') and not name.startswith(
        'data_preprocessor.'
    )


def _refuse(faults: list[str], where: str, way_out: str = '') -> None:
    """Raise SetupError with the first three faults, if there are any."""
    more = f', and {len(faults) - 3} more' if len(faults) > 3 else ''
    if faults:
        raise SetupError(f'{where}: {"; ".join(faults[:3])}{more}{way_out}')


def require_fit(runner: Runner, path: str) -> dict:
    """Raise SetupError where a checkpoint lacks weights, or has others.

    MMEngine warns, and tests what is left at random.

    Returns:
        dict: The ``dataset_meta`` of the checkpoint; {} without one.
    """
    if not isinstance(runner.model, nn.Module):
        return {}  # FlexibleRunner builds it later
    loaded = CheckpointLoader.load_checkpoint(path, map_location='cpu')
    # the weights of a loss or of a teacher are not needed here
    faults = find_misfits(runner.model, loaded, part='backbone.')
    where = f'{path} is of another network than {runner.cfg.filename}'
    _refuse(faults, where)
    return dataset_meta(loaded)


class FitHook(Hook):
    """Refuse to go on with the checkpoint of another network.

    To start from other weights (``load_from``) is what pretraining is for;
    there MMEngine warns. The hook also asks :func:`.require_start`, for a
    config without AtomicCheckpointHook.

    Args:
        path (str): The name of the checkpoint in messages.
    """

    def __init__(self, path: str):
        self.path = path

    def before_train(self, runner):
        require_start(runner)

    def after_load_checkpoint(self, runner, checkpoint):
        if runner.cfg.get('resume'):
            if 'meta' not in checkpoint:
                raise SetupError(
                    f'--resume: {self.path} holds weights alone, from which '
                    'load_from starts a training'
                )
            where = f'{self.path} is of another network than '
            _refuse(
                find_misfits(runner.model, checkpoint),
                f'--resume: {where}{runner.cfg.filename}',
                '. load_from starts from its weights',
            )
