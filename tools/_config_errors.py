"""Mistakes in a config that MMEngine answers with a traceback.

Each rule knows the place that an error comes from, and tells in one line
which setting was refused there. What comes from elsewhere is a fault.
"""

import ast
import difflib
import inspect
import os
import re
import sysconfig

from _failing_line import (
    Point,
    describe,
    failing_statement,
    points,
    text_for_number,
    values,
)

UNFIT = re.compile(
    r'got (an unexpected keyword argument|multiple values for)'
    r'|missing \d+ required (positional|keyword-only) arguments?:'
)
# what a constructor raises over its settings
REFUSALS = (AssertionError, IndexError, KeyError, TypeError, ValueError)
STDLIB = sysconfig.get_paths()['stdlib'].replace('\\', '/')
SHAPES = re.compile(
    r'shapes cannot be multiplied|to have \d+ channels, but got \d+ channels'
)


def config_message(error: BaseException) -> str | None:
    """Say what is wrong where a config could not be read, built or run.

    Args:
        error (BaseException): Raised while the config was read, by a
            registry or a constructor that refuses its settings, by the
            Runner, or by the first iteration for want of classes or channels.

    Returns:
        str | None: One line; None if the error is another one.
    """
    trace = points(error)
    if not trace:  # of another process
        return None
    text = ' '.join(str(error.args[0] if error.args else error).split())
    for rule in RULES:
        message = rule(error, text, trace)
        if message is not None:
            return ' '.join(message.split())
    return None


# ---- rules: (error, its text in one line, the traceback) -> message or None


def _missing_module(error, text, trace) -> str | None:
    """Of custom_imports; MMEngine's two ImportErrors lie over it."""
    if not text.startswith('Failed to import custom modules'):
        return None
    while error is not None and not isinstance(error, ModuleNotFoundError):
        error = error.__cause__ or error.__context__
    return error and (
        f'custom_imports: {error}. The folder that holds it has to be in '
        'PYTHONPATH, or its package installed'
    )


def _reading(error, text, trace) -> str | None:
    """The file itself, its bases, and what it changes of them."""
    readers = [
        p
        for p in trace
        if '/mmengine/config/' in p.file and 'filename' in p.locals
    ]
    if not readers or isinstance(error, ImportError):
        return None
    path = readers[-1].locals['filename']
    if isinstance(error, SyntaxError):
        return f'{path}, line {error.lineno}: {error.msg}'
    if isinstance(error, OSError):
        if error.filename and str(error.filename) == str(path):
            first = readers[0].locals['filename']
            return (
                f'{first}: its `_base_` {os.path.normpath(path)!r}: '
                f'{error.strerror}'
            )
        return None
    last = trace[-1]
    inside = '/mmengine/config/' in last.file
    # MMEngine runs a config with its bases among the globals
    own = [
        p
        for p in trace
        if p.function == '<module>' and '_base_' in p.frame.f_globals
    ]
    if own and (inside or last == own[-1]):
        return (
            f'{own[-1].file}, line {own[-1].line}: '
            f'{type(error).__name__}: {text[:300]}'
        )
    if inside and isinstance(error, (*REFUSALS, RuntimeError)):
        key = re.match(r"(\w+)=.* of type <class '(list|tuple)'>", text)
        if key:
            return (
                f'{path}: {key[1]} is a {key[2]} in the base config and a '
                f'dict here: write the whole {key[2]}, {key[1]}=[dict(...)]'
            )
        return f'{path}: {text[:500]}'
    return None


def _folder(error, text, trace) -> str | None:
    """The work folder that cannot be made."""
    if isinstance(error, OSError) and any(
        p.function == 'mkdir_or_exist' for p in trace
    ):
        return (
            f'work_dir: no folder can be made at {error.filename!r}: '
            f'{error.strerror}'
        )
    return None


