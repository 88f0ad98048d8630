"""A whole tree with guards: all rules at once, and the statements in a function."""

from __future__ import annotations

import ast
import sys
from collections.abc import Collection

from anabranch.sandbox.kinds import kinds_of
from anabranch.sandbox.policy import bound_names
from anabranch.sandbox.rewriting.nodes import call
from anabranch.sandbox.rewriting.operators import Operators
from anabranch.sandbox.rewriting.reading import Reading
from anabranch.sandbox.rewriting.statements import Statements

__all__ = ["guarded"]


def guarded(
    tree: ast.Module | ast.Expression, *, given: Collection[str]
) -> ast.Module | ast.Expression:
    """The same tree with guards, changed in place.

    Args:
        tree: One that the policy allows.
        given: Names that have a value before the code runs.
    """
    names = bound_names(tree) if isinstance(tree, ast.Module) else ()
    _Guarding(kinds_of(tree, given), _attributes_in(tree)).visit(tree)
    if isinstance(tree, ast.Module) and tree.body:
        tree.body = _in_a_function(tree.body, names)
    return ast.fix_missing_locations(tree)


def _in_a_function(body: list[ast.stmt], names: Collection[str]) -> list[ast.stmt]:
    """Statements as a function's, all of whose names are global: they are found sooner.

    Raises:
        SyntaxError: If one would leave the function.
    """
    todo: list[ast.AST] = [*body]
    while todo:
        node = todo.pop()
        if isinstance(node, (ast.Return, ast.Yield, ast.YieldFrom)):
            word = "return" if isinstance(node, ast.Return) else "yield"
            where = ("<sandbox>", node.lineno, node.col_offset + 1, None)
            raise SyntaxError(f"'{word}' outside function", where)  # noqa: TRY004  # it is none
        if not isinstance(node, (ast.FunctionDef, ast.Lambda)):
            todo += ast.iter_child_nodes(node)
    nothing = ast.arguments([], [], None, [], [], None, [])
    main = ast.FunctionDef("$main", nothing, [*_declared(names), *body], [])
    if sys.version_info >= (3, 12):
        main.type_params = []
    return [ast.copy_location(main, body[0]), ast.Expr(call("$main", body[-1]))]


def _declared(names: Collection[str]) -> list[ast.stmt]:
    return [ast.Global(sorted(names))] if names else []


def _attributes_in(tree: ast.AST) -> frozenset[str]:
    """The attributes that are read anywhere, and `getattr` if others may be."""
    return frozenset(
        node.attr if isinstance(node, ast.Attribute) else node.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        or (isinstance(node, ast.Name) and node.id == "getattr")
    )


class _Guarding(Reading, Operators, Statements):
    """All rules; each is for kinds of nodes of its own."""
