"""Look for files that a config's data sets cannot read, before it trains.

    python tools/data/check.py configs/i3d_r50_cgnl_minikinetics.py
    python tools/data/check.py CONFIG --splits train --out broken.txt

Every file is decoded whole, every frame of a folder, in several processes: a
file that crashes its decoder is named as well. Ends with status 1 if one is
missing or broken, and lists them in --out: PATH<tab>REASON. A ' precedes a
field that begins with = + - or @, which a spreadsheet would take for a
formula. Remote files (s3://, http://) are counted, not checked. Training goes
on past the files with `custom_hooks=[dict(type='UnreadableDataHook')]`.
"""

import argparse
import os
import sys
from collections import Counter
from pathlib import Path

from ...cli import (
    add_config_options,
    merge_options,
    read_config_file,
    require_data,
)
from .decoders import DecoderPool
from .lists import positive

SPLITS = ('train', 'val', 'test')


# what says which files in a folder of frames are needed
OF_FRAMES = (
    'frame_dir', 'filename_tmpl', 'modality', 'start_index', 'total_frames',
)  # fmt: skip


def list_files(cfg, split: str) -> dict[str, dict]:
    """Files of a data set, in its order, each once.

    A folder of frames counts as one.

    Returns:
        dict[str, dict]: Further arguments of ``check_sample``, by path.
    """
    from importlib import import_module

    from cgnl_mm.datasets.unreadable import (
        backend_for,
        backend_of,
        leaves,
        path_of,
    )

    loader = cfg[f'{split}_dataloader']
    registry = import_module(f'{cfg.default_scope}.registry').DATASETS
    files = {}
    for data_set in leaves(registry.build(loader.dataset)):
        data_set.full_init()
        backend = backend_of(data_set.pipeline.transforms)
        for index in range(len(data_set)):
            sample = data_set.get_data_info(index)
            path = path_of(sample)
            if path is None:
                continue
            data = {key: sample[key] for key in OF_FRAMES if key in sample}
            if 'offset' in sample:  # several clips in a folder: all of it
                data.pop('total_frames', None)
            files[path] = dict(data=data, backend=backend_for(sample, backend))
    return files


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('config', help='path of the config')
    add_config_options(parser)
    parser.add_argument(
        '--splits',
        nargs='+',
        choices=SPLITS,
        default=SPLITS,
        help='default: all',
    )
    parser.add_argument(
        '--out', type=Path, metavar='FILE', help='list of the broken files'
    )
    parser.add_argument(
        '--workers',
        type=positive,
        default=os.cpu_count() or 1,
        help='processes that decode (default: %(default)s)',
    )
    parser.add_argument('--quiet', action='store_true',
        help='no progress bar')  # fmt: skip
    return parser.parse_args(argv)


def main() -> None:
    args = parse_args()
    from mmengine.registry import init_default_scope
    from rich.progress import MofNCompleteColumn, Progress

    from cgnl_mm.datasets.unreadable import is_remote
    from cgnl_mm.errors import SetupError, csv_field, printable

    cfg = read_config_file(args.config)
    merge_options(cfg, args.cfg_options)
    if cfg.get('default_scope') is None:
        raise SetupError(f'{args.config} names no host: no default_scope')
    require_data(cfg, args.splits)
    init_default_scope(cfg.default_scope)

    known, lines = {}, []
    columns = (*Progress.get_default_columns(), MofNCompleteColumn())
    with (
        Progress(*columns, disable=args.quiet) as progress,
        DecoderPool(args.workers) as pool,
    ):
        for split in args.splits:
            if cfg.get(f'{split}_dataloader') is None:
                continue
            listed = list_files(cfg, split)
            files = {p: need for p, need in listed.items() if not is_remote(p)}
            remote = len(listed) - len(files)
            # test and validation are often one
            new = [path for path in files if path not in known]
            task = progress.add_task(split, total=len(new))
            # in parts: after a crash, what is left of one goes one by one
            for start in range(0, len(new), 256):
                part = new[start : start + 256]
                needs = {path: files[path] for path in part}
                for path, reason in pool.reasons(needs):
                    known[path] = reason
                    progress.advance(task)
            broken = [path for path in files if known[path]]
            kinds = Counter(known[path].partition(':')[0] for path in broken)
            text = ', '.join(f'{n} {kind}' for kind, n in kinds.most_common())
            lines.append(
                f'{split}: {len(listed)} files, {len(broken)} broken'
                + (f' ({text})' if text else '')
                + (f', {remote} remote: not checked' if remote else '')
            )
    print('\n'.join(lines))
    broken = {path: reason for path, reason in known.items() if reason}
    for path, reason in list(broken.items())[:20]:
        print(f'{printable(path)}: {printable(reason)}')
    if len(broken) > 20:
        print(f'... and {len(broken) - 20} more')
    if args.out:
        try:
            args.out.write_text(
                ''.join(
                    '\t'.join(csv_field(printable(x)) for x in (path, why))
                    + '\n'
                    for path, why in broken.items()
                ),
                encoding='utf-8',
            )
        except OSError as error:
            raise SetupError(f'--out {args.out}: {error.strerror}') from None
    sys.exit(1 if broken else 0)
