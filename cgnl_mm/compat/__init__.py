"""Repair what is broken in the installed OpenMMLab packages.

One file per workaround: its docstring says what breaks, in which versions,
where upstream knows of it and when the file can go. A workaround applies
itself only where the defect is present, and none of them imports a host.

``CGNL_MM_COMPAT=0`` switches all off, ``CGNL_MM_COMPAT=-mmcv_ops,-safe_load``
only those named. What was done::

    python -c "import cgnl_mm; print(cgnl_mm.compat.report())"
"""

from . import (
    cpu_distributed,
    flexible_runner,
    mmaction_bfloat16,
    mmaction_drn,
    mmcv_ops,
    no_pkg_resources,
    numpy_hue,
    numpy_names,
    plugins_key,
    safe_load,
    test_metrics,
)
from .workaround import Record, Workaround, switched_off

WORKAROUNDS = (
    mmcv_ops.WORKAROUND,
    mmaction_drn.WORKAROUND,
    mmaction_bfloat16.WORKAROUND,
    safe_load.WORKAROUND,
    cpu_distributed.WORKAROUND,
    flexible_runner.WORKAROUND,
    numpy_hue.WORKAROUND,
    numpy_names.WORKAROUND,
    no_pkg_resources.WORKAROUND,
    test_metrics.WORKAROUND,
    plugins_key.WORKAROUND,
)

_records = {}


class Report(tuple):
    """Records of :func:`report`; printed, one paragraph per workaround."""

    def __str__(self):
        lines = []
        for record in self:
            status = record.status
            if record.reason:
                status += f' ({record.reason})'
            lines += [
                f'{record.name}: {status}',
                f'    symptom:  {record.symptom}',
                f'    versions: {record.versions}',
                f'    upstream: {record.upstream}',
            ]
        return '\n'.join(lines)


def apply() -> None:
    """Apply every workaround whose defect is present. Idempotent.

    Raises:
        ValueError: ``CGNL_MM_COMPAT`` has a value that is not understood.
    """
    off = switched_off(item.name for item in WORKAROUNDS)
    for item in WORKAROUNDS:
        if _records.get(item.name, ('',))[0] == 'applied':
            continue
        if item.name in off:
            _records[item.name] = ('switched off', 'by CGNL_MM_COMPAT')
            continue
        reason = item.reason_to_skip()
        if reason is None:
            item.apply()
            _records[item.name] = ('applied', '')
        else:
            _records[item.name] = ('not needed', reason)


def report() -> Report:
    """Say what became of each workaround; applies them if nobody has.

    Returns:
        Report: One :class:`Record` per workaround; ``str()`` is readable.
    """
    apply()
    return Report(
        # name, symptom, versions, upstream; status, reason
        Record(*item[:4], *_records[item.name])
        for item in WORKAROUNDS
    )


__all__ = ['Record', 'Report', 'Workaround', 'apply', 'report']
