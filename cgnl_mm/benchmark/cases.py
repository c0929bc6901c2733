"""Define the inputs over which the forms of a block are measured."""

import math
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Case:
    """Hold one input (batch, channels, *size) and a block's settings."""

    name: str
    batch: int
    channels: int
    size: tuple[int, ...]
    groups: int = 8
    mode: str = 'dot_product'
    order: int = 1

    @property
    def rank(self) -> int:
        return len(self.size)

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.batch, self.channels, *self.size)

    def columns(self) -> dict:
        """Return what a record says about its input."""
        columns = dict(case=self.name, **vars(self))
        columns['size'] = 'x'.join(map(str, self.size))
        columns['positions'] = math.prod(self.size)
        del columns['name']
        return columns


# Channels and positions of the feature maps that a block follows, by network
# and stage. I3D halves the number of frames three times before res3.
SHAPES = {
    'r50_res3_224': (512, (28, 28)),
    'r50_res4_224': (1024, (14, 14)),
    'r50_res3_448': (512, (56, 56)),
    'r50_res4_448': (1024, (28, 28)),
    'i3d_res3_8f': (512, (1, 28, 28)),
    'i3d_res4_8f': (1024, (1, 14, 14)),
    'i3d_res3_32f': (512, (4, 28, 28)),
    'i3d_res4_32f': (1024, (4, 14, 14)),
    'mask_rcnn_res3': (512, (100, 168)),
    'mask_rcnn_res4': (1024, (50, 84)),
}


def block_cases(device: str, quick: bool) -> list[Case]:
    """List the networks' maps in the batches that suit a device."""
    if quick:
        return [
            Case('r50_res4_224_b2', 2, 64, (7, 7)),
            Case('i3d_res4_32f_b1', 1, 64, (2, 5, 5)),
        ]
    classes = (1, 4, 8) if device == 'cpu' else (1, 8, 32)
    detection = (1,) if device == 'cpu' else (1, 2)
    return [
        Case(f'{name}_b{batch}', batch, channels, size)
        for name, (channels, size) in SHAPES.items()
        for batch in (detection if 'mask_rcnn' in name else classes)
    ]


def scaling_cases(device: str, quick: bool) -> list[Case]:
    """Vary one quantity at a time, from 1x512x28x28 in 8 groups."""
    base = Case('', 1, 64, (7, 7)) if quick else Case('', 1, 512, (28, 28))
    # The largest map has 100,489 positions.
    sides = (7, 14) if quick else (7, 14, 28, 56, 112, 224, 317)
    powers = (4, 8) if quick else (1, 2, 4, 8, 16, 32, 64)
    cases = [
        replace(base, name=f'positions={n * n}', size=(n, n)) for n in sides
    ]
    for quantity, values in dict(
        channels=[base.channels * n // 8 for n in powers if n < 64],
        groups=powers,
        order=(1, 3) if quick else range(1, 7),
        batch=[n for n in powers if n < 64],
    ).items():
        mode = 'embedded_gaussian' if quantity == 'order' else base.mode
        cases += [
            replace(base, name=f'{quantity}={n}', mode=mode, **{quantity: n})
            for n in values
        ]
    return cases


def traffic_cases(device: str, quick: bool) -> list[Case]:
    """List a GPU's usual batch, with the two kernels of the author."""
    plain = Case('r50_res4_224_b32', 32, 1024, (14, 14))
    if quick:
        plain = Case('r50_res4_224_b2', 2, 64, (7, 7))
    name = f'{plain.name}_rbf'
    return [plain, replace(plain, name=name, mode='gaussian_rbf', order=3)]
