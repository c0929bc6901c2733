"""Write the metrics of a distributed test once.

Symptom: ``json.decoder.JSONDecodeError: Extra data`` when the metrics that
``tools/dist_test.sh`` has written are read.

Versions: mmengine <= 0.10.7: ``LoggerHook`` writes them in every process, all
into one file at the same time.

Upstream: none.

Cure: the main process alone writes the file.

Delete when: mmengine asks for the rank before it writes.
"""

from types import ModuleType

from .after_import import after_import
from .workaround import Workaround


def mend(module: ModuleType) -> None:
    """Replace ``dump`` of ``mmengine.hooks.logger_hook``."""
    from mmengine.dist import master_only

    module.dump = master_only(module.dump)


WORKAROUND = Workaround(
    name='test_metrics',
    symptom='JSONDecodeError: Extra data, in the metrics of a test',
    versions='mmengine <= 0.10.7',
    upstream='none',
    packages=('mmengine',),
    apply=lambda: after_import('mmengine.hooks.logger_hook', mend),
)
