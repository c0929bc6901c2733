"""Errors that the user can put right.

The tools print the message of a :class:`SetupError` alone, without a
traceback: it names the value that is wrong and what to run instead.
"""

import re
from inspect import isclass
from types import UnionType
from typing import Any, Union, get_args, get_origin

PASSWORD = re.compile(r"""(://[^\s/:@'"]*:)[^\s/'"]+@""")


class SetupError(Exception):
    """Something has to be installed, downloaded or corrected first."""


class ConfigError(SetupError, ValueError):
    """A setting of a config does not fit."""


class MissingDataError(SetupError, FileNotFoundError):
    """A data set is not where the config looks for it."""


class MissingHostError(SetupError, ImportError):
    """An OpenMMLab package that a config needs is not installed."""


class UnreadableFileError(SetupError):
    """A sample of a test cannot be read."""


class TooManyUnreadableError(SetupError):
    """More of the training samples than allowed cannot be read."""


class DiskFullError(SetupError, OSError):
    """A file could not be written for lack of space."""

    def __str__(self) -> str:
        return self.strerror or ''


class NonFiniteError(SetupError, ArithmeticError):
    """A block or the loss left the range of its numbers."""


def fits(value: object, hint: object) -> bool:
    """Whether a value of a file is of an annotated type, as ``list[int]``."""
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return any(fits(value, arg) for arg in args)
    if origin is list:
        return isinstance(value, (list, tuple)) and all(
            fits(item, arg) for item in value for arg in args
        )
    if origin is dict and isinstance(value, dict):
        return all(all(map(fits, item, args)) for item in value.items())
    if hint in (int, float):
        return type(value) in (int, hint)
    kind = origin or hint
    return hint is Any or not isclass(kind) or isinstance(value, kind)


def require_count(name: str, value: object) -> None:
    """Raise ConfigError unless a setting is a whole number, 1 or more."""
    if not isinstance(value, int) or value < 1:
        raise ConfigError(
            f'{name} must be a whole number of 1 or more, got {value!r}'
        )


def printable(text: str) -> str:
    """Return ``text``, escaped if a character of it is not printable.

    For paths in logs and lists: a newline or a tab in a file's name would
    forge a line or a column, an escape sequence move the terminal's cursor.
    """
    return text if text.isprintable() else ascii(text)[1:-1]


def hide_passwords(text: str) -> str:
    """Return ``text`` with ``***`` for the passwords of its URLs."""
    return PASSWORD.sub(r'\1***@', text) if '@' in text else text


def describe_error(error: BaseException) -> str:
    """Return an exception's type and text in one line, 300 characters long."""
    text = ' '.join(str(error).split())
    return f'{type(error).__name__}: {text}'[:300]


def csv_field(value: object) -> object:
    """Return a field of a table that no spreadsheet takes for a formula.

    Text that begins with ``=``, ``+``, ``-`` or ``@`` gets an apostrophe
    before it, numbers excepted.

    Args:
        value: Text; anything else is returned as it is.
    """
    if not isinstance(value, str) or value[:1] not in set('=+-@'):
        return value
    try:
        float(value)
    except ValueError:
        return "'" + value
    return value
