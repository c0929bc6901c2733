"""Parameters and FLOPs of a config's network, and the share of each block.

    python tools/get_flops.py configs/r50_cgnl_cub.py
    python tools/get_flops.py configs/i3d_r50_cgnl5_kinetics400.py \\
        --shape 32 224 224

Counted is what runs for one image or one view of a clip: convolutions,
matrix products and attention, as the field counts, by PyTorch's
FlopCounterMode. It sees the operators that really run, through whatever
control flow a detector has, where mmengine's get_model_complexity_info needs
a network that torch.jit can trace. In a CGNL block, additions and
multiplications count, too: they are its attention, where a Non-local block
has matrix products. Norms, activations, pooling and RoIAlign do not count.

A FLOP is one addition or multiplication. What OpenMMLab's tables call FLOPs
are multiply-adds, half of that; both are printed.
"""

import argparse
import json
import sys
from contextlib import redirect_stdout
from dataclasses import asdict

from cgnl_mm.cli import run


def parse_args() -> argparse.Namespace:
    from cgnl_mm.cli import add_model_options, add_shape_option

    parser = argparse.ArgumentParser(
        description='Parameters and FLOPs of a network and of its blocks'
    )
    add_model_options(parser)
    add_shape_option(parser)
    parser.add_argument(
        '--json', action='store_true', help='print JSON, all numbers in full'
    )
    return parser.parse_args()


def as_text(result: dict) -> str:
    """Two tables, and what the numbers are."""
    whole = result['network']
    size = ' x '.join(map(str, (3, *result['shape'])))
    lines = [f'{whole.kind}, one input of {size}', '']
    header = ('part', 'type', 'parameters', 'multiply-adds', 'FLOPs')
    rows = [
        (part.name, part.kind, *_amounts(part)) for part in result['parts']
    ]
    rows.append(('all', '', *_amounts(whole)))
    lines += _table(header, rows)
    if result['blocks']:
        header = ('block', 'type', 'place', 'input', *header[2:]) + (
            'of parameters',
            'of FLOPs',
        )
        rows = [
            (
                block.name,
                block.kind,
                block.place,
                'x'.join(map(str, block.shape)),
                *_amounts(block),
                f'{block.params_share:.2%}',
                f'{block.flops_share:.2%}',
            )
            for block in result['blocks']
        ]
        lines += ['', *_table(header, rows)]
    else:
        lines += ['', 'no block is inserted']
    lines += [
        '',
        'One multiply-add is two FLOPs; OpenMMLab calls multiply-adds FLOPs.',
    ]
    lines += [
        f'{name} runs for {number} regions; how many depends on the image.'
        for name, number in result['regions'].items()
    ]
    return '\n'.join(lines)


def _amounts(row) -> tuple[str, str, str]:
    numbers = row.params, row.flops / 2, row.flops
    return tuple(
        f'{value / 1e9:.3f} G' if value >= 1e9 else f'{value / 1e6:.3f} M'
        for value in numbers
    )


def _table(header: tuple, rows: list[tuple]) -> list[str]:
    """Columns of equal width, numbers to the right."""
    table = [header, *rows]
    widths = [max(len(row[i]) for row in table) for i in range(len(header))]
    first_number = header.index('parameters')
    return [
        '  '.join(
            text.ljust(width) if i < first_number else text.rjust(width)
            for i, (text, width) in enumerate(zip(row, widths))
        ).rstrip()
        for row in table
    ]


def main() -> None:
    args = parse_args()
    from cgnl_mm.cli import load_config
    from cgnl_mm.deploy.model import build_model, input_shape

    # what hosts print must not end up in the JSON
    with redirect_stdout(sys.stderr):
        cfg = load_config(
            args.config, args.cfg_options
        )  # says if mmcv is missing
        from _flops import measure

        shape = input_shape(cfg, args.shape)
        result = measure(build_model(cfg, None), cfg.default_scope, shape)
    if args.json:
        print(json.dumps(result, default=asdict, indent=2))
    else:
        print(as_text(result))


if __name__ == '__main__':
    run(main)
