"""Look at the index of an mp4 file, on which a decoder may crash."""

import os
import struct
from collections.abc import Iterator
from typing import BinaryIO, Optional

import numpy as np

WILD = 'broken index: it leads behind the end of the file'
CONTAINERS = (b'moov', b'trak', b'mdia', b'minf', b'stbl')
# What a file begins with.
STARTS = (b'ftyp', b'free', b'mdat', b'moov', b'skip', b'wide')
# Tables: the size of their head, with the number of rows at its end, and the
# type of a row. They hold where each chunk begins, how many frames there are
# of each duration, and the size of each frame.
TABLES = {
    b'stco': (8, '>u4'),
    b'co64': (8, '>u8'),
    b'stts': (8, '>u4,>u4'),
    b'stsz': (12, '>u4'),
}


def find_wild_index(path: str) -> Optional[str]:
    """Say whether the index of an mp4 or mov file leads out of the file.

    Decord ends the process where a chunk or a frame lies behind the end, or
    where there are times for more frames than memory holds.

    Args:
        path (str): A file of any format.

    Returns:
        str | None: The reason; None for other files, too.
    """
    with open(path, 'rb') as file:
        if file.read(8)[4:] not in STARTS:
            return None
        end = os.fstat(file.fileno()).st_size
        for kind, start, stop in _boxes(file, 0, end):
            if kind not in TABLES:
                continue
            head, row = TABLES[kind][0], np.dtype(TABLES[kind][1])
            file.seek(start)
            content = file.read(max(stop - start, head)).ljust(head, b'\0')
            count = int.from_bytes(content[head - 4 : head], 'big')
            whole = (len(content) - head) // row.itemsize
            rows = np.frombuffer(content, row, min(count, whole), head)
            numbers = rows['f0'] if row.names else rows
            # one size may stand for all frames, so that there are no rows
            if (whole and count > whole) or (numbers > end).any():
                return WILD
            if kind == b'stsz' and numbers.sum(dtype=np.uint64) > end:
                return WILD
    return None


def _boxes(
    file: BinaryIO, start: int, end: int
) -> Iterator[tuple[bytes, int, int]]:
    """Yield kind, start and end of the contents of the boxes in a box."""
    while start + 8 <= end:
        file.seek(start)
        size, kind = struct.unpack('>I4s', file.read(8))
        content = start + 8
        if size == 1:  # 64 bits follow
            (size,) = struct.unpack('>Q', file.read(8).ljust(8, b'\0'))
            content += 8
        stop = min(start + size, end) if size else end
        if stop < content:
            return
        if kind in CONTAINERS:
            yield from _boxes(file, content, stop)
        else:
            yield kind, content, stop
        start = stop
