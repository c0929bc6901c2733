"""Tell blocks how many frames of a clip stand in the batch of a call.

mmaction2's Recognizer2D (TSN, TSM) gives samples (N, T, 3, H, W) to its
backbone as N * T images, so the backbone never learns T. In a test, T counts
crops and clips, too.
"""

from typing import Iterator, Optional, Union

from torch import nn

from ..errors import ConfigError


def takes_frames(kind: Union[type, str]) -> bool:
    """Tell whether a recognizer takes a video's frames as images (TSN, TSM).

    Args:
        kind (type | str): Class of the network, or its name in a config.
    """
    names = [kind]
    if not isinstance(kind, str):
        names = [base.__name__ for base in kind.__mro__]
    return any(name.endswith('Recognizer2D') for name in names)


def segments_of(network: nn.Module) -> Optional[int]:
    """Return the frames of a clip that layers of a network count on.

    TSM, TIN and TANet have them, as ``num_segments``, and the head of TRN.
    """
    numbers = [getattr(m, 'num_segments', None) for m in network.modules()]
    return max((n for n in numbers if isinstance(n, int)), default=None)


def teach(network: nn.Module) -> None:
    """Let recognizers tell their blocks the frames of a clip of each call.

    A second call has no effect.

    Args:
        network (Module): A recognizer, or what holds some.
    """
    for module in network.modules():
        hooks = module._forward_pre_hooks.values()
        if (
            takes_frames(type(module))
            and not any(isinstance(hook, _Tell) for hook in hooks)
            and any(True for _ in _blocks_of_clips(module))
        ):
            module.register_forward_pre_hook(_Tell(), with_kwargs=True)
            module.register_forward_hook(_forget, always_call=True)


class _Tell:
    """Forward pre-hook of a recognizer.

    It holds no module, so that copies and replicas tell their own blocks.
    """

    trained: Optional[int] = None  # frames of a sample in the last training

    def __call__(self, recognizer: nn.Module, args: tuple, kwargs: dict):
        names = ('inputs', 'data_samples', 'mode')
        call = {'mode': 'tensor', **dict(zip(names, args)), **kwargs}
        total, told = call['inputs'].shape[1], None
        for block in _blocks_of_clips(recognizer):
            frames = given = block.arrangement.frames
            if given is True:
                told = told or self._find(recognizer, total, call)
                frames = block.told_frames = block.last_frames = told
            if total % frames:
                raise ConfigError(
                    f'{type(recognizer).__name__} got samples of {total} '
                    f'frames, which are not whole clips of {frames}; sample '
                    f'whole clips, or change frames={given} of its '
                    f'{type(block).__name__}'
                )
        if call['mode'] == 'loss':
            self.trained = total

    def _find(self, recognizer: nn.Module, total: int, call: dict) -> int:
        """Find how many of a sample's frames are one clip."""
        samples = call.get('data_samples') or ()
        found = [sample.metainfo for sample in samples]
        clips = {(m.get('clip_len'), m.get('num_clips')) for m in found}
        ((length, number),) = clips if len(clips) == 1 else ((None, None),)
        number = number if length == 1 else length
        test_cfg = getattr(recognizer, 'test_cfg', None) or {}
        predicts = call['mode'] == 'predict'
        told = [segments_of(recognizer), number]
        if predicts:
            told.append(test_cfg.get('num_segs'))
        if not predicts or total == self.trained:
            told.append(total)
        frames = next(filter(None, told), None)
        if frames is None:
            raise ConfigError(
                f'frames=True: {type(recognizer).__name__} cannot tell the '
                f'frames of a clip from crops and clips in a test sample of '
                f"{total} frames; add 'clip_len' and 'num_clips' to the "
                'meta_keys of PackActionInputs in the test pipeline, or give '
                'the model test_cfg=dict(num_segs=...)'
            )
        return frames


def _forget(recognizer: nn.Module, args: tuple, output) -> None:
    """Let no later call of the backbone alone use a number of this one."""
    for block in _blocks_of_clips(recognizer):
        block.told_frames = None


def _blocks_of_clips(network: nn.Module) -> Iterator[nn.Module]:
    for module in network.modules():
        arrangement = getattr(module, 'arrangement', None)
        if getattr(arrangement, 'frames', None):
            yield module
