"""Count what a network runs, and what its inserted blocks run of it.

Convolutions, matrix products and attention count, as in the field, by
PyTorch's FlopCounterMode. It sees the operators that really run, through
whatever control flow a detector has. mmengine's get_model_complexity_info
needs a network that torch.jit can trace. In a CGNL block, additions and
multiplications count, too: they are its attention, where a Non-local block
has matrix products. Norms, activations, pooling and RoIAlign do not count.
"""

import math

import torch
from mmcv.cnn.bricks.non_local import _NonLocalNd
from tabulate import tabulate
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ..blocks.cgnl import _CGNLNd
from ..deploy.model import as_views, random_pixels
from ..errors import SetupError, describe_error
from ..insertion.frames import takes_frames
from ..insertion.initialization import is_block
from ..insertion.places import MARK
from ..visualization.blocks import block_inputs

HEAD = [
    *('part or block', 'type', 'after', 'input', 'parameters'),
    *('multiply-adds', 'FLOPs', 'of parameters', 'of FLOPs'),
]
NOTE = """\
One multiply-add is two FLOPs; OpenMMLab calls multiply-adds FLOPs. A head of a
detector counts for each region, and the image decides how many there are."""


def count_flops(model: nn.Module, shape: tuple[int, ...]) -> dict:
    """Count the parameters and FLOPs of one image or one view of a clip.

    Args:
        model (Module): A network of mmpretrain, mmaction2 or mmdetection, in
            evaluation mode.
        shape (tuple[int, ...]): Size of the input, (H, W) or (T, H, W).

    Returns:
        dict: 'network', a row with name, kind, params and flops; 'parts' and
        'blocks', lists of such rows. A block, inserted or non-local, also has
        the place that it follows ('after') and the 'shape' of its input.

    Raises:
        SetupError: If the network cannot take such an input, or torch is
            older than 2.4.
    """
    blocks = {
        name: module
        for name, module in model.named_modules()
        if is_block(module) or isinstance(module, _NonLocalNd)
    }
    flops, shapes = _run(model, shape, blocks)

    def row(name: str, module: nn.Module) -> dict:
        return dict(
            name=name,
            kind=type(module).__name__,
            params=sum(p.numel() for p in module.parameters()),
            flops=_sum_up(f'.{name}' if name else '', module, flops),
        )

    rows = [row(name, child) for name, child in model.named_children()]
    return dict(
        network=row('', model),
        parts=[part for part in rows if part['params']],
        blocks=[
            dict(
                row(name, block),
                after=getattr(block, MARK, ''),
                shape=shapes[block],
            )
            for name, block in blocks.items()
        ],
    )


def _run(model, shape, blocks) -> tuple[dict, dict]:
    """Run the network once.

    Returns:
        tuple[dict, dict]: FLOPs by the dotted names of modules, '' for the
        network and a dot before all others; input shapes by block.
    """
    root = type(model).__name__
    cgnl = {n: b for n, b in blocks.items() if isinstance(b, _CGNLNd)}
    ours = {f'{root}.{name}' for name in cgnl}

    def size(in_shape, *args, out_shape, **kwargs) -> int:
        """Count one operation an element, inside of a CGNL block alone."""
        if ours.isdisjoint(counter.mod_tracker.parents):
            return 0
        return max(math.prod(in_shape), math.prod(out_shape))

    aten = torch.ops.aten
    formulas = dict.fromkeys((aten.mul, aten.add, aten.sum), size)
    counter = FlopCounterMode(display=False, custom_mapping=formulas)
    if not hasattr(counter, 'mod_tracker'):
        raise SetupError(
            f'counting FLOPs needs torch >= 2.4, this is {torch.__version__}'
        )
    backends = {block: block.backend for block in cgnl.values()}
    try:
        for block in backends:
            # The other paths compute the same by other operators.
            block.backend = 'reference'
        with block_inputs(blocks) as inputs, counter:
            _call(model, shape)
    except Exception as error:  # a network may ask for more than pixels
        raise SetupError(
            f'the network cannot take an input of {describe(shape)} alone: '
            f'{describe_error(error)}. Give another --shape'
        ) from error
    finally:
        for block, backend in backends.items():
            block.backend = backend
    shapes = {blocks[name]: list(x.shape[1:]) for name, x in inputs.items()}
    return {
        name.removeprefix(root): sum(by_operator.values())
        for name, by_operator in counter.get_flop_counts().items()
    }, shapes


@torch.no_grad()
def _call(model, shape) -> None:
    """Run the network without the post-processing of a detector."""
    pixels = random_pixels(shape, batch=1)
    packages = {kind.__module__.split('.')[0] for kind in type(model).__mro__}
    if 'mmaction' in packages:
        views = as_views(pixels, takes_frames(type(model)))
        model(views, mode='tensor', stage='head')
    elif 'mmdet' in packages:
        # The other hosts need no mmdet.
        from mmdet.structures import DetDataSample

        meta = dict(img_shape=shape, ori_shape=shape, scale_factor=(1.0, 1.0))
        sample = DetDataSample(metainfo=meta)
        batch = dict(inputs=[pixels[0]], data_samples=[sample])
        # It pads to the multiple that the strides need.
        model(**model.data_preprocessor(batch), mode='tensor')
    else:
        model(pixels, mode='tensor')


def _sum_up(name: str, module: nn.Module, flops: dict) -> int:
    """Return a module's FLOPs, also if its owner calls its children alone."""
    if name in flops:
        return flops[name]
    children = module.named_children()
    return sum(
        _sum_up(f'{name}.{key}', child, flops) for key, child in children
    )


def describe(shape: tuple[int, ...]) -> str:
    """Return the size of an input in words ('3 x 224 x 224')."""
    return ' x '.join(map(str, (3, *shape)))


def as_text(result: dict) -> str:
    """Lay out what :func:`count_flops` returned as a table."""
    rows, whole = [HEAD], result['network']
    for row in (*result['parts'], *result['blocks'], whole):
        size = 'x'.join(map(str, row.get('shape', ())))
        texts = row['name'] or 'all', row['kind'], row.get('after', ''), size
        shares = (f'{row[k] / whole[k]:.2%}' for k in ('params', 'flops'))
        rows.append([*texts, *_costs(row), *shares])
    # Texts are aligned to the left, numbers to the right.
    style = dict(tablefmt='plain', stralign='right', disable_numparse=True)
    return f'{tabulate(rows, colalign=["left"] * 4, **style)}\n\n{NOTE}'


def _costs(row: dict) -> list[str]:
    numbers = row['params'], row['flops'] / 2, row['flops']
    return [
        f'{value / 1e9:.3f} G' if value >= 1e9 else f'{value / 1e6:.3f} M'
        for value in numbers
    ]
