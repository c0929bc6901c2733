"""Repair what is broken in the installed OpenMMLab packages.

One module per repair: its docstring says what breaks, in which versions,
where upstream knows of it and when the file can go. A repair applies itself
only where the defect is present, and none of them imports a host. Each has

- ``apply()``, which is called at most once;
- ``PACKAGE``, unless it is MMEngine: what the repair is for;
- ``not_needed()``, if an installation may do without: it says why, or None.

``CGNL_MM_COMPAT=0`` switches all off, ``CGNL_MM_COMPAT=-mmcv_ops,-safe_load``
only those named. What was done::

    python -c "import cgnl_mm; print(cgnl_mm.compat.report())"
"""

import os
from importlib import import_module
from importlib.util import find_spec
from typing import Optional, Set

__all__ = ['Report', 'apply', 'report']

ENV = 'CGNL_MM_COMPAT'
# In the order in which they are applied.
NAMES = (
    *('mmcv_ops', 'mmaction_drn', 'mmaction_bfloat16', 'mmaction_pyav'),
    *('safe_load', 'cpu_distributed', 'flexible_runner', 'numpy_hue'),
    *('numpy_names', 'no_pkg_resources', 'test_metrics', 'plugins_key'),
)
REPAIRS = {name: import_module(f'{__name__}.{name}') for name in NAMES}

_statuses = {}


class Report(dict):
    """What became of each repair, by its name in ``CGNL_MM_COMPAT``.

    A status is 'applied', 'not needed (...)' or 'switched off (...)'.
    """

    def __str__(self) -> str:
        return '\n'.join(
            f'{name}: {status}\n    {REPAIRS[name].__doc__.splitlines()[0]}'
            for name, status in self.items()
        )


def apply() -> None:
    """Apply every repair whose defect is present. Idempotent.

    Raises:
        ValueError: ``CGNL_MM_COMPAT`` has a value that is not understood.
    """
    off = switched_off()
    for name, repair in REPAIRS.items():
        if _statuses.get(name) == 'applied':
            continue
        if name in off:
            _statuses[name] = f'switched off (by {ENV})'
        elif reason := _reason_to_skip(repair):
            _statuses[name] = f'not needed ({reason})'
        else:
            repair.apply()
            _statuses[name] = 'applied'


def report() -> Report:
    """Say what became of each repair; applies them if nobody has.

    Returns:
        Report: A status by the name of each repair; ``str()`` is readable.
    """
    apply()
    return Report(_statuses)


def switched_off() -> Set[str]:
    """Read from ``CGNL_MM_COMPAT`` which repairs the user does not want.

    Raises:
        ValueError: A value that is none of '', '1', '0' or a list such as
            '-mmcv_ops,-safe_load' of known names.
    """
    value = os.environ.get(ENV, '').strip()
    if value in ('', '1'):
        return set()
    if value == '0':
        return set(REPAIRS)
    words = value.replace(',', ' ').split()
    for word in words:
        if not word.startswith('-') or word[1:] not in REPAIRS:
            raise ValueError(
                f'{ENV}={value!r}: {word!r} is not understood. Allowed: 0 '
                '(all repairs off), 1 or nothing (all on), or a list '
                'of those to leave out, each with a minus: '
                + ','.join(f'-{name}' for name in sorted(REPAIRS))
            )
    return {word[1:] for word in words}


def _reason_to_skip(repair) -> Optional[str]:
    """Say why this installation does not need a repair; None if it does."""
    package = getattr(repair, 'PACKAGE', 'mmengine')
    spec = find_spec(package)
    # a folder that happens to have the name is found without an origin
    if spec is None or not spec.origin:
        return f'{package} is not installed'
    return repair.not_needed() if hasattr(repair, 'not_needed') else None
