"""Nodes: what a few of them say of themselves, and how new ones are made."""

from __future__ import annotations

import ast

__all__ = ["assign", "call", "has_star", "if_flat", "slices_in"]


def has_star(nodes: list[ast.expr]) -> bool:
    """Whether one of them is spread out."""
    return any(isinstance(node, ast.Starred) for node in nodes)


def slices_in(node: ast.expr) -> list[ast.Slice]:
    """The slices of a subscript; none if it is an index."""
    parts = node.elts if isinstance(node, ast.Tuple) else [node]
    return [part for part in parts if isinstance(part, ast.Slice)]


def if_flat(value: ast.expr, plain: ast.expr, guarded: ast.expr) -> ast.expr:
    """What is plain if a value is a scalar: written out, since a call costs."""
    kind = ast.Call(ast.Name("$type", ast.Load()), [value], [])
    test = ast.Compare(kind, [ast.In()], [ast.Name("$scalars", ast.Load())])
    return ast.copy_location(ast.IfExp(test, plain, guarded), value)


def assign(name: str, value: ast.expr) -> ast.Assign:
    """``name = value``, standing where the value does."""
    return ast.copy_location(ast.Assign([ast.Name(name, ast.Store())], value), value)


def call(guard: str, where: ast.AST, *arguments: ast.expr) -> ast.Call:
    """A call of a guard, standing where another node does."""
    made = ast.Call(ast.Name(guard, ast.Load()), list(arguments), [])
    return ast.copy_location(made, where)
