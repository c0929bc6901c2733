"""What a resumed run's config says otherwise than its checkpoint's."""

import ast

from mmengine.runner import Runner

from ..errors import printable

# of the job, not of what it computes
OF_THE_JOB = ('resume', 'load_from', 'work_dir', 'launcher')
SHOWN, WIDTH = 20, 100  # lines, characters of a key or value
# the last two: a text that is nested too deep for Python's parser
UNREADABLE = (
    KeyError, SyntaxError, TypeError, ValueError, RecursionError, MemoryError,
)  # fmt: skip


def warn_of_changes(runner: Runner, checkpoint: dict) -> None:
    """Name the settings that differ from those under which it was saved.

    Weights that fit do not tell: another kernel, another learning rate or
    another data set resumes without an error. Nothing of the checkpoint's
    text is executed.

    Args:
        runner (Runner): The one that resumes.
        checkpoint (dict): With ``meta['cfg']``, as MMEngine saves it.
    """
    try:
        then = settings(checkpoint['meta']['cfg'])
        now = settings(runner.cfg.pretty_text)
    except UNREADABLE:
        return  # saved by something else
    changes = [
        f'  {_cut(key)}: {_cut(then.get(key, "not set"))} -> '
        f'{_cut(now.get(key, "not set"))}'
        for key in sorted({*then, *now})
        if then.get(key) != now.get(key)
        and key.partition('.')[0] not in OF_THE_JOB
    ]
    if not changes:
        return
    more = len(changes) - SHOWN
    if more > 0:
        changes[SHOWN:] = [f'  and {more} more']
    runner.logger.warning(
        'the run goes on with other settings than those of the checkpoint '
        '(then -> now):\n' + '\n'.join(changes)
    )


def _cut(text: str) -> str:
    text = printable(text)
    return text if len(text) <= WIDTH else text[: WIDTH - 3] + '...'


def settings(text: str) -> dict[str, str]:
    """Read the text of a config without running it.

    Args:
        text (str): Assignments, as ``Config.pretty_text`` writes them.

    Returns:
        dict: Dotted key, as ``--cfg-options`` takes it -> source of the
        value.

    Raises:
        SyntaxError, TypeError, ValueError, RecursionError, MemoryError: It
            is no such text.
    """
    found = {}
    for line in ast.parse(text).body:
        if isinstance(line, ast.Assign) and isinstance(
            line.targets[0], ast.Name
        ):
            _collect(line.value, line.targets[0].id, found)
    return found


def _collect(node: ast.expr, key: str, found: dict[str, str]) -> None:
    call = isinstance(node, ast.Call) and ast.unparse(node.func) == 'dict'
    if call and node.args and not node.keywords:  # keys that are no names
        node, call = node.args[0], False
    if call:
        items = [(item.arg, item.value) for item in node.keywords]
    elif isinstance(node, ast.Dict):
        items = [
            (item.value if isinstance(item, ast.Constant) else None, value)
            for item, value in zip(node.keys, node.values)
        ]
    elif isinstance(node, (ast.List, ast.Tuple)):
        items = list(enumerate(node.elts))
    else:
        items = []
    if not items or any(name is None for name, _ in items):
        found[key] = ast.unparse(node)
        return
    for name, value in items:
        _collect(value, f'{key}.{name}', found)
