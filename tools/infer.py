"""Run a network on images or videos of your own; pictures come out.

    python tools/infer.py configs/r18_cgnl_digits.py CHECKPOINT digit.png \\
        --out work_dirs/infer
    python tools/infer.py configs/i3d_r18_cgnl_movingdigits.py CHECKPOINT \\
        data/movingdigits --out work_dirs/infer

Each file goes through the config's test pipeline, all clips and crops
included, and the host's own inference; the picture shows what came out: the
image or some frames with the best classes, or boxes and masks. A folder is
searched with its subfolders, for images or videos as the network needs. A
file of it that cannot be read is reported and the rest goes on.

``OUT/predictions.json`` holds all predictions, ``OUT/pictures`` the pictures.
"""

import argparse
import json
import sys
from collections import Counter
from pathlib import Path

from cgnl_mm.cli import run

IMAGES = ('.bmp', '.jpeg', '.jpg', '.png', '.tif', '.tiff', '.webp')
VIDEOS = ('.avi', '.flv', '.m4v', '.mkv', '.mov', '.mp4', '.mpeg', '.mpg')
VIDEOS += ('.webm', '.wmv')


def parse_args() -> argparse.Namespace:
    from cgnl_mm.cli import add_model_options

    parser = argparse.ArgumentParser(
        description='Predict for images or videos, with pictures'
    )
    add_model_options(parser)
    parser.add_argument('checkpoint', help='path or URL of the checkpoint')
    parser.add_argument(
        'input', type=Path, help='an image, a video, or a folder of them'
    )
    parser.add_argument(
        '--out', type=Path, required=True, metavar='DIR', help='folder'
    )
    parser.add_argument(
        '--device', help="'cpu', 'cuda:1', ...; default: a GPU if there is one"
    )
    parser.add_argument(
        '--score-thr',
        type=float,
        default=0.3,
        help='lowest score of a detection that is drawn and listed',
    )
    parser.add_argument(
        '--no-pictures', action='store_true', help='predictions alone'
    )
    return parser.parse_args()


def find_files(
    path: Path, suffixes: tuple[str, ...], pictures: Path
) -> list[Path]:
    """The file itself, or a folder's files with one of the suffixes.

    Those in ``pictures`` are results of an earlier run.

    Raises:
        SetupError: Nothing is there.
    """
    from cgnl_mm.errors import SetupError

    if path.is_file():
        return [path]
    if not path.is_dir():
        raise SetupError(f'no file or folder {str(path)!r}')
    files = sorted(
        file
        for file in path.rglob('*')
        if file.suffix.lower() in suffixes
        and file.is_file()
        and pictures.resolve() not in file.resolve().parents
    )
    if not files:
        raise SetupError(
            f'no file in {str(path)!r} ends in {", ".join(suffixes)}, which '
            "this config's network takes"
        )
    return files


def picture_names(names: list[Path]) -> list[Path]:
    """A PNG for each file, of its name unless two would share one.

    Args:
        names (list[Path]): Within the folder.

    Returns:
        list[Path]: 'a.png' for a.jpg; 'a.jpg.png' if there is an a.bmp, too.
    """
    alike = Counter(name.with_suffix('') for name in names)
    found = []
    for name in names:
        picture = name.with_suffix('.png')
        if alike[name.with_suffix('')] > 1:
            picture = Path(f'{name}.png')
        while picture in found:
            picture = Path(f'{picture}.png')
        found.append(picture)
    return found


def main() -> None:
    args = parse_args()
    from _infer_hosts import PREDICTORS, Unreadable, class_names

    from cgnl_mm.cli import load_config
    from cgnl_mm.deploy.model import build_model, move_to_device
    from cgnl_mm.errors import SetupError

    cfg = load_config(args.config, args.cfg_options)
    host = cfg.default_scope
    suffixes = VIDEOS if host == 'mmaction' else IMAGES
    pictures = args.out / 'pictures'
    files = find_files(args.input, suffixes, pictures)
    folder = args.input if args.input.is_dir() else args.input.parent
    model = move_to_device(build_model(cfg, args.checkpoint), args.device)
    classes = class_names(cfg, args.checkpoint)
    predictor = PREDICTORS[host](model, cfg, classes, args.score_thr)

    records, failed = [], 0
    names = [file.relative_to(folder) for file in files]
    drawn = picture_names(names)
    for number, (file, name) in enumerate(zip(files, names), 1):
        record = dict(file=str(file))
        try:
            record.update(
                predictor(
                    file,
                    None if args.no_pictures else pictures / drawn[number - 1],
                )
            )
        except Unreadable as error:
            failed += 1
            record['error'] = str(error)
            print(f'unreadable: {file}: {error}', file=sys.stderr)
        else:
            summary = record.pop('summary')
            print(f'[{number}/{len(files)}] {name}: {summary}')
        records.append(record)
    args.out.mkdir(parents=True, exist_ok=True)
    target = args.out / 'predictions.json'
    target.write_text(json.dumps(records, indent=2), encoding='utf-8')
    print(f'{len(files) - failed} predicted, {failed} unreadable: {target}')
    if failed == len(files):
        raise SetupError(f'nothing in {str(args.input)!r} could be read')


if __name__ == '__main__':
    run(main)
