"""Guards of comparisons and arithmetic, in place or not."""

from __future__ import annotations

import ast
import math
from typing import Final

from anabranch.sandbox.rewriting.nodes import assign, call, if_flat, slices_in
from anabranch.sandbox.rewriting.weighing import Weighing

__all__ = ["Operators"]

#: Numbers of so many bits are multiplied in less time than a guard takes.
_FEW_BITS: Final = 8_192
#: What gives a view of a dict, by which sets are made of anything that can be run through.
_VIEWING: Final = frozenset({"keys", "items", "getattr"})
_OF_IDENTITY: Final = (ast.Is, ast.IsNot)
_OF_SETS: Final = (ast.Sub, ast.BitOr, ast.BitAnd, ast.BitXor)


class Operators(Weighing):
    """Rules for operators."""

    @property
    def _has_views(self) -> bool:
        return not _VIEWING.isdisjoint(self._attributes)

    def visit_Compare(self, node: ast.Compare) -> ast.expr:
        parts = [node.left, *node.comparators]
        flat = [self._kinds.is_flat(part) or _is_written_out(part) for part in parts]
        sized = [self._kinds.is_sized(part) for part in node.comparators]
        self.generic_visit(node)
        if len(node.ops) == 1:
            return self._compared(node, *flat, is_sized=sized[0])
        # Of each two that are compared, one is light.
        node.comparators = [
            part if isinstance(op, _OF_IDENTITY) else self._light(part, known=known)
            for op, part, known in zip(node.ops, node.comparators, flat[1:], strict=True)
        ]
        node.left = self._light(node.left, known=flat[0])
        node.comparators = [
            call("$within", part, part)
            if isinstance(op, (ast.In, ast.NotIn)) and not known
            else part
            for op, part, known in zip(node.ops, node.comparators, sized, strict=True)
        ]
        return node

    def _compared(
        self, node: ast.Compare, left_is_flat: bool, right_is_flat: bool, *, is_sized: bool
    ) -> ast.expr:
        (op,), (right,) = node.ops, node.comparators
        match op:
            case ast.Is() | ast.IsNot():
                return node
            case ast.In() | ast.NotIn() if left_is_flat:
                if not is_sized:
                    node.comparators = [call("$within", right, right)]
                return node
            case ast.In() | ast.NotIn():
                found: ast.expr = call("$inside", node, node.left, right)
                if isinstance(op, ast.NotIn):
                    found = ast.copy_location(ast.UnaryOp(ast.Not(), found), node)
                if isinstance(node.left, ast.Name) and is_sized:
                    return if_flat(node.left, node, found)
                return found
            case _ if left_is_flat or right_is_flat:
                return node
            case _ if isinstance(node.left, ast.Name):
                node.left = self._light(node.left)
            case _:
                node.comparators = [self._light(right)]
        return node

    def visit_BinOp(self, node: ast.BinOp) -> ast.expr:
        name = self._guard_of(node.left, node.op, node.right)
        known = [self._kinds.is_flat(part) for part in (node.left, node.right)]
        self.generic_visit(node)
        if name is not None:
            return call(name, node, node.left, node.right)
        if self._has_views and isinstance(node.op, _OF_SETS):
            # A view of a dict makes a set of whatever stands on the other side.
            left, right = (
                part if is_number else call("$hashed", part, part)
                for part, is_number in zip((node.left, node.right), known, strict=True)
            )
            node.left, node.right = left, right
        return node

    def visit_AugAssign(self, node: ast.AugAssign) -> ast.stmt | list[ast.stmt]:
        target = node.target
        left = ast.Constant(None) if isinstance(target, ast.Subscript) else target
        name = self._guard_of(left, node.op, node.value)
        quiet = (
            self._is_known(node.value)
            if isinstance(node.op, ast.Add)
            else self._kinds.is_flat(node.value)
        )
        takes = (ast.Add, ast.BitOr, *(_OF_SETS if self._has_views else ()))
        if name is None and isinstance(node.op, ast.Add) and not quiet:
            name = "$add" if _is_of_itself(target, node.value) else None
        self.generic_visit(node)
        if isinstance(target, ast.Subscript) and not quiet:
            node.value = self._guarded_by("$kept", node.value)
        if name is not None:
            return _in_place(node, name.replace("$", "$i", 1))
        if isinstance(node.op, takes) and not quiet:
            # A list takes in whatever can be run through; dicts and sets hash it.
            guard = "$more" if isinstance(node.op, ast.Add) else "$hashed"
            node.value = call(guard, node.value, node.value)
        return node

    def _guard_of(self, left: ast.expr, op: ast.operator, right: ast.expr) -> str | None:
        kinds = self._kinds
        times = _written_out_times(right)
        match op:
            case ast.Mult():
                few = kinds.bits_of(left) + kinds.bits_of(right) <= _FEW_BITS
                return None if few else "$mul"
            case ast.Pow():
                return None if kinds.bits_of(left) * times <= _FEW_BITS else "$pow"
            case ast.LShift():
                return None if kinds.bits_of(left) + times <= _FEW_BITS else "$shift"
            case ast.Mod():
                return None if kinds.is_number(left) else "$mod"
            case ast.Add() if kinds.is_doubled(left, right):
                numbers = kinds.is_number(left) and kinds.is_number(right)
                return None if numbers else "$add"
            case _:
                return None


def _is_written_out(node: ast.expr) -> bool:
    """Whether a value is in the source, with all that it holds."""
    return all(
        isinstance(part, (ast.Constant, ast.List, ast.Tuple, ast.Set, ast.Load))
        for part in ast.walk(node)
    )


def _written_out_times(node: ast.expr) -> float:
    """The natural number that stands there; infinity if there is none."""
    match node:
        case ast.Constant(int(times)) if type(times) is int and times >= 0:
            return times
        case _:
            return math.inf


def _is_of_itself(target: ast.expr, value: ast.expr) -> bool:
    """Whether an item is put together with an item of the same thing: it might double."""
    if not isinstance(target, ast.Subscript) or slices_in(target.slice):
        return False
    owner = ast.dump(target.value)
    return any(
        isinstance(part, ast.Subscript) and ast.dump(part.value) == owner
        for part in ast.walk(value)
    )


def _in_place(node: ast.AugAssign, guard: str) -> ast.stmt | list[ast.stmt]:
    """``target op= value`` by way of a guard; the parts of the target are read once."""
    target = node.target
    if isinstance(target, ast.Name):
        value = call(guard, node, ast.Name(target.id, ast.Load()), node.value)
        return ast.copy_location(assign(target.id, value), node)
    assert isinstance(target, ast.Subscript)
    if any(isinstance(part, ast.Slice) for part in ast.walk(target.slice)):
        node.value = call("$small", node.value, node.value)
        return node
    whole, key = ast.Name("$whole", ast.Load()), ast.Name("$key", ast.Load())
    now = ast.Subscript(whole, key, ast.Load())
    return [
        ast.copy_location(statement, node)
        for statement in (
            assign("$whole", target.value),
            assign("$key", target.slice),
            ast.Assign(
                [ast.Subscript(whole, key, ast.Store())],
                call(guard, node, now, node.value),
            ),
        )
    ]
