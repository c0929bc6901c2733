"""Define a workaround, and read which ones the user has switched off."""

import os
from importlib.util import find_spec
from typing import Callable, Iterable, NamedTuple, Optional, Sequence, Set

ENV = 'CGNL_MM_COMPAT'


class Workaround(NamedTuple):
    """One defect of the installed hosts and its cure.

    Args:
        name (str): Name in the report and in ``CGNL_MM_COMPAT``.
        symptom (str): What the user sees without it.
        versions (str): Versions that have the defect.
        upstream (str): Where the defect is known upstream.
        apply (Callable): Puts the cure in place. Called at most once.
        not_needed (Callable): Returns why this installation does not need
            the workaround, or None when it does. Imports no host.
        packages (Sequence[str]): Modules, one of which has to be installed.
            Defaults to MMEngine.
    """

    name: str
    symptom: str
    versions: str
    upstream: str
    apply: Callable[[], None]
    not_needed: Callable[[], Optional[str]] = lambda: None
    packages: Sequence[str] = ('mmengine',)

    def reason_to_skip(self) -> Optional[str]:
        """Say why this installation does not need it; None if it does."""
        specs = filter(None, map(find_spec, self.packages))
        # a folder that happens to have the name is found without an origin
        if not any(spec.origin for spec in specs):
            return f'{" or ".join(self.packages)} is not installed'
        return self.not_needed()


class Record(NamedTuple):
    """One line of :func:`cgnl_mm.compat.report`.

    Args:
        name (str): Name of the workaround.
        symptom (str): What the user sees without it.
        versions (str): Versions that have the defect.
        upstream (str): Where the defect is known upstream.
        status (str): 'applied', 'not needed' or 'switched off'.
        reason (str): Why it is not needed or who switched it off; empty
            when applied.
    """

    name: str
    symptom: str
    versions: str
    upstream: str
    status: str
    reason: str


def switched_off(names: Iterable[str]) -> Set[str]:
    """Read ``CGNL_MM_COMPAT``.

    Args:
        names (Iterable[str]): Names of all workarounds.

    Returns:
        Set[str]: Those that the user does not want.

    Raises:
        ValueError: A value that is none of '', '1', '0' or a list such as
            '-mmcv_ops,-safe_load' of known names.
    """
    names = set(names)
    value = os.environ.get(ENV, '').strip()
    if value in ('', '1'):
        return set()
    if value == '0':
        return names
    off = set()
    for word in value.replace(',', ' ').split():
        if not word.startswith('-') or word[1:] not in names:
            raise ValueError(
                f'{ENV}={value!r}: {word!r} is not understood. Allowed: 0 '
                '(all workarounds off), 1 or nothing (all on), or a list '
                'of those to leave out, each with a minus: '
                + ','.join(f'-{name}' for name in sorted(names))
            )
        off.add(word[1:])
    return off
