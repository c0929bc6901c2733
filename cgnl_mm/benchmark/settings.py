"""Hold and check the settings of a benchmark."""

import re
from dataclasses import dataclass
from pathlib import Path

import torch

from ..blocks.paths import BACKENDS
from ..errors import SetupError

FORMATS = {2: torch.channels_last, 3: torch.channels_last_3d}


@dataclass
class Settings:
    """Hold the options of ``tools/benchmark.py``, which explains them.

    Raises:
        SetupError: If an option has a value that it cannot take.
    """

    what: str = 'block'
    device: str = 'cpu'
    dtype: str = 'float32'
    channels_last: bool = False
    shapes: str = ''
    forms: str = ''
    repeats: int = 15
    budget: float = 20.0
    threads: int | None = None
    backend: str = 'auto'
    compile: bool = False
    tf32: bool = False
    nl_limit: float | None = None
    quick: bool = False
    out: Path = Path('work_dirs/benchmark')

    def __post_init__(self) -> None:
        require_device(self.device)
        require_positive(self, 'repeats', 'threads', 'budget', 'nl_limit')
        if self.backend not in BACKENDS:
            raise SetupError(
                f'--backend {self.backend} is unknown; use one of '
                f'{", ".join(BACKENDS)}'
            )
        for option in ('shapes', 'forms'):
            pattern = getattr(self, option)
            try:
                re.compile(pattern)
            except re.error as error:
                raise SetupError(
                    f'--{option} {pattern!r} is not a regular expression: '
                    f'{error}'
                ) from error
        if self.nl_limit is None:
            self.nl_limit = 2.0 if self.device == 'cpu' else 8.0

    @property
    def torch_dtype(self) -> torch.dtype:
        return getattr(torch, self.dtype)

    def memory_format(self, rank: int) -> torch.memory_format:
        """Return the layout of maps with so many spatial axes."""
        wanted = FORMATS if self.channels_last else {}
        return wanted.get(rank, torch.contiguous_format)

    def autocast(self) -> torch.autocast:
        """Return the context of mixed precision; float32 needs none."""
        enabled = self.dtype != 'float32'
        return torch.autocast(self.device, self.torch_dtype, enabled=enabled)

    def columns(self) -> dict[str, str]:
        """Return the columns that all records share."""
        layout = 'channels-last' if self.channels_last else 'contiguous'
        return dict(device=self.device, dtype=self.dtype, layout=layout)


def require_device(device: str) -> None:
    """Raise SetupError where PyTorch cannot use a device."""
    if device == 'cuda' and not torch.cuda.is_available():
        raise SetupError(
            '--device cuda: PyTorch sees no GPU (torch.cuda.is_available() is '
            'False); leave the option out to use the CPU'
        )


def require_positive(options, *names: str) -> None:
    """Raise SetupError unless each option is unset or positive."""
    for name in names:
        value = getattr(options, name)
        if value is not None and not value > 0:
            option = name.replace('_', '-')
            raise SetupError(f'--{option} must be positive, got {value:g}')
