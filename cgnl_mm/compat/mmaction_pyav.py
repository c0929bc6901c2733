"""Count the frames of videos whose container does not tell their number.

Symptom: none. With ``PyAVInit``, each clip of a .webm, or of an mp4 in
fragments, shows its first frame alone; numpy warns of a remainder by zero.

Versions: mmaction2 <= 1.2.0, whose ``PyAVInit`` takes the container's number
of frames, which is 0 where the container has none.

Upstream: not reported.

Cure: where there is no number, the packets of the video are counted.

Delete when: mmaction2 counts them.
"""

import functools
from types import ModuleType

from .imports import after_import

PACKAGE = 'mmaction'


def mend(module: ModuleType) -> None:
    """Wrap ``transform`` of mmaction2's ``PyAVInit``."""
    transform = module.PyAVInit.transform

    @functools.wraps(transform)
    def with_frames(self, results: dict) -> dict:
        results = transform(self, results)
        if not results['total_frames']:
            video = results['video_reader']
            packets = video.demux(video=0)
            results['total_frames'] = sum(bool(x.size) for x in packets)
            video.seek(0)
        return results

    module.PyAVInit.transform = with_frames


def apply() -> None:
    after_import('mmaction.datasets.transforms.loading', mend)
