"""The policy: what contained code may say. It reads the tree and refuses before it runs.

Everything that is not known to be harmless is refused: a kind of node that stands in no
list, a name that begins with an underscore wherever a name can stand, a handler that could
swallow what stops the code. What depends on values (whose attribute is read, how long a
repetition becomes) is left to :mod:`~anabranch.sandbox.guards`, whose calls
:mod:`~anabranch.sandbox.rewriting` puts in.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from anabranch.errors import SourceRefused
from anabranch.sandbox.names import is_private

__all__ = ["Policy", "bound_names", "checked"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What differs from one use to the next.

    Args:
        builtins: The names that mean something from the start, and keep their meaning.
        withheld: Builtins of Python that are not offered: unless the source gives one a
            meaning of its own, it is refused before it runs rather than unknown then.
        imports: The modules that an import statement may name.
    """

    builtins: frozenset[str]
    withheld: frozenset[str]
    imports: frozenset[str]


# Nodes that need no look beyond their children.
_PLAIN: Final = (
    *(ast.Module, ast.Expression, ast.Expr, ast.Assign, ast.AugAssign, ast.For, ast.While),
    *(ast.If, ast.Raise, ast.Assert, ast.Pass, ast.Break, ast.Continue, ast.Return),
    *(ast.BoolOp, ast.NamedExpr, ast.BinOp, ast.UnaryOp, ast.IfExp, ast.Dict, ast.Set),
    *(ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp, ast.Compare, ast.Call),
    *(ast.JoinedStr, ast.FormattedValue, ast.Constant, ast.Subscript, ast.Starred),
    *(ast.List, ast.Tuple, ast.Slice, ast.Yield, ast.YieldFrom, ast.Lambda, ast.AnnAssign),
    *(ast.Match, ast.match_case, ast.MatchSingleton, ast.MatchSequence),
    *(ast.MatchOr, ast.Load, ast.Store, ast.Del, ast.expr_context, ast.boolop),
    *(ast.operator, ast.unaryop, ast.cmpop, ast.arguments, ast.alias),
)

_REMEDY: Final[dict[type[ast.AST], str]] = {
    ast.ClassDef: "use dicts and functions, or run the code in the isolate",
    ast.With: "a context manager could swallow the time limit; call its functions",
    ast.TryStar: "it binds groups of exceptions; use `except`",
    ast.AsyncFunctionDef: "nothing awaits here; use the isolate",
    ast.AsyncFor: "nothing awaits here; use the isolate",
    ast.AsyncWith: "nothing awaits here; use the isolate",
    ast.Await: "nothing awaits here; use the isolate",
}
_WORDS: Final[dict[type[ast.AST], str]] = {
    ast.ClassDef: "a class",
    ast.With: "`with`",
    ast.TryStar: "`except*`",
    ast.AsyncFunctionDef: "`async def`",
    ast.AsyncFor: "`async for`",
    ast.AsyncWith: "`async with`",
    ast.Await: "`await`",
}

# Whose class patterns look at the type alone.
_PATTERN_CLASSES: Final = frozenset(
    "bool bytearray bytes dict float frozenset int list set str tuple".split()
)


def checked(tree: ast.Module | ast.Expression, policy: Policy) -> None:
    """Returns if the policy allows all of a tree.

    Raises:
        SourceRefused: With the line and the reason, at the first thing it does not allow.
    """
    _Checker(policy).check(tree)


