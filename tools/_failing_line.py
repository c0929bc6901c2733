"""The statement that raised an error, and the values that it looked at."""

import ast
import inspect
import reprlib
import textwrap
from types import FrameType
from typing import Any, NamedTuple


class Point(NamedTuple):
    """Where a traceback passes."""

    frame: FrameType
    line: int

    @property
    def function(self) -> str:
        return self.frame.f_code.co_name

    @property
    def file(self) -> str:
        return self.frame.f_code.co_filename.replace('\\', '/')

    @property
    def locals(self) -> dict:
        return self.frame.f_locals


def points(error: BaseException) -> 'list[Point]':
    """From the outermost call to the one that raised."""
    found, trace = [], error.__traceback__
    while trace is not None:
        found.append(Point(trace.tb_frame, trace.tb_lineno))
        trace = trace.tb_next
    return found


def failing_statement(point: Point) -> 'tuple[ast.stmt, list] | None':
    """Find the innermost statement at a point.

    Returns:
        tuple[stmt, list] | None: The statement, and those of its expressions
        that may have failed (a ``raise`` has the condition around it, too).
        None if there is no source.
    """
    try:
        lines, first = inspect.getsourcelines(point.frame.f_code)
        tree = ast.parse(textwrap.dedent(''.join(lines)))
    except (OSError, SyntaxError, TypeError):
        return None
    ast.increment_lineno(tree, max(first, 1) - 1)
    around = [  # breadth first: the innermost is the last
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.stmt)
        and node.lineno <= point.line <= node.end_lineno
    ]
    if not around:
        return None
    last = around[-1]
    if isinstance(last, (ast.If, ast.While, ast.Assert)):
        return last, [last.test]
    if isinstance(last, ast.For):
        return last, [last.iter]
    if isinstance(last, ast.Raise):
        ifs = [node.test for node in around if isinstance(node, ast.If)]
        return last, [last, *ifs[-1:]]
    if isinstance(last, (ast.FunctionDef, ast.ClassDef, ast.With, ast.Try)):
        return None
    return last, [last]


def values(point: Point) -> 'dict[str, Any]':
    """Names that the failing statement looks at, ``self.name`` among them."""
    found = {}
    own = point.locals.get('self')
    statement = failing_statement(point)
    for part in statement[1] if statement else ():
        for node in ast.walk(part):
            if isinstance(node, ast.Name) and node.id in point.locals:
                found[node.id] = point.locals[node.id]
            elif (
                isinstance(node, ast.Attribute)
                and isinstance(node.value, ast.Name)
                and node.value.id == 'self'
                and node.attr in getattr(own, '__dict__', {})
            ):
                found[node.attr] = own.__dict__[node.attr]
    found.pop('self', None)
    return found


def describe(settings: 'dict[str, Any]') -> str:
    """``a=1, b='2'``, long values cut."""
    short = reprlib.Repr()
    short.maxstring = short.maxother = 80
    # plain dicts: a ConfigDict is not cut
    return ', '.join(
        f'{k}={short.repr(dict(v) if isinstance(v, dict) else v)}'
        for k, v in settings.items()
    )


def text_for_number(settings: 'dict[str, Any]') -> str:
    """A sentence about the numbers that were written as text, or ''."""
    found = []
    for name, value in settings.items():
        if isinstance(value, str):
            try:
                float(value)
            except ValueError:
                continue
            found.append(f'{name}={value!r} is text: write {name}={value}')
    return '; '.join(found)
