"""Which hosts are there, and where their registries find our classes."""

import importlib
import importlib.util
import warnings
from pathlib import Path

from .errors import MissingHostError

PACKAGE = Path(__file__).parent
# The folder that holds configs/ and tools/: the checkout, or what an
# installed wheel carries.
HOME = PACKAGE.parent
if not (HOME / 'setup.py').is_file():
    HOME = PACKAGE / '.mim'

HOSTS = {  # what to install (as tested)
    'mmpretrain': 'pip install mmpretrain==1.2.0',
    'mmaction': 'pip install mmaction2==1.2.0 av',
    'mmdet': 'pip install mmdet==3.3.0',
}
CLASSES = (  # the modules that fill each of their registries
    ('mmpretrain', 'MODELS', 'cgnl_mm.heads'),
    ('mmpretrain', 'DATASETS', 'cgnl_mm.datasets.mmpretrain'),
    ('mmaction', 'DATASETS', 'cgnl_mm.datasets.mmaction'),
    ('mmaction', 'TRANSFORMS', 'cgnl_mm.datasets.mmaction'),
    ('mmdet', 'DATASETS', 'cgnl_mm.datasets.mmdet'),
)


def has_openmmlab() -> bool:
    """Whether mmengine and an mmcv, which the blocks need, are there."""
    return all(map(importlib.util.find_spec, ('mmengine', 'mmcv')))


def require_mmcv() -> None:
    """Raise MissingHostError, saying what to install, without an mmcv."""
    for name in ('mmengine', 'mmcv'):
        if importlib.util.find_spec(name) is None:
            raise MissingHostError(
                f'{name} is not installed here. Activate the environment '
                '(`. .venv/bin/activate` after `make demo`), or run `pip '
                'install mmengine mmcv-lite==2.1.0`. A compiled mmcv 2.1.0 '
                'does as well; never both, they share one folder'
            )


def require_host(name: str) -> None:
    """Raise MissingHostError, saying what to install, without host ``name``.

    Args:
        name (str): Import name and default scope of a host: 'mmpretrain',
            'mmaction' or 'mmdet'. Other names pass: they are not ours.
    """
    if name in HOSTS and importlib.util.find_spec(name) is None:
        raise MissingHostError(
            f'{name} is not installed, and this config needs it. Run '
            f'`{HOSTS[name]}`'
        )


def host_of(cfg) -> str:
    """Name the package whose registries a config uses.

    Args:
        cfg (Config): With a default scope, or with a model whose type says
            where it is from: a class in a pure-Python config.

    Returns:
        str: Its name; '' if the config does not tell.
    """
    kind = cfg.get('default_scope') or (cfg.get('model') or {}).get('type', '')
    if isinstance(kind, str):
        return kind.partition('.')[0]
    packages = [base.__module__.partition('.')[0] for base in kind.__mro__]
    return next((name for name in packages if name in HOSTS), packages[0])


def dataset_class(cfg, dataset: dict) -> 'type | None':
    """Find the class of a data set.

    Args:
        cfg (Config): A config, which may have a default scope.
        dataset (dict): The config of the data set.
    """
    from mmengine.registry import DATASETS  # torch alone is enough for us

    kind = dataset.get('type')
    if isinstance(kind, str):
        scope = cfg.get('default_scope')
        with DATASETS.switch_scope_and_registry(scope) as registry:
            return registry.get(kind)
    return kind


def register_hosts() -> None:
    """Tell each installed host's registries where our classes are.

    A host imports them with its own models, on first use: importing
    ``cgnl_mm`` does not import three frameworks.
    """
    registries = {}
    for host in filter(importlib.util.find_spec, HOSTS):
        try:
            registries[host] = importlib.import_module(f'{host}.registry')
        except Exception as error:  # a broken host must not break the others
            warnings.warn(
                f'{host} is installed but does not import, so cgnl_mm '
                f'leaves it out: {type(error).__name__}: {error}',
                stacklevel=2,
            )
    for host, name, module in CLASSES:
        if host in registries:
            registry = getattr(registries[host], name)
            if registry._imported:
                importlib.import_module(module)
            elif module not in registry._locations:
                registry._locations.append(module)
