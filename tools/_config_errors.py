"""Mistakes in a config that MMEngine answers with a traceback, or not at all.

The names and arguments that do not exist, told in one line with what there
is; and keys that nothing reads.
"""

import difflib
import inspect
import re
from collections.abc import Iterator
from types import FrameType

UNFIT = re.compile(
    r'got (an unexpected keyword argument|multiple values for)'
    r'|missing \d+ required (positional|keyword-only) arguments?:'
)


def config_message(error: BaseException) -> str | None:
    """Say what is wrong where a registry could not build from a config.

    Args:
        error (BaseException): A name that no registry has, arguments that a
            class does not take, or what its constructor refuses in words.

    Returns:
        str | None: One line; None if the error is another one.
    """
    if isinstance(error, ImportError):
        return _missing_module(error)
    frames = list(_frames(error))
    for frame in frames:
        # a name that MMEngine looks up and does not check
        if frame.f_locals.get('optimizer_cls', frame) is None:
            name = frame.f_locals['optimizer_cfg']['type']
            return _no_such_name(name, frame.f_globals['OPTIMIZERS'])
    built = [f for f in frames if f.f_code.co_name == 'build_from_cfg']
    if not built or not isinstance(
        error, (AssertionError, KeyError, TypeError, ValueError)
    ):
        return None
    found, last = built[-1].f_locals, frames[-1]
    text = ' '.join(str(error.args[0] if error.args else error).split())
    kind = found.get('obj_cls')
    if last.f_code.co_name == '__init__' and not isinstance(error, TypeError):
        # a bare KeyError: 'x' is no message
        refused = ' ' in text and inspect.isclass(kind)
        return f'{kind.__name__}: {text}' if refused else None
    if isinstance(error, KeyError):
        if 'must contain the key "type"' in text:
            return f'a dict that names no type: {text[:300]}'
        name = found.get('obj_type')
        if not isinstance(name, str) or not text.startswith(f'{name} is not'):
            return None
        return _no_such_name(name, found['registry'])
    if kind is None or not UNFIT.search(text):
        return None
    return f'{text}. {_describe(kind, text)}'


def _missing_module(error: ImportError) -> str | None:
    """Of custom_imports; MMEngine's two ImportErrors lie over it."""
    if not str(error).startswith('Failed to import custom modules'):
        return None
    while error is not None and not isinstance(error, ModuleNotFoundError):
        error = error.__cause__ or error.__context__
    return error and (
        f'custom_imports: {error}. The folder that holds it has to be in '
        'PYTHONPATH, or its package installed'
    )


def _no_such_name(name: str, registry) -> str:
    return (
        f'no {name!r} among the {registry.name}s of {registry.scope}'
        + _suggestion(name, _names(registry))
        + ' A class of your own is registered by custom_imports'
    )


def _frames(error: BaseException) -> Iterator[FrameType]:
    """From the outermost call to the one that raised."""
    trace = error.__traceback__
    while trace is not None:
        yield trace.tb_frame
        trace = trace.tb_next


def _names(registry) -> list[str]:
    """Those of a registry and of its parents."""
    names = []
    while registry is not None:
        names += registry.module_dict
        registry = registry.parent
    return names


def _suggestion(name: str, known: list[str]) -> str:
    """A sentence, or a full stop."""
    lower = {other.lower(): other for other in known}
    near = difflib.get_close_matches(name.lower(), lower, n=3)
    found = [lower[other] for other in near]
    return f'; did you mean {" or ".join(found)}?' if near else '.'


def _describe(kind, text: str) -> str:
    """What a class takes, its bases' arguments behind ``**kwargs`` too."""
    parameters = {}
    for base in inspect.getmro(kind) if inspect.isclass(kind) else (kind,):
        function = base.__dict__.get('__init__') if base is not kind else kind
        if function is None or base is object:
            continue
        own = inspect.signature(function).parameters
        parameters.update(own)
        if not any(p.kind is p.VAR_KEYWORD for p in own.values()):
            break
    names = [
        name
        for name, p in parameters.items()
        if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL) and name != 'self'
    ]
    wrong = re.search(r"argument '(\w+)'", text)
    near = _suggestion(wrong[1], names) if wrong else ''
    label = getattr(kind, '__name__', str(kind))
    return f'{label} takes {", ".join(names)}{near}'


def unread_keys(cfg) -> dict[str, str]:
    """Find keys of a config that look like misspelt ones of the Runner.

    Args:
        cfg (Config): Merged with its bases.

    Returns:
        dict[str, str]: The key that was probably meant, by the one there.
    """
    from mmengine.runner import Runner

    known = [n for n in inspect.signature(Runner).parameters if n != 'cfg']
    found = {}
    for key in cfg:
        if key not in known and not key.startswith('_'):
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.9)
            if near:
                found[key] = near[0]
    return found
