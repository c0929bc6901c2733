"""A page that shows, position by position, what a network attends to.

The page is one file. It loads nothing and works without a server.
"""

import base64
import html
import io
import json
from importlib import resources
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor, nn

from .attention import attention_factors, has_constant
from .blocks import choose_blocks
from .inputs import Seen, load_sample, look
from .maps import place_of


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
        SetupError: The file cannot be read, or an option does not fit it.
    """
    blocks = choose_blocks(model, block)
    seen = look(model, cfg, blocks, load_sample(cfg, file))
    frame, x, y = place_of(point, seen)
    page = dict(
        name=file.name,
        frames=[_picture(picture) for picture in seen.frames],
        size=seen.size,
        place=dict(frame=frame, x=x, y=y),
        blocks=[_describe(name, blocks[name], seen) for name in seen.blocks],
    )
    text = resources.files(__package__).joinpath('page.html').read_text()
    # A script ends at its closing tag, even within a string.
    data = json.dumps(page).replace('<', '\\u003c')
    text = text.replace('{{title}}', html.escape(file.name))
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(text.replace('{{data}}', data), encoding='utf-8')
    print(out)


def _describe(name: str, block: nn.Module, seen: Seen) -> dict:
    x = seen.blocks[name]
    # A block on clips has one sample; one on images has a sample a frame.
    x = x[:1] if x.dim() == 5 else x[: len(seen.frames)]
    looking, looked = attention_factors(block, x)
    return dict(
        name=name,
        type=f'{type(block).__name__}, {block.mode}',
        samples=len(x),
        grid=(1, *x.shape[2:])[-3:],
        groups=[f'group {group}' for group in range(block.groups)],
        powers=len(looking),
        looking=_encode(looking),
        looked=_encode(looked),
        centred=has_constant(block),
    )


def _encode(values: Tensor) -> str:
    little = values.cpu().numpy().astype('<f4')
    return base64.b64encode(little.tobytes()).decode()


def _picture(pixels: np.ndarray) -> str:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, 'png')
    return base64.b64encode(file.getvalue()).decode()
