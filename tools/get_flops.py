"""Parameters and FLOPs of a config's network, and the share of each block.

    python tools/get_flops.py configs/r50_cgnl_cub.py
    python tools/get_flops.py configs/i3d_r50_cgnl5_kinetics400.py \\
        --shape 32 224 224

One image or one view of a clip is counted; cgnl_mm/analysis/flops.py says
which operators count. A FLOP is one addition or multiplication. The tables of
OpenMMLab call multiply-adds FLOPs, half of that number; both are printed.
"""

from cgnl_mm import cli
from cgnl_mm.analysis.flops import as_text, count_flops, describe
from cgnl_mm.deploy.model import build_model, input_shape


def main() -> None:
    parser = cli.make_parser(__doc__)
    cli.add_model_options(parser)
    cli.add_shape_option(parser)
    args = parser.parse_args()
    cfg = cli.load_config(args.config, args.cfg_options)
    model, shape = build_model(cfg, None), input_shape(cfg, args.shape)
    print(f'{args.config}, one input of {describe(shape)}\n')
    print(as_text(count_flops(model, shape)))


if __name__ == '__main__':
    cli.run(main)