def _weights(error, text, trace) -> str | None:
    """A checkpoint that is not there, in init_cfg, pretrained or load_from."""
    reads = [
        p for p in trace if p.file.endswith('/mmengine/runner/checkpoint.py')
    ]
    named = [p for p in reads if isinstance(p.locals.get('filename'), str)]
    if not named or not isinstance(error, (KeyError, OSError)):
        return None
    name = named[-1].locals['filename']
    owners = [
        type(p.locals['self']).__name__
        for p in trace
        if p.function == 'init_weights' and 'self' in p.locals
    ]
    where = f'weights of {owners[-1]}' if owners else 'load_from'
    urls = reads[-1].locals.get('model_urls')
    if isinstance(error, KeyError):
        if urls is None:
            return None
        near = difflib.get_close_matches(error.args[0], urls, n=3, cutoff=0.5)
        hint = f'; did you mean {" or ".join(near)}?' if near else ''
        return f'{where}: {name!r} names no known weights{hint}'
    if '://' in name:
        return f'{where}: {name!r} cannot be read: {text or error}'
    if reads[-1].function != 'load_from_local' or not os.path.exists(name):
        return f'{where}: no file {name!r} in {os.getcwd()}'
    return None


def _optimizer(error, text, trace) -> str | None:
    """A name that MMEngine looks up and does not check."""
    for point in trace:
        if point.locals.get('optimizer_cls', point) is None:
            name = point.locals['optimizer_cfg']['type']
            return _no_such_name(name, point.frame.f_globals['OPTIMIZERS'])
    return None


def _frozen(error, text, trace) -> str | None:
    for point in trace:
        own = point.locals.get('self')
        if point.function == '_freeze_stages' and isinstance(
            error, AttributeError
        ):
            last = len(own.res_layers)
            if own.frozen_stages > last:
                return (
                    f'{type(own).__name__}: frozen_stages='
                    f'{own.frozen_stages}, but it has {last} stages: allowed '
                    f'are -1 to {last}'
                )
    return None


def _built(error, text, trace) -> str | None:
    """What a registry could not build."""
    built = [i for i, p in enumerate(trace) if p.function == 'build_from_cfg']
    if not built:
        return None
    found, inner = trace[built[-1]].locals, trace[built[-1] + 1 :]
    last = trace[-1]
    kind, args = found.get('obj_cls'), found.get('args') or {}
    label = getattr(kind, '__name__', str(kind))
    if isinstance(error, OSError) and kind is not None and error.filename:
        if os.path.exists(error.filename):
            return None
        return (
            f'{label}: no file or folder {error.filename!r}, seen from '
            f'{os.getcwd()}'
        )
    if not isinstance(error, REFUSALS):
        return None
    if last.function == '__init__' and not isinstance(
        error, (IndexError, TypeError)
    ):
        # a bare KeyError: 'x' is no message
        if ' ' in text and inspect.isclass(kind):
            hint = text_for_number(_given(last, args))
            return f'{label}: {text}' + (f' ({hint})' if hint else '')
    elif isinstance(error, KeyError):
        if 'must contain the key "type"' in text:
            return f'a dict that names no type: {text[:300]}'
        name = found.get('obj_type')
        if isinstance(name, str) and text.startswith(f'{name} is not'):
            return _no_such_name(name, found['registry'])
    elif kind is not None and UNFIT.search(text):
        return f'{text}. {_describe(kind, text, found["registry"])}'
    # the line of a constructor that its settings made fail; what fails in
    # a function that it calls is a fault of that function
    while inner and _is_stdlib(inner[-1].file):
        inner.pop()
    if kind is None or not inner or inner[-1].function != '__init__':
        return None
    maker = inner[-1]
    extra = sorted(set(maker.locals.get('kwargs') or ()) & set(args))
    if isinstance(error, AssertionError) and 'kwargs' in values(maker):
        if extra:
            text = f"{label} got an unexpected keyword argument '{extra[0]}'"
            return f'{text}. {_describe(kind, text, found["registry"])}'
    settings = _given(maker, args)
    if not settings:
        return None
    if isinstance(error, AssertionError) and not text:
        text = f'not so: {ast.unparse(failing_statement(maker)[0].test)}'
    elif isinstance(error, KeyError):
        text = f'KeyError: {text}'
    hint = text_for_number(settings)
    return f'{label}: {describe(settings)}: {text}' + (
        f' ({hint})' if hint else ''
    )


