"""Say what is wrong with a checkpoint file; torch alone is enough."""

import os
import zipfile
from typing import Optional

import torch

from .errors import SetupError, printable

PARTS = 'state_dict', 'meta', 'message_hub', 'optimizer'


def find_fault(path: str) -> Optional[str]:
    """Say why a checkpoint file cannot be loaded.

    The function reads the whole file for its checksums and unpickles nothing.

    Args:
        path (str): A file in the format of torch >= 1.6, or an older one,
            which holds no checksums and passes.

    Returns:
        str | None: The reason in a few words; None if the file is whole.
    """
    if not os.path.exists(path):
        return 'missing'
    if not os.path.isfile(path):  # a pipe would never answer
        return 'a folder' if os.path.isdir(path) else 'no regular file'
    try:
        if not os.path.getsize(path):
            return 'empty'
        if not zipfile.is_zipfile(path):
            with open(path, 'rb') as file:
                start = file.read(2)
            if start == b'PK':
                return 'cut off'
            # torch < 1.6 wrote a pickle of protocol 2 or later
            return None if start[:1] == b'\x80' else 'no checkpoint of PyTorch'
        with zipfile.ZipFile(path) as file:
            broken = file.testzip()
            if broken:
                return printable(f'damaged at {broken!r}')
            names = {name.rpartition('/')[2] for name in file.namelist()}
            if 'data.pkl' not in names or 'constants.pkl' in names:
                return 'no checkpoint of PyTorch'  # but perhaps TorchScript
            torch._C.PyTorchFileReader(path)  # refuses more than zipfile
    except Exception as error:  # zipfile raises anything for a broken archive
        return printable(f'{type(error).__name__}: {error}')
    return None


def require_file(path: str, option: str) -> None:
    """Raise SetupError unless ``path``, given as ``option``, can be read.

    Args:
        path (str): A file; a URL (``https://...``, ``s3://...``) passes.
        option (str): The user's name for the path.
    """
    if '://' not in path and not os.path.isfile(path):
        raise SetupError(f'{option}: no file {path!r} in {os.getcwd()}')


def require_whole(path: str, option: str) -> None:
    """Raise SetupError unless ``path`` is a whole checkpoint; a URL passes.

    Args:
        path (str): A file, or a URL.
        option (str): The user's name for the path.
    """
    require_file(path, option)
    if '://' in path:
        return
    resumes = option == '--resume'
    fault = find_fault(path) or _find_odd_part(path, resumes)
    if fault and resumes:
        fault += '. `--resume` alone takes the last whole one in the work_dir'
    if fault:
        raise SetupError(f'{option}: {path!r} cannot be read: {fault}')


def dataset_meta(checkpoint: dict) -> dict:
    """Return what a checkpoint tells of its data set; {} if nothing."""
    return (checkpoint.get('meta') or {}).get('dataset_meta') or {}


def _find_odd_part(path: str, resumes: bool) -> Optional[str]:
    """Say which part of a whole checkpoint is not a dict."""
    found = torch.load(path, 'cpu', mmap=zipfile.is_zipfile(path))
    if not isinstance(found, dict):
        return f'it holds a {type(found).__name__}, not a dict'
    # Where the weights alone are taken, the rest may have been emptied.
    parts = PARTS if resumes else PARTS[:2]
    kinds = dict if resumes else (dict, type(None))
    odd = [key for key in parts if not isinstance(found.get(key, {}), kinds)]
    return f'its {odd[0]} is not a dict' if odd else None
