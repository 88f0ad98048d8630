"""Expressions as text: judged like a source, by a smaller grammar."""

from __future__ import annotations

# Values of any type are what this module is about.
# pyright: basic
import ast
import re
from collections.abc import Callable
from typing import Any, Final

from anabranch.sandbox.arithmetic import may_format, may_multiply
from anabranch.sandbox.frames.cells import objects_in
from anabranch.sandbox.objects import refuse

__all__ = ["expression"]

Value = Any


def expression(
    self: Value, method: Callable[..., Value], /, expr: Value, **named: Value
) -> Value:
    """What an expression gives, if it is arithmetic with columns."""
    if set(named) - {"inplace"}:
        refuse(f"these arguments of {method.__name__}()", "only an expression is offered")
    largest_named = _judge_expression(expr)
    for cell in objects_in(self):
        # Each is multiplied, or is a format, as in Python.
        may_multiply(cell, largest_named)
        may_format(cell, largest_named)
    return method(expr, **named)


_IN_EXPRESSIONS: Final = (
    *(ast.Module, ast.Expr, ast.Assign, ast.BoolOp, ast.BinOp, ast.UnaryOp, ast.Compare),
    *(ast.Name, ast.Constant, ast.List, ast.Tuple, ast.expr_context, ast.boolop),
    *(ast.unaryop, ast.cmpop, ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod),
    *(ast.BitAnd, ast.BitOr, ast.BitXor, ast.Pow),
)


def _judge_expression(text: Value) -> int:
    """The largest integer in an expression, if there is nothing in it but arithmetic."""
    if type(text) is not str or len(text) > 2_000:
        refuse("this expression", "pandas takes a short text here")
    quoted = re.sub(r"`[^`]*`", "quoted", text)
    if "@" in quoted:
        refuse("`@` in an expression", "it reads variables; write the value in an f-string")
    try:
        tree = ast.parse(quoted.strip(), "<expression>", "exec")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        refuse(f"the expression {text[:100]!r}", "it cannot be read")
    for node in ast.walk(tree):
        if not isinstance(node, _IN_EXPRESSIONS):
            refuse(
                f"{type(node).__name__} in an expression", "columns, values, comparisons"
            )
        if isinstance(node, ast.Name) and node.id.startswith("_"):
            refuse(f"the name {node.id!r} in an expression", "it is not a column's")
        if isinstance(node, ast.Pow):
            refuse("`**` in an expression", "multiply, or compute it before")
        if isinstance(node, ast.BinOp) and any(map(_is_text, ast.walk(node))):
            refuse("arithmetic with a text in an expression", "compute it before")
    numbers = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    return max((abs(n) for n in numbers if isinstance(n, int)), default=0)


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, (str, bytes))
