"""Who evaluates code that somebody else wrote, each in its own words: ours and the peers.

All of them but Monty work in this process; Monty is an interpreter of its own in a worker
process. Each module is imported where its row is made, so that no row pays for another.
"""

# ruff: noqa: S102, S307  # evaluating is what is measured
from __future__ import annotations

import importlib.util
import io
import math
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol, TypeAlias

Names: TypeAlias = Mapping[str, Any]
Source: TypeAlias = str | bytes
Call: TypeAlias = Callable[[], Any]

FLOOR, OURS = "plain Python", "anabranch"

# For those that offer next to no functions by themselves: those without reach.
PLAIN_FUNCTIONS = (
    abs, all, any, bin, bool, chr, complex, dict, divmod, enumerate, filter, float,
    frozenset, hash, hex, int, iter, len, list, map, max, min, next, oct, ord, pow, range,
    reversed, round, set, sorted, str, sum, tuple, zip,
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """What the code is given. Who has no such limit cannot be told it.

    Attributes:
        timeout_s: In whole seconds, since some know no others.
        memory_bytes: By how much the process may grow.
        imports: Modules that it may import, where they are allowed by name.
    """

    timeout_s: int = 30
    memory_bytes: int = 2**30
    imports: tuple[str, ...] = ()


class Peer(Protocol):
    """One that evaluates."""

    def start(self) -> None:
        """Starts what the first call would start otherwise."""

    def evaluate(self, source: Source, names: Names) -> Any:
        """The value of an expression of which nothing is known before."""

    def prepared(self, source: Source, names: Names) -> Call:
        """What evaluates it again and again, prepared as far as it can be."""

    def execute(self, source: Source, names: Names) -> Any:
        """Runs statements; the value of the name ``result`` afterwards, or None."""

    def close(self) -> None:
        """Ends what was started."""


class InProcess:
    """What most have in common."""

    def start(self) -> None:
        pass

    def evaluate(self, source: Source, names: Names) -> Any:
        raise NotImplementedError

    def prepared(self, source: Source, names: Names) -> Call:
        return lambda: self.evaluate(source, names)

    def close(self) -> None:
        pass


class Plain(InProcess):
    """Nothing but Python."""

    def __init__(self, allowance: Allowance) -> None:
        pass

    def evaluate(self, source: Source, names: Names) -> Any:
        return eval(compile(source, "<source>", "eval", dont_inherit=True), {**names})

    def prepared(self, source: Source, names: Names) -> Call:
        code, space = compile(source, "<source>", "eval"), {**names}
        return lambda: eval(code, space)

    def execute(self, source: Source, names: Names) -> Any:
        space = {**names}
        exec(compile(source, "<source>", "exec", dont_inherit=True), space)
        return space.get("result")


class Ours(InProcess):
    """The policy, in this process."""

    def __init__(self, allowance: Allowance) -> None:
        from anabranch.sandbox import safe_eval, safe_exec

        self._eval, self._exec = safe_eval, safe_exec
        self._given: dict[str, Any] = {
            "timeout_seconds": allowance.timeout_s,
            "memory_bytes": allowance.memory_bytes,
            "allow_imports": allowance.imports,
        }

    def evaluate(self, source: Source, names: Names) -> Any:
        return self._eval(source, names, **self._given)

    def execute(self, source: Source, names: Names) -> Any:
        bound: dict[str, Any] = {}
        self._exec(source, {**names}, bound, **self._given)
        return bound.get("result")


class LlamaIndex(InProcess):
    """``exec_utils`` of llama-index-experimental."""

    def __init__(self, allowance: Allowance) -> None:
        self._utils = _exec_utils()
        self._timeout_s = allowance.timeout_s

    def evaluate(self, source: Source, names: Names) -> Any:
        return self._utils.safe_eval(source, {**names}, None, self._timeout_s)

    def execute(self, source: Source, names: Names) -> Any:
        # What is bound is seen only in locals of its own.
        bound: dict[str, Any] = {}
        self._utils.safe_exec(source, {**names}, bound, self._timeout_s)
        return bound.get("result")


def _exec_utils() -> ModuleType:
    """That module, without the package around it, which imports much else."""
    found = importlib.util.find_spec("llama_index.experimental")
    assert found is not None
    assert found.submodule_search_locations is not None
    [folder] = found.submodule_search_locations
    name = "llama_index.experimental.exec_utils"
    spec = importlib.util.spec_from_file_location(name, Path(folder, "exec_utils.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


class RestrictedPython(InProcess):
    """With the guards that it brings along; it knows no limits and no imports.

    Its builtins lack what everybody needs (``sum``, ``list``), or bound it to a thousand
    items; it is given Python's.
    """

    def __init__(self, allowance: Allowance) -> None:
        import operator

        from RestrictedPython import (
            Eval,
            Guards,
            PrintCollector,
            compile_restricted,
            safe_builtins,
            utility_builtins,
        )

        operators = {
            f"{sign}=": getattr(operator, name)
            for sign, name in {
                "+": "iadd", "-": "isub", "*": "imul", "/": "itruediv", "//": "ifloordiv",
                "%": "imod", "**": "ipow", "<<": "ilshift", ">>": "irshift", "&": "iand",
                "|": "ior", "^": "ixor", "@": "imatmul",
            }.items()
        }  # fmt: skip
        plain = {each.__name__: each for each in PLAIN_FUNCTIONS}
        self._compile = compile_restricted
        self._space = {
            "__builtins__": {**plain, **safe_builtins, **utility_builtins},
            "__metaclass__": type,
            "__name__": "restricted",
            "_getattr_": Guards.safer_getattr,
            "_getitem_": Eval.default_guarded_getitem,
            "_getiter_": Eval.default_guarded_getiter,
            "_iter_unpack_sequence_": Guards.guarded_iter_unpack_sequence,
            "_unpack_sequence_": Guards.guarded_unpack_sequence,
            "_write_": Guards.full_write_guard,
            "_print_": PrintCollector,
            # The one that whoever uses it must write himself.
            "_inplacevar_": lambda sign, left, right: operators[sign](left, right),
        }

    def evaluate(self, source: Source, names: Names) -> Any:
        return self.prepared(source, names)()

    def prepared(self, source: Source, names: Names) -> Call:
        code, space = self._compile(source, "<source>", "eval"), {**self._space, **names}
        return lambda: eval(code, space)

    def execute(self, source: Source, names: Names) -> Any:
        space = {**self._space, **names}
        exec(self._compile(source, "<source>", "exec"), space)
        return space.get("result")


class Asteval(InProcess):
    """It knows no limits, and imports everything or nothing: nothing."""

    def __init__(self, allowance: Allowance) -> None:
        from asteval import Interpreter

        self._interpreter = Interpreter(writer=io.StringIO(), err_writer=io.StringIO())

    def evaluate(self, source: Source, names: Names) -> Any:
        self._interpreter.symtable.update(names)
        return self._interpreter.eval(source, raise_errors=True)

    def prepared(self, source: Source, names: Names) -> Call:
        self._interpreter.symtable.update(names)
        parsed = self._interpreter.parse(source)
        return lambda: self._interpreter.eval(parsed, raise_errors=True)

    def execute(self, source: Source, names: Names) -> Any:
        self.evaluate(source, names)
        return self._interpreter.symtable.get("result")


class Simpleeval(InProcess):
    """It knows expressions only, and no time."""

    def __init__(self, allowance: Allowance) -> None:
        from simpleeval import DEFAULT_FUNCTIONS, EvalWithCompoundTypes

        self._made = EvalWithCompoundTypes
        self._functions = {each.__name__: each for each in PLAIN_FUNCTIONS}
        self._functions.update(DEFAULT_FUNCTIONS)

    def _evaluator(self, names: Names) -> Any:
        functions = {name: value for name, value in names.items() if callable(value)}
        others = {name: value for name, value in names.items() if name not in functions}
        return self._made(functions=self._functions | functions, names=others)

    def evaluate(self, source: Source, names: Names) -> Any:
        return self._evaluator(names).eval(source)

    def prepared(self, source: Source, names: Names) -> Call:
        evaluator = self._evaluator(names)
        parsed = evaluator.parse(source)
        return lambda: evaluator.eval(source, previously_parsed=parsed)

    def execute(self, source: Source, names: Names) -> Any:
        raise SyntaxError("it evaluates expressions only")


class Smolagents(InProcess):
    """``LocalPythonExecutor``."""

    def __init__(self, allowance: Allowance) -> None:
        from smolagents.local_python_executor import LocalPythonExecutor

        self._executor = LocalPythonExecutor(
            list(allowance.imports), timeout_seconds=allowance.timeout_s
        )
        self._executor.send_tools({})

    def evaluate(self, source: Source, names: Names) -> Any:
        self._executor.send_variables({**names})
        return self._executor(source).output

    def execute(self, source: Source, names: Names) -> Any:
        self.evaluate(source, names)
        return self._executor.state.get("result")


class Monty:
    """A pool of workers; each evaluation in a session of its own, unless prepared."""

    def __init__(self, allowance: Allowance) -> None:
        import pydantic_monty

        self._limits = pydantic_monty.ResourceLimits(
            max_feed_duration_secs=allowance.timeout_s,
            max_total_sleep_secs=allowance.timeout_s,
            max_memory=allowance.memory_bytes,
        )
        self._made = pydantic_monty.Monty
        self._printed = pydantic_monty.CollectString
        self._exits = ExitStack()

    @cached_property
    def _pool(self) -> Any:
        # Not before it is used: once one was started, no fork of this process can.
        return self._exits.enter_context(self._made())

    def start(self) -> None:
        _ = self._pool

    def evaluate(self, source: Source, names: Names) -> Any:
        with self._pool.checkout(limits=self._limits) as session:
            return self._fed(session, source, names)

    def prepared(self, source: Source, names: Names) -> Call:
        pool = self._pool
        session = self._exits.enter_context(pool.checkout(limits=self._limits))
        return lambda: self._fed(session, source, names)

    def execute(self, source: Source, names: Names) -> Any:
        with self._pool.checkout(limits=self._limits) as session:
            self._fed(session, source, names)
            return session.feed_run("result")

    def _fed(self, session: Any, source: Source, names: Names) -> Any:
        functions = {name: value for name, value in names.items() if callable(value)}
        return session.feed_run(
            source,
            inputs={name: names[name] for name in names if name not in functions},
            external_lookup=functions,
            print_callback=self._printed(),
        )

    def close(self) -> None:
        self._exits.close()


#: By label; ours comes last.
PEERS: Mapping[str, Callable[[Allowance], Peer]] = {
    FLOOR: Plain,
    "asteval": Asteval,
    "simpleeval": Simpleeval,
    "RestrictedPython": RestrictedPython,
    "smolagents": Smolagents,
    "LlamaIndex": LlamaIndex,
    "Monty": Monty,
    OURS: Ours,
}


def whole(timeout_s: float) -> int:
    """A time in whole seconds, rounded up."""
    return math.ceil(timeout_s)
