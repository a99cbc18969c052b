"""Which values a module logs, as its source says."""

from __future__ import annotations

import ast
import inspect
import textwrap


def names_logged(kind: type, base: type) -> list[str]:
    """The names that a module logs, as far as its source has them as texts, so that the table begins with their columns.

    Args:
        kind: The class of the module.
        base: The class of Lightning that it derives from.
    """
    names: dict[str, None] = {}
    for one in kind.__mro__[: kind.__mro__.index(base)]:
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(one)))
        except (OSError, TypeError, SyntaxError):  # made in a session, or without a source
            continue
        for method in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)):
            if not method.name.startswith(("test_", "predict_")):
                names |= dict.fromkeys(name for node in ast.walk(method) for name in _names_in(node))
    return list(names)


def _names_in(node: ast.AST) -> list[str]:
    """The names that a line of code logs: self.log("loss", …), self.log_dict({"loss": …, "acc": …})."""
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
        return []
    first = [*node.args, *(keyword.value for keyword in node.keywords)][:1]
    if node.func.attr == "log_dict":
        first = [key for one in first if isinstance(one, ast.Dict) for key in one.keys if key is not None]
    elif node.func.attr != "log":
        return []
    return [one.value for one in first if isinstance(one, ast.Constant) and isinstance(one.value, str)]
