"""The one input check that every path shares."""

from torch import Tensor


def split_groups(groups: int, **maps: Tensor):
    """View feature maps as (B, G, N): one row a group, N = C / G * S.

    Args:
        groups (int): Number of channel groups G.
        **maps (Tensor): Named maps of one shape (B, C, \\*spatial).

    Returns:
        list[Tensor]: The maps as (B, G, N), in the order given.

    Raises:
        ValueError: If the shapes differ, have no channel axis, or G does not
            divide C.
    """
    shapes = {name: tuple(x.shape) for name, x in maps.items()}
    shape = next(iter(shapes.values()))
    # not as a set: under torch.jit.trace sizes are tensors
    if any(other != shape for other in shapes.values()):
        raise ValueError(
            'expected maps of one shape (B, C, *spatial), got '
            + ', '.join(f'{name} {shape}' for name, shape in shapes.items())
        )
    if len(shape) < 2:
        raise ValueError(
            f'expected maps of shape (B, C, *spatial), got {shape}'
        )
    if isinstance(groups, bool) or not isinstance(groups, int) or groups < 1:
        raise ValueError(f'groups must be an integer >= 1, got {groups!r}')
    if shape[1] % groups:
        raise ValueError(
            f'groups={groups} does not divide the {shape[1]} channels'
        )
    size = shape[1] // groups
    for extent in shape[2:]:
        size *= extent
    return [x.reshape(shape[0], groups, size) for x in maps.values()]
