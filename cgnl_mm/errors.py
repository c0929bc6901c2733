"""Errors that the user can put right.

The tools print the message of a :class:`SetupError` alone, without a
traceback: it names the value that is wrong and what to run instead.
"""


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
        return self.strerror


class NonFiniteError(SetupError, ArithmeticError):
    """A block or the loss left the range of its numbers."""
