"""Make features of handwritten digits in two frames, and tasks on them."""

import functools

import torch
from torch import Tensor
from torch.nn.functional import one_hot, pad, unfold

from ..datasets.generate import load_split

TASKS = ('cue', 'same')


def look(images: Tensor) -> Tensor:
    """Return random features (N, 16, 1024) of pictures (N, 8, 8), 0 to 255.

    A position sees the picture through a window of its own, shifted by -1 to
    2 pixels along each axis.
    """
    random = torch.Generator().manual_seed(0)
    maps = torch.randn(64, 1024, generator=random) / 4
    padded = pad(images[:, None].float() / 255, (1, 2, 1, 2))
    return (unfold(padded, 8).mT @ maps).relu()


@functools.cache
def fit_scores() -> Tensor:
    """Fit scores (1024, 10) of the digits by ridge regression."""
    images, labels = map(torch.as_tensor, load_split('train'))
    inputs = look(images).flatten(0, 1)
    targets = one_hot(labels.repeat_interleave(16)).float()
    gram = inputs.mT @ inputs + torch.eye(1024)
    return torch.linalg.solve(gram, inputs.mT @ targets)


class Features:
    """Hold the features of the digits of a split, and of the two cues.

    The channels are a fixed random map of the scores of the ten digits, with
    a ReLU, as a trained stage of a network would give them.

    Args:
        width (int): Channels C.
        split (str): 'train' or 'test'; the test has other writers.

    Attributes:
        digits (Tensor): (10, N, C, 4, 4), N samples of each digit.
        cues (Tensor): (2, C, 4, 4).
    """

    def __init__(self, width: int, split: str) -> None:
        random = torch.Generator().manual_seed(1)
        channels = fit_scores() @ torch.randn(10, width, generator=random)
        images, labels = map(torch.as_tensor, load_split(split))
        bars = torch.zeros(2, 8, 8)
        bars[0, :, 2:6] = bars[1, 2:6] = 255
        found, self.cues = (
            (look(part) @ channels).relu().mT.reshape(-1, width, 4, 4)
            for part in (images, bars)
        )
        count = labels.bincount().min()
        self.digits = torch.stack(
            [found[labels == digit][:count] for digit in range(10)]
        )

    def draw(
        self, task: str, number: int, random: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Draw samples of a task.

        In 'cue', one frame shows a digit and the other one of two cues; the
        class is the digit or, behind the second cue, the digit + 5 modulo
        10. In 'same', the class tells whether both frames show one digit.

        Args:
            task (str): 'cue' or 'same'.
            number (int): Number of samples B.
            random (Generator): Source of randomness.

        Returns:
            tuple[Tensor, Tensor]: Features (B, C, 2, 4, 4) and classes (B,).
        """

        def pick(below: int) -> Tensor:
            return torch.randint(below, (number,), generator=random)

        samples = self.digits.shape[1]
        digit, bit = pick(10), pick(2)
        one = self.digits[digit, pick(samples)]
        if task == 'cue':
            other, classes = self.cues[bit], (digit + 5 * bit) % 10
        else:
            second = (digit + (1 - bit) * (1 + pick(9))) % 10
            other, classes = self.digits[second, pick(samples)], bit
        swap = pick(2).bool()[:, None, None, None, None]
        frames = torch.stack([one, other], dim=2)
        return torch.where(swap, frames.flip(2), frames), classes