class _Checker:
    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._bound: frozenset[str] = frozenset()
        self._special: dict[type[ast.AST], Callable[..., None]] = {
            ast.Name: self._name,
            ast.Attribute: self._attribute,
            ast.arg: self._arg,
            ast.keyword: self._keyword,
            ast.FunctionDef: self._function,
            ast.Import: self._import,
            ast.ImportFrom: self._import_from,
            ast.Try: self._try,
            ast.ExceptHandler: self._handler,
            ast.Global: self._declaration,
            ast.Nonlocal: self._declaration,
            ast.Delete: self._delete,
            ast.comprehension: self._comprehension,
            ast.MatchAs: self._capture,
            ast.MatchStar: self._capture,
            ast.MatchMapping: self._mapping,
            ast.MatchValue: self._value_pattern,
            ast.MatchClass: self._class_pattern,
        }

    def check(self, tree: ast.AST) -> None:
        # Annotations are judged too, though rewriting drops them: nobody wants to read
        # a source in which they are the one place where anything may be said.
        self._bound = bound_names(tree)
        todo: list[ast.AST] = [tree]
        while todo:
            node = todo.pop()
            special = self._special.get(type(node))
            if special is not None:
                special(node)
            elif not isinstance(node, _PLAIN):
                raise _unknown(node)
            todo.extend(ast.iter_child_nodes(node))

    # ------------------------------------------------------------ names, where they stand

    def _name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Load):
            _refuse_private(node.id, node, "the name")
            if node.id in self._policy.withheld and node.id not in self._bound:
                raise _refusal(node, f"the builtin {node.id!r}", "it is not offered")
        else:
            self._binds(node.id, node)

    def _binds(self, name: str | None, node: ast.AST) -> None:
        if name is None:
            return
        _refuse_private(name, node, "the name")
        if name in self._policy.builtins:
            raise _refusal(
                node,
                f"a new meaning for {name!r}",
                "builtins keep theirs; choose another name",
            )

    def _attribute(self, node: ast.Attribute) -> None:
        _refuse_private(node.attr, node, "the attribute")
        if not isinstance(node.ctx, ast.Load):
            raise _refusal(
                node,
                f"setting the attribute {node.attr!r}",
                "objects keep what they are given with; use a dict",
            )

    def _arg(self, node: ast.arg) -> None:
        self._binds(node.arg, node)

    def _keyword(self, node: ast.keyword) -> None:
        if node.arg is not None:
            _refuse_private(node.arg, node, "the argument name")

    def _declaration(self, node: ast.Global | ast.Nonlocal) -> None:
        for name in node.names:
            self._binds(name, node)

    def _delete(self, node: ast.Delete) -> None:
        for target in node.targets:
            if not isinstance(target, (ast.Name, ast.Subscript)):
                raise _refusal(target, "this `del`", "only names and items can be deleted")

    def _capture(self, node: ast.MatchAs | ast.MatchStar) -> None:
        self._binds(node.name, node)

    def _mapping(self, node: ast.MatchMapping) -> None:
        self._binds(node.rest, node)
        for key in node.keys:
            self._written_out(key)

    def _value_pattern(self, node: ast.MatchValue) -> None:
        self._written_out(node.value)

    def _written_out(self, node: ast.expr) -> None:
        if any(isinstance(part, ast.Attribute) for part in ast.walk(node)):
            raise _refusal(
                node, "a dotted name in a pattern", "compare it in the `if` of the case"
            )

    def _class_pattern(self, node: ast.MatchClass) -> None:
        if not isinstance(node.cls, ast.Name) or node.cls.id not in _PATTERN_CLASSES:
            raise _refusal(
                node,
                "this class pattern",
                "only int(), str() and the like look at a type alone",
            )
        if node.kwd_attrs or len(node.patterns) > 1:
            raise _refusal(
                node, "an attribute in a pattern", "patterns would read it unseen"
            )

    # ------------------------------------------------------------------------ statements

    def _function(self, node: ast.FunctionDef) -> None:
        self._binds(node.name, node)
        if getattr(node, "type_params", None):
            raise _refusal(node, "a type parameter", "annotations mean nothing here")

    def _import(self, node: ast.Import) -> None:
        for alias in node.names:
            self._module(alias.name, node)
            if "." in alias.name and alias.asname is None:
                raise _refusal(
                    node, f"import {alias.name}", f"write `import {alias.name} as ...`"
                )
            self._binds(alias.asname or alias.name, node)

    def _import_from(self, node: ast.ImportFrom) -> None:
        if node.level or node.module is None:
            raise _refusal(
                node, "a relative import", "there is no package around the source"
            )
        self._module(node.module, node)
        for alias in node.names:
            if alias.name == "*":
                raise _refusal(node, "import *", "name what you need")
            _refuse_private(alias.name, node, "the name")
            self._binds(alias.asname or alias.name, node)

    def _module(self, name: str, node: ast.AST) -> None:
        if name in self._policy.imports:
            return
        allowed = ", ".join(sorted(self._policy.imports))
        raise _refusal(
            node,
            f"import of {name}",
            f"only {allowed} may be imported"
            if allowed
            else "nothing may be imported here;"
            " the caller allows it by name: allow_imports={...}",
        )

    def _try(self, node: ast.Try) -> None:
        for statement in node.finalbody:
            for inner in _leaving(statement):
                raise _refusal(
                    inner, "leaving a `finally`", "it could swallow the time limit"
                )

    def _handler(self, node: ast.ExceptHandler) -> None:
        self._binds(node.name, node)

    def _comprehension(self, node: ast.comprehension) -> None:
        if node.is_async:
            raise _refusal(
                node.target, "`async for`", "nothing awaits here; use the isolate"
            )


def bound_names(tree: ast.AST) -> frozenset[str]:
    """Every name that is bound, or deleted, somewhere in a tree."""
    names: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case (
                ast.Name(name, ast.Store() | ast.Del())
                | ast.arg(name)
                | ast.FunctionDef(name)
            ):
                names.add(name)
            case ast.alias(name, asname):
                names.add(asname or name)
            case ast.ExceptHandler(_, str(name)):
                names.add(name)
            case ast.MatchAs(_, str(name)) | ast.MatchStar(str(name)):
                names.add(name)
            case ast.MatchMapping(rest=str(name)):
                names.add(name)
            case _:
                pass
    return frozenset(names)


def _leaving(node: ast.AST, *, loop: bool = False) -> Iterator[ast.AST]:
    """Where control would leave a `finally`: what was on its way would be forgotten."""
    match node:
        case ast.Return():
            yield node
        case ast.Break() | ast.Continue() if not loop:
            yield node
        case ast.FunctionDef() | ast.Lambda():
            return
        case _:
            pass
    inside = loop or isinstance(node, (ast.For, ast.While))
    for child in ast.iter_child_nodes(node):
        yield from _leaving(child, loop=inside)


def _refuse_private(name: str, node: ast.AST, what: str) -> None:
    if is_private(name):
        raise _refusal(
            node, f"{what} {name!r}", "what begins with an underscore is not for others"
        )


def _unknown(node: ast.AST) -> SourceRefused:
    kind = type(node)
    return _refusal(
        node,
        _WORDS.get(kind, f"{kind.__name__}"),
        _REMEDY.get(kind, "it is not among what this policy knows to be harmless"),
    )


def _refusal(node: ast.AST, construct: str, reason: str) -> SourceRefused:
    return SourceRefused(
        line=getattr(node, "lineno", None), construct=construct, reason=reason
    )
