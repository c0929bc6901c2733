"""A page that shows, position by position, what a network attends to.

The page is one file. It loads nothing and works without a server.
"""

import base64
import html
import io
import json
from collections.abc import Iterable
from importlib import resources
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor, nn

from ..errors import SetupError
from .attention import (
    attention_factors,
    attention_map,
    has_constant,
    is_cgnl,
)
from .blocks import choose_blocks
from .inputs import Seen, load_sample, look
from .maps import place_of

MAX_WEIGHTS = 2**23  # of a non-local block: 8 MB in the page


def write_page(
    model: nn.Module,
    cfg,
    file: Path,
    out: Path,
    block: str | None = None,
    point: tuple[int, ...] | None = None,
) -> None:
    """Write a page on which a reader chooses block, group and position.

    Args:
        model (Module): In evaluation mode.
        cfg (Config): Its config.
        file (Path): An image or a video.
        out (Path): The page, an html file.
        block (str | None): Name of a block; None for all.
        point (tuple[int, ...] | None): x, y and maybe frame of the position
            that is chosen first; None for the middle.

    Raises:
        SetupError: The file cannot be read, an option does not fit it, or a
            block does not run or has too many positions.
    """
    blocks = choose_blocks(model, block)
    seen = look(model, cfg, blocks, load_sample(cfg, file))
    frame, x, y = place_of(point, seen)
    page = dict(
        name=file.name,
        frames=[_picture(picture) for picture in seen.frames],
        size=seen.size,
        place=dict(frame=frame, x=x, y=y),
        blocks=[_describe(*named, seen) for named in blocks.items()],
    )
    text = resources.files(__package__).joinpath('page.html').read_text()
    # A script ends at its closing tag, even within a string.
    data = json.dumps(page).replace('<', '\\u003c')
    text = text.replace('{{title}}', html.escape(file.name))
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(text.replace('{{data}}', data), encoding='utf-8')
    print(out)


def _describe(name: str, block: nn.Module, seen: Seen) -> dict:
    x = seen.input_of(name)
    # A block on clips has one sample; one on images has a sample a frame.
    x = x[:1] if x.dim() == 5 else x[: len(seen.frames)]
    describe = _describe_groups if is_cgnl(block) else _describe_weights
    return dict(
        name=name,
        type=f'{type(block).__name__}, {block.mode}',
        samples=len(x),
        grid=(1, *x.shape[2:])[-3:],
        **describe(name, block, x),
    )


def _describe_groups(name: str, block: nn.Module, x: Tensor) -> dict:
    looking, looked = attention_factors(block, x)
    return dict(
        groups=[f'group {group}' for group in range(block.groups)],
        powers=len(looking),
        looking=_encode(looking.cpu().numpy(), np.float32),
        looked=_encode(looked.cpu().numpy(), np.float32),
        centred=has_constant(block),
    )


def _describe_weights(name: str, block: nn.Module, x: Tensor) -> dict:
    """Describe a non-local block by the weights of all its positions."""
    places = list(np.ndindex(*x.shape[2:]))
    first = attention_map(block, x, places[0])
    if len(places) * first.numel() > MAX_WEIGHTS:
        raise SetupError(
            f'{name} has {len(places)} positions, too many for a page; '
            'leave --html out to draw one of them'
        )
    rows = [attention_map(block, x, place) for place in places]
    scales = np.array([row.abs().max().item() or 1.0 for row in rows])
    steps = [(row / s * 127).round() for row, s in zip(rows, scales)]
    return dict(
        groups=['all channels'],
        keys=(1, *first.shape[2:])[-3:],
        weights=_encode(np.stack([s.cpu().numpy() for s in steps]), np.int8),
        centred=False,
    )


def _encode(values: Iterable, dtype: type) -> str:
    little = np.ascontiguousarray(values).astype(np.dtype(dtype), copy=False)
    return base64.b64encode(little.tobytes()).decode()


def _picture(pixels: np.ndarray) -> str:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, 'png')
    return base64.b64encode(file.getvalue()).decode()
