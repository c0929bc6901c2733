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

from .imports import after_import


def mend(module: ModuleType) -> None:
    """Replace ``dump`` of ``mmengine.hooks.logger_hook``."""
    from mmengine.dist import master_only

    module.dump = master_only(module.dump)


def apply() -> None:
    after_import('mmengine.hooks.logger_hook', mend)