def _runner(error, text, trace) -> str | None:
    """What the Runner, its loops or the data loaders refuse."""
    last = trace[-1]
    if isinstance(error, TypeError) and UNFIT.search(text):
        # a loop that the Runner calls by its class
        name = re.match(r'(\w+)\.__init__\(\)', text)
        kind = name and last.frame.f_globals.get(name[1])
        if '/mmengine/runner/' in last.file and kind:
            return f'{text}. {_describe(kind, text)}'
        return None
    loader = '/torch/utils/data/' in last.file and last.function == '__init__'
    if not loader and '/mmengine/runner/' not in last.file:
        return None
    if not isinstance(error, (*REFUSALS, RuntimeError)):
        return None
    if error.__context__ is not None:  # passes on what a hook has raised
        return None
    statement = failing_statement(last)
    found = values(last)
    hint = text_for_number(found)
    if statement is None or not (
        isinstance(statement[0], (ast.Raise, ast.Assert)) or hint
    ):
        return None
    if len(text) > 200:  # whole parts of the config
        start = text.partition(', but got')[0]
        named = {k: v for k, v in found.items() if k in start}
        text = f'{start[:300]}, got {describe(named)}'
    return text + (f' ({hint})' if hint else '')


def _parameter_groups(error, text, trace) -> str | None:
    if isinstance(error, ValueError) and 'parameter group' in text:
        if any(p.function == 'resume' for p in trace):
            return (
                'the checkpoint cannot be resumed from with this optimizer: '
                f'{text}. `optim_wrapper` (paramwise_cfg) or the frozen '
                'stages are others than when it was written'
            )
    return None


def _first_iteration(error, text, trace) -> str | None:
    """Classes and channels that do not fit."""
    steps = ('train_step', 'val_step', 'test_step')
    roots = [p for p in trace if p.function in steps and 'self' in p.locals]
    if not roots:
        return None
    label = re.match(r'Target (-?\d+) is out of bounds', text)
    if isinstance(error, IndexError) and label:
        for point in reversed(trace):
            if point.function == 'cross_entropy' and 'target' in point.locals:
                classes = point.locals['input'].shape[1]
                highest = int(point.locals['target'].max())
                return (
                    f'label {label[1]} is out of the range of num_classes='
                    f'{classes}: labels go from 0 to num_classes - 1, and '
                    f'this batch has labels up to {highest}'
                )
    if not isinstance(error, RuntimeError) or not SHAPES.search(text):
        return None
    for point in reversed(trace):
        layer = point.locals.get('self')
        wanted = getattr(layer, 'in_features', None) or getattr(
            layer, 'in_channels', None
        )
        x = point.locals.get('input')
        if wanted and hasattr(x, 'shape'):
            names = {m: n for n, m in roots[0].locals['self'].named_modules()}
            name = names.get(layer, type(layer).__name__)
            axis = -1 if hasattr(layer, 'in_features') else 1
            return (
                f'{name} is built for in_channels={wanted}, but '
                f'{x.shape[axis]} come in (shape {tuple(x.shape)}): correct '
                f'in_channels of {name.rpartition(".")[0] or name}, or what '
                'comes before it'
            )
    return None


RULES = (
    _missing_module,
    _reading,
    _folder,
    _weights,
    _optimizer,
    _frozen,
    _built,
    _runner,
    _parameter_groups,
    _first_iteration,
)


# ---- what the rules share


def _is_stdlib(file: str) -> bool:
    return file.startswith('<frozen') or (
        file.startswith(STDLIB) and 'site-packages' not in file
    )


def _given(point: Point, args: dict) -> dict:
    """Those values of the failing statement that a config has set."""
    return {k: v for k, v in values(point).items() if k in args}


def _no_such_name(name: str, registry) -> str:
    return (
        f'no {name!r} among the {registry.name}s of {registry.scope}'
        + _suggestion(name, _names(registry))
        + ' A class of your own is registered by custom_imports'
    )


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


def _describe(kind, text: str, registry=None) -> str:
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
    if wrong and wrong[1] == 'plugins' and registry is not None:
        ours = f'Plugin{label}'
        if ours in _names(registry):
            near = f'; type={ours!r} takes plugins'
    return f'{label} takes {", ".join(names)}{near}'
