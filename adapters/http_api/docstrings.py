"""The docstrings of attributes: the texts below the fields of a class."""

import ast
import inspect
import textwrap
from functools import cache
from itertools import pairwise


@cache
def attribute_docstrings(class_: type) -> dict[str, str]:
    """The docstring below each field of a class, on one line; it is read from the class's source."""
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(class_))).body
    found: dict[str, str] = {}
    body = definition.body if isinstance(definition, ast.ClassDef) else []
    for statement, following in pairwise(body):
        match statement, following:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                found[name] = " ".join(text.split())
    return found
