"""Let every module that a registry of models builds take `plugins`.

Symptom: ``TypeError: ResNet.__init__() got an unexpected keyword argument
'plugins'``.

Versions: all. mmdet and mmsegmentation have plugins inside of the units of a
ResNet, at each unit of a stage; other hosts have none.

Upstream: mmdetection #4169 asks for a plugin in one unit.

Cure: ``Registry.build`` inserts the entries that have ``after`` or
``after_blocks`` (:mod:`cgnl_mm.insertion.key`). A registry copies its build
function from its parent when it is made, so the method is replaced, which
they share.

Delete when: never; this is what the package is for.
"""

import functools
from typing import Any


def apply() -> None:
    """Replace ``Registry.build``; what inserts is imported on first use."""
    from mmengine.registry import MODELS, Registry

    original = Registry.build

    @functools.wraps(original)
    def build(self, cfg: Any, *args, **kwargs) -> Any:
        def make(cfg: Any) -> Any:
            return original(self, cfg, *args, **kwargs)

        root = self
        while root.parent is not None:
            root = root.parent
        if root is not MODELS:
            return make(cfg)
        # imports the blocks, and those mmcv, after all other cures
        from ..insertion import key

        return key.build(make, cfg)

    Registry.build = build
