"""Start a 3D network of mmaction2 from a checkpoint of a whole model.

mmaction2's own way is for checkpoints of a backbone alone, and its inflation
for torchvision's names, through ConvModules. From mmpretrain's checkpoint of
a model it would load nothing, and drop a 2D block.
"""

import functools
from typing import Dict, Tuple

from mmengine.logging import MMLogger
from mmengine.runner import CheckpointLoader
from torch import Tensor, nn

from .initialization import guard, named_blocks

PREFIX = 'backbone.'  # of a backbone's names in the checkpoint of a model
NON_LOCAL = ('.non_local3d_', '.nonlocal_block_')  # mmcv's, in 3D and in 2D


def mend_initialization(kind: type) -> None:
    """Let ``ResNet3d`` find its weights in the checkpoint of a model.

    It then inflates the 2D blocks of the file into its own.
    """
    guard(kind)
    initialise = kind.init_weights

    @functools.wraps(initialise)
    def init_weights(self, *args, **kwargs) -> None:
        handle = self._register_load_state_dict_pre_hook(_strip_prefix)
        try:
            initialise(self, *args, **kwargs)
        finally:
            handle.remove()
        if isinstance(self.pretrained, str) and self.pretrained2d:
            _inflate_blocks(self)

    kind.init_weights = init_weights
    mend_inflation(kind)


def mend_inflation(kind: type) -> None:
    """Let ``inflate_weights`` of a class read the checkpoint of a model."""
    inflate = kind.inflate_weights

    @functools.wraps(inflate)
    def inflate_weights(self, logger: MMLogger) -> None:
        inside = _load_2d(self.pretrained)[1]
        inflate(_Model(self) if inside else self, logger)

    kind.inflate_weights = inflate_weights


class _Model(nn.Module):
    """A backbone under the names that it has in a model."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def __getattr__(self, name: str):
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self._modules['backbone'], name)


def _strip_prefix(state: Dict[str, Tensor], *_) -> None:
    """Give what a model's checkpoint holds the names of the backbone."""
    for key in [key for key in state if key.startswith(PREFIX)]:
        state[key[len(PREFIX) :]] = state.pop(key)


def _load_2d(path: str) -> Tuple[Dict[str, Tensor], str]:
    """Return the state dict of a file, and the backbone's prefix in it."""
    state = CheckpointLoader.load_checkpoint(path, 'cpu', logger='silent')
    state = state.get('state_dict', state)
    found = any(key.startswith(PREFIX) for key in state)
    return state, PREFIX if found else ''


def _inflate_blocks(network: nn.Module) -> None:
    blocks = list(named_blocks(network))
    if not blocks:
        return
    state, prefix = _load_2d(network.pretrained)
    for path, block in blocks:
        start = f'{prefix}{path.replace(*NON_LOCAL)}.'
        state_2d = {
            key[len(start) :]: value
            for key, value in state.items()
            if key.startswith(start)
        }
        if state_2d:
            _inflate_block(block, state_2d, path)


def _inflate_block(
    block: nn.Module, state_2d: Dict[str, Tensor], path: str
) -> None:
    """Load the weights of a 2D block, kernels as in mmaction2's inflation.

    What does not fit stays as it was built, with a warning, as there.

    Args:
        block (nn.Module): Of a 3D network.
        state_2d (dict[str, Tensor]): State dict of the 2D block.
        path (str): What to call the block.
    """
    own = block.state_dict()
    fitting = {}
    for key, value in state_2d.items():
        if key in own and own[key].dim() == value.dim() + 1 == 5:
            frames = own[key].shape[2]
            value = value.unsqueeze(2).repeat(1, 1, frames, 1, 1) / frames
        if key in own and own[key].shape == value.shape:
            fitting[key] = value
    block.load_state_dict(fitting, strict=False)
    logger = MMLogger.get_current_instance()
    logger.info(f'{path}: inflated from the block in the 2D checkpoint')
    rest = [
        key
        for key in sorted({*own, *state_2d} - fitting.keys())
        if not key.endswith('num_batches_tracked')
    ]
    if rest:
        logger.warning(
            f'{path}: not inflated, for being absent from the 2D checkpoint '
            f'or from the block, or of another shape: {", ".join(rest)}'
        )
