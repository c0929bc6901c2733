"""Networks whose batch holds the frames of clips."""

from typing import Union


def takes_frames(kind: Union[type, str]) -> bool:
    """Tell whether a recognizer takes a video's frames as images (TSN, TSM).

    Args:
        kind (type | str): Class of the network, or its name in a config.
    """
    names = [kind]
    if not isinstance(kind, str):
        names = [base.__name__ for base in kind.__mro__]
    return any(name.endswith('Recognizer2D') for name in names)
