"""Where scalars and other values part: what compares, hashes or keeps one looks at it."""

from __future__ import annotations

import ast

from anabranch.sandbox.kinds import Kinds
from anabranch.sandbox.rewriting.nodes import call, has_star, if_flat, slices_in

__all__ = ["Weighing"]


class Weighing(ast.NodeTransformer):
    """Rules for displays and subscripts, and what all rules build on.

    Args:
        kinds: What is known of the names of the source.
        attributes: Those that it reads anywhere, and ``getattr`` if others may be.
    """

    def __init__(self, kinds: Kinds, attributes: frozenset[str]) -> None:
        self._kinds = kinds
        self._attributes = attributes
        #: How many iterables of comprehensions are around: there no name can be bound.
        self._in_iterables = 0

    # ------------------------------------------------------------------- single values

    def _light(self, node: ast.expr, *, known: bool = False) -> ast.expr:
        """A value that is to be compared, hashed or written out."""
        if known or self._kinds.is_flat(node):
            return node
        match node:
            case ast.Tuple(parts) if not has_star(parts):
                node.elts = [self._light(part) for part in parts]
                return node
            case ast.Slice():
                # From Python 3.12 on it can be hashed.
                for name in ("lower", "upper", "step"):
                    part = getattr(node, name)
                    setattr(node, name, part and self._light(part))
                return node
            case _:
                return self._guarded_by("$light", node)

    def _guarded_by(self, guard: str, node: ast.expr) -> ast.expr:
        """What a guard gives for a value, or the value itself if it is a scalar."""
        if isinstance(node, ast.Name):
            return if_flat(node, node, call(guard, node, node))
        if self._in_iterables:
            return call(guard, node, node)
        it = ast.copy_location(ast.Name("$it", ast.Load()), node)
        named = ast.NamedExpr(ast.Name("$it", ast.Store()), node)
        return if_flat(named, it, call(guard, node, it))

    def _kept(self, node: ast.expr) -> ast.expr:
        """A value whose parts become items."""
        if isinstance(node, (ast.Tuple, ast.List)) and not has_star(node.elts):
            node.elts = [
                part
                if self._kinds.is_flat(part) or self._kinds.is_sized(part)
                else self._guarded_by("$kept", part)
                for part in node.elts
            ]
            return node
        return call("$all_kept", node, node)

    def _is_known(self, node: ast.expr) -> bool:
        """Whether running through it ends soon, if it can be run through at all."""
        kinds = self._kinds
        return isinstance(node, ast.BinOp) or kinds.is_flat(node) or kinds.is_sized(node)

    # ---------------------------------------------------------- displays and subscripts

    def visit_Dict(self, node: ast.Dict) -> ast.expr:
        known = [key is None or self._kinds.is_flat(key) for key in node.keys]
        self.generic_visit(node)
        node.keys = [
            key if key is None else self._light(key, known=is_known)
            for key, is_known in zip(node.keys, known, strict=True)
        ]
        return node

    def visit_Set(self, node: ast.Set) -> ast.expr:
        known = [self._kinds.is_flat(part) for part in node.elts]
        self.generic_visit(node)
        node.elts = [
            ast.copy_location(
                ast.Starred(call("$hashed", part, part.value), ast.Load()), part
            )
            if isinstance(part, ast.Starred)
            else self._light(part, known=is_known)
            for part, is_known in zip(node.elts, known, strict=True)
        ]
        return node

    def visit_SetComp(self, node: ast.SetComp) -> ast.expr:
        known = self._kinds.is_flat(node.elt)
        self.generic_visit(node)
        node.elt = self._light(node.elt, known=known)
        return node

    def visit_DictComp(self, node: ast.DictComp) -> ast.expr:
        known = self._kinds.is_flat(node.key)
        self.generic_visit(node)
        node.key = self._light(node.key, known=known)
        return node

    def visit_Subscript(self, node: ast.Subscript) -> ast.expr:
        known = self._kinds.is_flat(node.slice)
        self.generic_visit(node)
        node.slice = self._light(node.slice, known=known)
        if isinstance(node.ctx, ast.Store):
            for part in slices_in(node.slice):
                # As a key of a dict it would be kept, and could hold others like it.
                part.lower = self._bound(part.lower)
                part.upper = self._bound(part.upper)
                part.step = self._bound(part.step)
        return node

    def _bound(self, node: ast.expr | None) -> ast.expr | None:
        if node is None or self._kinds.is_number(node):
            return node
        return call("$bound", node, node)
