"""Guards where attributes are read, functions called and texts put together."""

from __future__ import annotations

import ast
from typing import Final

from anabranch.sandbox.kinds import Kinds
from anabranch.sandbox.names import PLAIN_ATTRIBUTES
from anabranch.sandbox.rewriting.nodes import call, has_star
from anabranch.sandbox.rewriting.weighing import Weighing

__all__ = ["Reading"]

#: A number of more digits in a format specification is looked at.
_SPEC_DIGITS: Final = 3
#: An f-string of more parts is put together under a guard.
_FEW_PARTS: Final = 16
#: Methods that are plain when they are called with nothing, or with what is written out.
_STRIPPING: Final = frozenset({"strip", "lstrip", "rstrip"})
#: What gives an accessor of pandas, whose `split` takes a pattern.
_ACCESSING: Final = frozenset({"str", "getattr"})
#: Arguments by which an exception holds another value.
_HELD: Final = frozenset({"name", "obj"})
#: Plain methods whose first argument is hashed.
_HASHING: Final = frozenset("add discard get pop setdefault".split())


class Reading(Weighing):
    """Rules for attributes, calls and f-strings."""

    def __init__(self, kinds: Kinds, attributes: frozenset[str]) -> None:
        super().__init__(kinds, attributes)
        self._plain = PLAIN_ATTRIBUTES - _STRIPPING
        if not _ACCESSING.isdisjoint(attributes):
            self._plain -= {"split"}
        self._called: set[ast.expr] = set()

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        self.generic_visit(node)
        if node.attr in self._plain and (node.attr not in _HASHING or node in self._called):
            return node
        return call("$get", node, node.value, ast.Constant(node.attr))

    def visit_Call(self, node: ast.Call) -> ast.expr:
        function = node.func
        written_out = all(isinstance(arg, ast.Constant) for arg in node.args)
        first = node.args[0] if node.args and not has_star(node.args) else None
        hashes = isinstance(function, ast.Attribute) and function.attr in _HASHING
        if hashes and (first is not None or not node.args):
            self._called.add(function)
        known = first is None or self._kinds.is_flat(first)
        self.generic_visit(node)
        match function:
            case ast.Attribute() if hashes and first is not None:
                node.args[0] = self._light(node.args[0], known=known)
            case ast.Name("str") if "str" not in self._kinds.given:
                if first is not None and len(node.args) == 1 and not node.keywords:
                    function.id = "$str"
                    node.args[0] = self._light(node.args[0], known=known)
            case ast.Attribute(value, name) if name in _STRIPPING:
                if written_out and not node.keywords:
                    node.func = ast.copy_location(
                        ast.Attribute(value, name, ast.Load()), function
                    )
            case ast.Name("int") if "int" not in self._kinds.given:
                # Only with a base can it make a number of many bits.
                if len(node.args) < 2 and not node.keywords and not has_star(node.args):
                    function.id = "$int"
            case _:
                pass
        if any(keyword.arg in _HELD or keyword.arg is None for keyword in node.keywords):
            node.func = call("$named", function, node.func)
        return node

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.expr:
        many = len(node.values) > _FEW_PARTS or self._kinds.is_doubled(*node.values)
        texts = [
            part
            for part in node.values
            if isinstance(part, ast.FormattedValue)
            and not self._kinds.is_number(part.value)
        ]
        self.generic_visit(node)
        if not many:
            # One of them is no longer than what it is made of.
            return call("$text", node, node) if len(texts) > 1 else node
        parts: list[ast.expr] = [ast.JoinedStr([part]) for part in node.values]
        empty = ast.Constant("")
        return call("$join", node, empty, ast.Tuple(parts, ast.Load()))

    def visit_FormattedValue(self, node: ast.FormattedValue) -> ast.expr:
        known = self._kinds.is_flat(node.value)
        node.value = self._light(self.visit(node.value), known=known)
        spec = node.format_spec
        if spec is None or _is_short(spec):
            return node
        self.generic_visit(spec)
        conversion = ast.Constant(chr(node.conversion) if node.conversion > 0 else "")
        value = call("$format", node, node.value, conversion, spec)
        return ast.copy_location(ast.FormattedValue(value, -1, None), node)


def _is_short(spec: ast.expr) -> bool:
    """Whether a format specification is written out, with no large number in it."""
    if not isinstance(spec, ast.JoinedStr):
        return False
    texts = [part.value for part in spec.values if isinstance(part, ast.Constant)]
    if len(texts) < len(spec.values):
        return False
    digits = 0
    for character in "".join(map(str, texts)):
        digits = digits + 1 if character.isdigit() else 0
        if digits > _SPEC_DIGITS:
            return False
    return True
