"""How each code names the tensors of a network."""

import re
from dataclasses import dataclass
from typing import Optional, Tuple

from .network import BLOCKS, Network


@dataclass(frozen=True)
class Layout:
    """Names of one code.

    Attributes:
        name (str): What to call it in an error.
        prefixes (tuple[tuple[str, str], ...]): A prefix of torchvision's
            names, and what stands there in this code; the first that fits
            holds.
        shifted (bool): Whether the block takes a number among the residual
            units of its stage, as in the author's code, which moves the last
            unit to the next, and has the author's names.
        heads (tuple[str, ...]): Prefixes of a detector's heads.
    """

    name: str
    prefixes: Tuple[Tuple[str, str], ...]
    shifted: bool = False
    heads: Tuple[str, ...] = ()

    def to_plain(self, key: str) -> Optional[str]:
        """The key with torchvision's prefix; None for another's."""
        for plain, prefix in self.prefixes:
            if key.startswith(prefix):
                return plain + key[len(prefix) :]
        return None

    def key(self, name: str, network: Network) -> Optional[str]:
        """This code's name of one of the tensors of ``Network.shapes``.

        None for the biases that the author's NL block does not have.
        """
        if self.shifted and network.block is not None:
            name = _author_name(name, network)
            if name is None:
                return None
        for plain, prefix in self.prefixes:
            if name.startswith(plain):
                return prefix + name[len(plain) :]
        return None


def _author_name(name: str, network: Network) -> Optional[str]:
    last = network.unit + 1
    block = f'{network.block_path}.'
    if name.startswith(block):
        module, parameter = name[len(block) :].rsplit('.', 1)
        theirs = {v: k for k, v in BLOCKS[network.block][1].items()}[module]
        if theirs in 'tpgz' and parameter == 'bias':
            return None
        return f'layer3.{last}.{theirs}.{parameter}'
    return re.sub(rf'^layer3\.{last}\.', f'layer3.{last + 1}.', name)


AUTHOR = Layout("the author's code", (('', ''),), shifted=True)
# The first stages and the RPN see one network, the RoIs the last stage.
MASKRCNN_BENCHMARK = Layout(
    'maskrcnn-benchmark (R-50-C4)',
    (
        ('conv1.', 'backbone.body.stem.conv1.'),
        ('bn1.', 'backbone.body.stem.bn1.'),
        ('layer4.', 'roi_heads.box.feature_extractor.head.layer4.'),
        ('', 'backbone.body.'),
    ),
    shifted=True,
    heads=('rpn.', 'roi_heads.'),
)
MMPRETRAIN = Layout('mmpretrain', (('fc.', 'head.fc.'), ('', 'backbone.')))
MMDET = Layout('mmdet', (('', 'backbone.'),))
MMDET_C4 = Layout(
    'mmdet (C4)',
    (('layer4.', 'roi_head.shared_head.layer4.'), ('', 'backbone.')),
)
