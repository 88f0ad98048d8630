"""Puts calls of guards into a tree that the policy has allowed.

A guard's name begins with ``$``: the compiler takes it, and no source can say it. Guards
stand where one operation could read what is not for the code, or take long or allocate
much before the interpreter looks again whether to stop.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Collection
from typing import Final

from anabranch.sandbox.kinds import Kinds, kinds_of
from anabranch.sandbox.names import PLAIN_ATTRIBUTES
from anabranch.sandbox.policy import bound_names

__all__ = ["guarded"]

#: Numbers of so many bits are multiplied in less time than a guard takes.
_FEW_BITS: Final = 8_192
_SPEC_DIGITS: Final = 3
#: An f-string of more parts is put together under a guard.
_FEW_PARTS: Final = 16
#: Methods that are plain when they are called with nothing, or with what is written out.
_STRIPPING: Final = frozenset({"strip", "lstrip", "rstrip"})
#: What gives a view of a dict, by which sets are made of anything that can be run through.
_VIEWING: Final = frozenset({"keys", "items", "getattr"})
#: What gives an accessor of pandas, whose `split` takes a pattern.
_ACCESSING: Final = frozenset({"str", "getattr"})
#: Arguments by which an exception holds another value.
_HELD: Final = frozenset({"name", "obj"})
#: Plain methods whose first argument is hashed.
_HASHING: Final = frozenset("add discard get pop setdefault".split())


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
    return [ast.copy_location(main, body[0]), ast.Expr(_call("$main", body[-1]))]


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


class _Guarding(ast.NodeTransformer):
    def __init__(self, kinds: Kinds, attributes: frozenset[str]) -> None:
        self._kinds = kinds
        self._plain = PLAIN_ATTRIBUTES - _STRIPPING
        if not _ACCESSING.isdisjoint(attributes):
            self._plain -= {"split"}
        self._has_views = not _VIEWING.isdisjoint(attributes)
        self._called: set[ast.expr] = set()
        #: How many iterables of comprehensions are around: there no name can be bound.
        self._in_iterables = 0

    # ------------------------------------------------------------------------- reading

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        self.generic_visit(node)
        if node.attr in self._plain and (node.attr not in _HASHING or node in self._called):
            return node
        return _call("$get", node, node.value, ast.Constant(node.attr))

    def visit_Call(self, node: ast.Call) -> ast.expr:
        function = node.func
        written_out = all(isinstance(arg, ast.Constant) for arg in node.args)
        first = node.args[0] if node.args and not _has_star(node.args) else None
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
                if len(node.args) < 2 and not node.keywords and not _has_star(node.args):
                    function.id = "$int"
            case _:
                pass
        if any(keyword.arg in _HELD or keyword.arg is None for keyword in node.keywords):
            node.func = _call("$named", function, node.func)
        return node

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
            _call("$within", part, part)
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
                    node.comparators = [_call("$within", right, right)]
                return node
            case ast.In() | ast.NotIn():
                found: ast.expr = _call("$inside", node, node.left, right)
                if isinstance(op, ast.NotIn):
                    found = ast.copy_location(ast.UnaryOp(ast.Not(), found), node)
                if isinstance(node.left, ast.Name) and is_sized:
                    return _if_flat(node.left, node, found)
                return found
            case _ if left_is_flat or right_is_flat:
                return node
            case _ if isinstance(node.left, ast.Name):
                node.left = self._light(node.left)
            case _:
                node.comparators = [self._light(right)]
        return node

    def _light(self, node: ast.expr, *, known: bool = False) -> ast.expr:
        """A value that is to be compared, hashed or written out."""
        if known or self._kinds.is_flat(node):
            return node
        match node:
            case ast.Tuple(parts) if not _has_star(parts):
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
            return _if_flat(node, node, _call(guard, node, node))
        if self._in_iterables:
            return _call(guard, node, node)
        it = ast.copy_location(ast.Name("$it", ast.Load()), node)
        named = ast.NamedExpr(ast.Name("$it", ast.Store()), node)
        return _if_flat(named, it, _call(guard, node, it))

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
                ast.Starred(_call("$hashed", part, part.value), ast.Load()), part
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

    def visit_Starred(self, node: ast.Starred) -> ast.expr:
        self.generic_visit(node)
        if isinstance(node.ctx, ast.Load):
            node.value = _call("$spread", node.value, node.value)
        return node

    def visit_YieldFrom(self, node: ast.YieldFrom) -> ast.expr:
        self.generic_visit(node)
        node.value = _call("$ticking", node.value, node.value)
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
            return _call("$text", node, node) if len(texts) > 1 else node
        parts: list[ast.expr] = [ast.JoinedStr([part]) for part in node.values]
        empty = ast.Constant("")
        return _call("$join", node, empty, ast.Tuple(parts, ast.Load()))

    def visit_FormattedValue(self, node: ast.FormattedValue) -> ast.expr:
        known = self._kinds.is_flat(node.value)
        node.value = self._light(self.visit(node.value), known=known)
        spec = node.format_spec
        if spec is None or _is_short(spec):
            return node
        self.generic_visit(spec)
        conversion = ast.Constant(chr(node.conversion) if node.conversion > 0 else "")
        value = _call("$format", node, node.value, conversion, spec)
        return ast.copy_location(ast.FormattedValue(value, -1, None), node)

    def visit_Subscript(self, node: ast.Subscript) -> ast.expr:
        known = self._kinds.is_flat(node.slice)
        self.generic_visit(node)
        node.slice = self._light(node.slice, known=known)
        if isinstance(node.ctx, ast.Store):
            for part in _slices_in(node.slice):
                # As a key of a dict it would be kept, and could hold others like it.
                part.lower = self._bound(part.lower)
                part.upper = self._bound(part.upper)
                part.step = self._bound(part.step)
        return node

    def _bound(self, node: ast.expr | None) -> ast.expr | None:
        if node is None or self._kinds.is_number(node):
            return node
        return _call("$bound", node, node)

    # ---------------------------------------------------------------------- arithmetic

    def visit_BinOp(self, node: ast.BinOp) -> ast.expr:
        name = self._guard_of(node.left, node.op, node.right)
        known = [self._kinds.is_flat(part) for part in (node.left, node.right)]
        self.generic_visit(node)
        if name is not None:
            return _call(name, node, node.left, node.right)
        if self._has_views and isinstance(node.op, _OF_SETS):
            # A view of a dict makes a set of whatever stands on the other side.
            left, right = (
                part if is_number else _call("$hashed", part, part)
                for part, is_number in zip((node.left, node.right), known, strict=True)
            )
            node.left, node.right = left, right
        return node

    def _is_known(self, node: ast.expr) -> bool:
        """Whether running through it ends soon, if it can be run through at all."""
        kinds = self._kinds
        return isinstance(node, ast.BinOp) or kinds.is_flat(node) or kinds.is_sized(node)

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
            node.value = _call(guard, node.value, node.value)
        return node

    def _guard_of(self, left: ast.expr, op: ast.operator, right: ast.expr) -> str | None:
        kinds = self._kinds
        times = right.value if isinstance(right, ast.Constant) else None
        match op:
            case ast.Mult():
                few = kinds.bits_of(left) + kinds.bits_of(right) <= _FEW_BITS
                return None if few else "$mul"
            case ast.Pow():
                few = (
                    type(times) is int
                    and times >= 0
                    and (kinds.bits_of(left) * times <= _FEW_BITS)
                )
                return None if few else "$pow"
            case ast.LShift():
                few = (
                    type(times) is int
                    and times >= 0
                    and (kinds.bits_of(left) + times <= _FEW_BITS)
                )
                return None if few else "$shift"
            case ast.Mod():
                return None if kinds.is_number(left) else "$mod"
            case ast.Add() if kinds.is_doubled(left, right):
                numbers = kinds.is_number(left) and kinds.is_number(right)
                return None if numbers else "$add"
            case _:
                return None

    # ---------------------------------------------------------------------- statements

    def visit_Assign(self, node: ast.Assign) -> ast.stmt:
        spreads = any(map(_takes_all, node.targets))
        keyed = any(isinstance(target, ast.Subscript) for target in node.targets)
        known = self._is_known(node.value)
        self.generic_visit(node)
        if spreads and not self._kinds.is_number(node.value):
            node.value = _call("$more" if keyed else "$spread", node.value, node.value)
        elif keyed and not known:
            node.value = self._guarded_by("$stored", node.value)
        if any(map(_puts_items, node.targets)):
            node.value = self._kept(node.value)
        return node

    def _kept(self, node: ast.expr) -> ast.expr:
        """A value whose parts become items."""
        if isinstance(node, (ast.Tuple, ast.List)) and not _has_star(node.elts):
            node.elts = [
                part
                if self._kinds.is_flat(part) or self._kinds.is_sized(part)
                else self._guarded_by("$kept", part)
                for part in node.elts
            ]
            return node
        return _call("$all_kept", node, node)

    def visit_For(self, node: ast.For) -> ast.stmt:
        spreads = _takes_all(node.target)
        self.generic_visit(node)
        if spreads:
            node.iter = _call("$spreads", node.iter, node.iter)
        if isinstance(node.target, ast.Subscript) or _puts_items(node.target):
            node.iter = _call("$each_kept", node.iter, node.iter)
        return node

    def visit_comprehension(self, node: ast.comprehension) -> ast.AST:
        spreads = _takes_all(node.target)
        self._in_iterables += 1
        node.iter = self.visit(node.iter)
        self._in_iterables -= 1
        node.target = self.visit(node.target)
        node.ifs = [self.visit(part) for part in node.ifs]
        if spreads:
            node.iter = _call("$spreads", node.iter, node.iter)
        if isinstance(node.target, ast.Subscript) or _puts_items(node.target):
            node.iter = _call("$each_kept", node.iter, node.iter)
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.stmt:
        if node.value is None:
            return ast.copy_location(ast.Pass(), node)
        plain = ast.Assign(targets=[node.target], value=node.value)
        return self.visit_Assign(ast.copy_location(plain, node))

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.stmt:
        generates = any(map(_yields, node.body))
        node.returns = None
        self.generic_visit(node)
        if generates:
            node.decorator_list.append(
                ast.copy_location(ast.Name("$generating", ast.Load()), node)
            )
        return node

    def visit_Lambda(self, node: ast.Lambda) -> ast.expr:
        generates = _yields(node.body)
        self.generic_visit(node)
        return _call("$generating", node, node) if generates else node

    def visit_GeneratorExp(self, node: ast.GeneratorExp) -> ast.expr:
        self.generic_visit(node)
        return _call("$live", node, node)

    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.annotation = None
        return node

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> ast.ExceptHandler:
        self.generic_visit(node)
        if node.type is None:
            # What stops the code is no Exception.
            node.type = ast.copy_location(ast.Name("Exception", ast.Load()), node)
        return node

    def visit_Try(self, node: ast.Try) -> ast.Try:
        self.generic_visit(node)
        if node.finalbody:
            # It is entered also when the code is being stopped, by each call that it ends.
            node.finalbody.insert(0, ast.Expr(_call("$going", node.finalbody[0])))
        return node

    def visit_Match(self, node: ast.Match) -> ast.Match:
        takes_all = any(
            isinstance(part, ast.MatchStar) and part.name is not None
            for case in node.cases
            for part in ast.walk(case.pattern)
        )
        self.generic_visit(node)
        if takes_all:
            depth = max(_depth(case.pattern) for case in node.cases)
            node.subject = _call(
                "$matched", node.subject, node.subject, ast.Constant(depth)
            )
        return node

    def visit_MatchClass(self, node: ast.MatchClass) -> ast.MatchClass:
        self.generic_visit(node)
        assert isinstance(node.cls, ast.Name)
        # The name alone may mean a guarded function; a pattern needs the class.
        node.cls = ast.copy_location(ast.Name(f"${node.cls.id}", ast.Load()), node.cls)
        return node

    def visit_Import(self, node: ast.Import) -> list[ast.stmt]:
        return [
            _assign(
                alias.asname or alias.name, _call("$import", node, ast.Constant(alias.name))
            )
            for alias in node.names
        ]

    def visit_ImportFrom(self, node: ast.ImportFrom) -> list[ast.stmt]:
        module = _call("$import", node, ast.Constant(node.module))
        return [
            _assign(
                alias.asname or alias.name,
                _call("$get", node, module, ast.Constant(alias.name)),
            )
            for alias in node.names
        ]


def _yields(node: ast.AST) -> bool:
    """Whether the function around a node is a generator function by it."""
    if isinstance(node, (ast.Yield, ast.YieldFrom)):
        return True
    if isinstance(node, (ast.FunctionDef, ast.Lambda, ast.GeneratorExp)):
        return False
    return any(map(_yields, ast.iter_child_nodes(node)))


def _is_of_itself(target: ast.expr, value: ast.expr) -> bool:
    """Whether an item is put together with an item of the same thing: it might double."""
    if not isinstance(target, ast.Subscript) or _slices_in(target.slice):
        return False
    owner = ast.dump(target.value)
    return any(
        isinstance(part, ast.Subscript) and ast.dump(part.value) == owner
        for part in ast.walk(value)
    )


def _puts_items(target: ast.expr) -> bool:
    """Whether parts of a value are put at keys."""
    return isinstance(target, (ast.Tuple, ast.List)) and any(
        isinstance(part, ast.Subscript) and isinstance(part.ctx, ast.Store)
        for part in ast.walk(target)
    )


def _takes_all(target: ast.expr) -> bool:
    """Whether an assignment would run through all of its value at once."""
    if isinstance(target, ast.Subscript):
        return isinstance(target.slice, ast.Slice)
    return any(isinstance(part, ast.Starred) for part in ast.walk(target))


_WRITTEN_OUT: Final = (
    *(ast.Constant, ast.List, ast.Tuple, ast.Set, ast.Load, ast.UnaryOp, ast.unaryop),
)
_OF_IDENTITY: Final = (ast.Is, ast.IsNot)
_OF_SETS: Final = (ast.Sub, ast.BitOr, ast.BitAnd, ast.BitXor)


def _has_star(nodes: list[ast.expr]) -> bool:
    return any(isinstance(node, ast.Starred) for node in nodes)


def _depth(node: ast.AST) -> int:
    return 1 + max(map(_depth, ast.iter_child_nodes(node)), default=0)


def _slices_in(node: ast.expr) -> list[ast.Slice]:
    parts = node.elts if isinstance(node, ast.Tuple) else [node]
    return [part for part in parts if isinstance(part, ast.Slice)]


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


def _if_flat(value: ast.expr, plain: ast.expr, guarded: ast.expr) -> ast.expr:
    """What is plain if a value is a scalar: written out, since a call costs."""
    kind = ast.Call(ast.Name("$type", ast.Load()), [value], [])
    test = ast.Compare(kind, [ast.In()], [ast.Name("$scalars", ast.Load())])
    return ast.copy_location(ast.IfExp(test, plain, guarded), value)


def _is_written_out(node: ast.expr) -> bool:
    """Whether a value is in the source, with all that it holds."""
    return all(
        isinstance(part, (ast.Constant, ast.List, ast.Tuple, ast.Set, ast.Load))
        for part in ast.walk(node)
    )


def _in_place(node: ast.AugAssign, guard: str) -> ast.stmt | list[ast.stmt]:
    """``target op= value`` by way of a guard; the parts of the target are read once."""
    target = node.target
    if isinstance(target, ast.Name):
        value = _call(guard, node, ast.Name(target.id, ast.Load()), node.value)
        return ast.copy_location(_assign(target.id, value), node)
    assert isinstance(target, ast.Subscript)
    if any(isinstance(part, ast.Slice) for part in ast.walk(target.slice)):
        node.value = _call("$small", node.value, node.value)
        return node
    whole, key = ast.Name("$whole", ast.Load()), ast.Name("$key", ast.Load())
    now = ast.Subscript(whole, key, ast.Load())
    return [
        ast.copy_location(statement, node)
        for statement in (
            _assign("$whole", target.value),
            _assign("$key", target.slice),
            ast.Assign(
                [ast.Subscript(whole, key, ast.Store())],
                _call(guard, node, now, node.value),
            ),
        )
    ]


def _assign(name: str, value: ast.expr) -> ast.Assign:
    return ast.copy_location(ast.Assign([ast.Name(name, ast.Store())], value), value)


def _call(guard: str, where: ast.AST, *arguments: ast.expr) -> ast.Call:
    call = ast.Call(ast.Name(guard, ast.Load()), list(arguments), [])
    return ast.copy_location(call, where)
