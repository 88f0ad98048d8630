"""Guards of statements, and of what they share out or run through."""

from __future__ import annotations

import ast

from anabranch.sandbox.rewriting.nodes import assign, call
from anabranch.sandbox.rewriting.weighing import Weighing

__all__ = ["Statements"]


class Statements(Weighing):
    """Rules for statements, comprehensions, stars and generators."""

    # ------------------------------------------------------- what is shared out or run

    def visit_Assign(self, node: ast.Assign) -> ast.stmt:
        spreads = any(map(_takes_all, node.targets))
        keyed = any(isinstance(target, ast.Subscript) for target in node.targets)
        known = self._is_known(node.value)
        self.generic_visit(node)
        if spreads and not self._kinds.is_number(node.value):
            node.value = call("$more" if keyed else "$spread", node.value, node.value)
        elif keyed and not known:
            node.value = self._guarded_by("$stored", node.value)
        if any(map(_puts_items, node.targets)):
            node.value = self._kept(node.value)
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.stmt:
        if node.value is None:
            return ast.copy_location(ast.Pass(), node)
        plain = ast.Assign(targets=[node.target], value=node.value)
        return self.visit_Assign(ast.copy_location(plain, node))

    def visit_For(self, node: ast.For) -> ast.stmt:
        self.generic_visit(node)
        node.iter = _items_for(node.target, node.iter)
        return node

    def visit_comprehension(self, node: ast.comprehension) -> ast.AST:
        self._in_iterables += 1
        node.iter = self.visit(node.iter)
        self._in_iterables -= 1
        node.target = self.visit(node.target)
        node.ifs = [self.visit(part) for part in node.ifs]
        node.iter = _items_for(node.target, node.iter)
        return node

    def visit_Starred(self, node: ast.Starred) -> ast.expr:
        self.generic_visit(node)
        if isinstance(node.ctx, ast.Load):
            node.value = call("$spread", node.value, node.value)
        return node

    def visit_YieldFrom(self, node: ast.YieldFrom) -> ast.expr:
        self.generic_visit(node)
        node.value = call("$ticking", node.value, node.value)
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
            node.subject = call("$matched", node.subject, node.subject, ast.Constant(depth))
        return node

    # ------------------------------------------------------- functions and generators

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
        return call("$generating", node, node) if generates else node

    def visit_GeneratorExp(self, node: ast.GeneratorExp) -> ast.expr:
        self.generic_visit(node)
        return call("$live", node, node)

    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.annotation = None
        return node

    # ------------------------------------------------------------------- other statements

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
            node.finalbody.insert(0, ast.Expr(call("$going", node.finalbody[0])))
        return node

    def visit_MatchClass(self, node: ast.MatchClass) -> ast.MatchClass:
        self.generic_visit(node)
        assert isinstance(node.cls, ast.Name)
        # The name alone may mean a guarded function; a pattern needs the class.
        node.cls = ast.copy_location(ast.Name(f"${node.cls.id}", ast.Load()), node.cls)
        return node

    def visit_Import(self, node: ast.Import) -> list[ast.stmt]:
        return [
            assign(
                alias.asname or alias.name, call("$import", node, ast.Constant(alias.name))
            )
            for alias in node.names
        ]

    def visit_ImportFrom(self, node: ast.ImportFrom) -> list[ast.stmt]:
        module = call("$import", node, ast.Constant(node.module))
        return [
            assign(
                alias.asname or alias.name,
                call("$get", node, module, ast.Constant(alias.name)),
            )
            for alias in node.names
        ]


def _items_for(target: ast.expr, iterable: ast.expr) -> ast.expr:
    """What is run through by a loop that gives each item to a target."""
    if _takes_all(target):
        iterable = call("$spreads", iterable, iterable)
    if isinstance(target, ast.Subscript) or _puts_items(target):
        iterable = call("$each_kept", iterable, iterable)
    return iterable


def _yields(node: ast.AST) -> bool:
    """Whether the function around a node is a generator function by it."""
    if isinstance(node, (ast.Yield, ast.YieldFrom)):
        return True
    if isinstance(node, (ast.FunctionDef, ast.Lambda, ast.GeneratorExp)):
        return False
    return any(map(_yields, ast.iter_child_nodes(node)))


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


def _depth(node: ast.AST) -> int:
    return 1 + max(map(_depth, ast.iter_child_nodes(node)), default=0)
