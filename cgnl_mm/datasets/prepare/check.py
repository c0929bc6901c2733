"""Decode the files of a config's data sets before it trains."""

from argparse import Namespace
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool
from functools import partial

from mmengine.registry import DATASETS, init_default_scope
from rich.progress import MofNCompleteColumn, Progress

from ...errors import SetupError, printable
from ...hosts import host_of
from ..decode import (
    KEYS,
    check_sample,
    is_remote,
    list_kinds,
    path_of,
    try_decord,
)
from ..labels import check_labels, compare_classes, count_classes
from ..unreadable import backend_of, leaves
from .apart import call_apart, start_pool
from .lists import as_table

SPLITS = ('train', 'val', 'test')
CRASH = 'crash: the decoder ended its process, or memory ran out'
DECORD = 'Decord'  # in the names of mmaction2's transforms
# Keys of a sample that say which files of a folder of frames are needed.
OF_FRAMES = ('filename_tmpl', 'modality', 'start_index', 'total_frames')
SHOWN = 20  # broken files that are printed; --out lists all of them
PART = 256  # files that the processes get at a time


def check_data(cfg, args: Namespace) -> int:
    """Decode each file of a config's data sets, and print what is broken.

    Args:
        cfg (Config): The config.
        args (Namespace): The options of tools/data/check.py.

    Returns:
        int: The exit status: 1 if a file is broken or a label cannot be,
        else 0.

    Raises:
        SetupError: If the config names no host, or the processes lack file
            descriptors or memory.
    """
    if not host_of(cfg):
        raise SetupError(f'{args.config} names no host: no default_scope')
    init_default_scope(host_of(cfg))
    reasons, summaries, data_sets = {}, [], {}
    columns = (*Progress.get_default_columns(), MofNCompleteColumn())
    with Progress(*columns) as progress:
        for split in args.splits:
            if cfg.get(f'{split}_dataloader') is None:
                continue
            data_sets[split] = build_data_set(cfg[f'{split}_dataloader'])
            samples = list_samples(data_sets[split])
            local = [path for path in samples if not is_remote(path)]
            # Test and validation are often one.
            new = [path for path in local if path not in reasons]
            found = check_samples([samples[path] for path in new])
            bar = progress.track(found, len(new), description=split)
            reasons.update(zip(new, list(bar)))
            broken = [(path, reasons[path]) for path in local if reasons[path]]
            remote = len(samples) - len(local)
            summaries.append(summarize(split, len(samples), broken, remote))
    print('\n'.join(summaries))
    faults = list(find_faults_of_labels(cfg, data_sets))
    print(''.join(f'{fault}\n' for fault in faults), end='')
    broken = [(path, reason) for path, reason in reasons.items() if reason]
    for path, reason in broken[:SHOWN]:
        print(f'{printable(path)}: {printable(reason)}')
    if len(broken) > SHOWN:
        print(f'... and {len(broken) - SHOWN} more')
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(as_table(broken), encoding='utf-8')
    return int(bool(broken or faults))


def build_data_set(loader: dict):
    """Build the data set of a loader and let it read its annotations."""
    data_set = DATASETS.build(loader.dataset)
    for leaf in leaves(data_set):
        leaf.full_init()
    return data_set


def find_faults_of_labels(cfg, data_sets: dict) -> Iterator[str]:
    """Yield what is wrong with the labels of data sets, by split."""
    number = count_classes(cfg.get('model'))
    for split, data_set in data_sets.items():
        try:
            yield from check_labels(data_set, number, split)
        except SetupError as error:
            yield str(error)
    try:
        yield from compare_classes(data_sets)
    except SetupError as error:
        yield str(error)


def list_samples(of) -> dict[str, tuple]:
    """List the samples of a data set in their order, each file once.

    A folder of frames counts as one file.

    Returns:
        dict[str, tuple]: Sample and image backend, by path.
    """
    samples = {}
    for data_set in leaves(of):
        steps = data_set.pipeline.transforms
        backend = DECORD if DECORD in repr(steps) else backend_of(steps)
        for index in range(len(data_set)):
            info = data_set.get_data_info(index)
            # Several clips may share a folder: then all of it is needed.
            keys = KEYS if 'offset' in info else (*KEYS, *OF_FRAMES)
            if path_of(info):
                sample = {key: info[key] for key in keys if key in info}
                samples[path_of(info)] = sample, backend
    return samples


def summarize(
    split: str, total: int, broken: list[tuple[str, str]], remote: int
) -> str:
    """Return the counts of a split in one line."""
    kinds = list_kinds(reason for _, reason in broken)
    return (
        f'{split}: {total} files, {len(broken)} broken'
        + (f' ({kinds})' if kinds else '')
        + (f', {remote} remote: not checked' if remote else '')
    )


def check_samples(samples: list[tuple]) -> Iterator:
    """Decode samples in processes.

    A crash takes the other files under way with it. The rest of a part is
    then decoded one by one, each file in a process of its own.

    Args:
        samples (list[tuple]): Samples and image backends.

    Yields:
        str | None: The reason why a sample cannot be read.

    Raises:
        SetupError: If the processes lack file descriptors or memory.
    """
    pool = start_pool(__name__)
    try:
        for start in range(0, len(samples), PART):
            part, done = samples[start : start + PART], 0
            try:
                for reason in pool.map(_check, part):
                    yield reason
                    done += 1
            except BrokenProcessPool:
                pool = start_pool(__name__)
                alone = partial(call_apart, _check, crashed=CRASH)
                yield from map(alone, part[done:])
    except OSError as error:
        raise SetupError(
            f'{error.strerror or error}. A higher limit (`ulimit -n`) may help'
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _check(sample: tuple) -> 'str | None':
    info, backend = sample
    if backend != DECORD:
        return check_sample(info, backend)
    # PyAV reads files to their end, and decord dies on some that PyAV reads
    return check_sample(info) or try_decord(path_of(info))
