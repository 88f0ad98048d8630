"""``safe_eval`` and ``safe_exec``: contained code in this process, behind the policy."""

from __future__ import annotations

import builtins
import functools
import sys
from collections.abc import Callable, Collection, Iterable, Mapping
from contextvars import Context, copy_context
from types import CodeType
from typing import Any, Final

from anabranch.errors import CodeFailed, SandboxError, SourceRefused, UsageError
from anabranch.sandbox import values
from anabranch.sandbox.guards import GUARDS
from anabranch.sandbox.light import weight
from anabranch.sandbox.names import EXCEPTIONS
from anabranch.sandbox.objects import Stopped, refuse
from anabranch.sandbox.offered import ALLOWED_BUILTINS
from anabranch.sandbox.policy import Policy, checked
from anabranch.sandbox.rewriting.trees import guarded
from anabranch.sandbox.source import Mode, parsed
from anabranch.sandbox.views.modules import view_of
from anabranch.sandbox.views.numeric import limited_decimals
from anabranch.sandbox.watch import watched

__all__ = ["safe_eval", "safe_exec"]

# What programs pass in and get back may be of any plain type.
Value = Any

MEMORY_BYTES: Final = 2**30
#: What an exception holds is told if it is of so few items: nobody limits the time for it.
_TOLD: Final = 100_000
_BUILTIN_NAMES: Final = frozenset(ALLOWED_BUILTINS) - {"__import__"}
_WITHHELD: Final = frozenset(dir(builtins)) - _BUILTIN_NAMES
_BUILTINS: Final = {name: ALLOWED_BUILTINS[name] for name in _BUILTIN_NAMES}


def safe_eval(
    source: str | bytes | bytearray,
    globals: Mapping[str, Value] | None = None,  # noqa: A002  # as eval has it
    locals: Mapping[str, Value] | None = None,  # noqa: A002  # as eval has it
    timeout_seconds: float = 30,
    *,
    isolate: bool = False,
    allow_imports: Iterable[str] = (),
    memory_bytes: int | None = MEMORY_BYTES,
) -> Value:
    """The value of an expression that somebody else wrote.

    In this process it is a guard against accidents and known tricks, not against an
    adversary: a fault of the interpreter or of a library would be a way out. With *isolate*
    the same policy holds, and the code runs in a process that the system confines.

    What is given is copied in, and what comes out is plain: numbers, texts, lists, dicts,
    dates, arrays, frames. The code has no import, no name that begins with an underscore,
    no class, no file.

    Args:
        source: The expression, as text or UTF-8.
        globals: Names and their values: plain ones, functions, and modules, of which it
            sees a view.
        locals: More of them; they go before.
        timeout_seconds: How long it may take. It is stopped in any thread, also inside a
            running event loop, which stands still meanwhile.
        isolate: Whether it runs in a process of its own.
        allow_imports: Modules it may import, of those of which a view is known.
        memory_bytes: By how much the process may grow meanwhile; it is looked at 50 times
            a second.

    Raises:
        RuntimeError: As :class:`~anabranch.errors.SourceRefused`, if the policy refuses it
            (with the line and the reason); as :class:`~anabranch.errors.LimitExceeded`, if
            it would take too much memory; as :class:`~anabranch.errors.CodeFailed`, if it
            raised an exception that is not one of Python's own.
        TimeoutError: As :class:`~anabranch.errors.TimeLimitExceeded`.
        SyntaxError: If it is not an expression.
        Exception: What the code raised, anew, if it is one of Python's own.
    """
    _check(timeout_seconds)
    imports = frozenset(allow_imports)
    names = _given(globals, locals)
    text = _text(source)
    if isolate:
        from anabranch.sandbox import isolated

        return isolated.run(
            text,
            "eval",
            names,
            timeout_s=timeout_seconds,
            imports=imports,
            memory_bytes=memory_bytes,
        )
    code, space = prepared(text, "eval", names, imports)
    return _run(lambda: value_of(code, space), timeout_seconds, memory_bytes)


def safe_exec(
    source: str | bytes | bytearray,
    globals: dict[str, Value] | None = None,  # noqa: A002  # as eval has it
    locals: dict[str, Value] | None = None,  # noqa: A002  # as eval has it
    timeout_seconds: float = 30,
    *,
    isolate: bool = False,
    allow_imports: Iterable[str] = (),
    memory_bytes: int | None = MEMORY_BYTES,
) -> None:
    """Runs statements that somebody else wrote; see :func:`safe_eval`.

    The names that the code bound to plain values are put into *locals*, or else into
    *globals*, when it has ended; functions and views of modules stay behind.
    """
    _check(timeout_seconds)
    imports = frozenset(allow_imports)
    names = _given(globals, locals)
    text = _text(source)
    if isolate:
        from anabranch.sandbox import isolated

        bound = isolated.run(
            text,
            "exec",
            names,
            timeout_s=timeout_seconds,
            imports=imports,
            memory_bytes=memory_bytes,
        )
    else:
        code, space = prepared(text, "exec", names, imports)
        bound = _run(lambda: names_of(code, space), timeout_seconds, memory_bytes)
    target = locals if locals is not None else globals
    if target is not None:
        target.update(bound)


def _check(timeout_s: object) -> None:
    if not isinstance(timeout_s, (int, float)) or not timeout_s > 0:
        raise UsageError(f"timeout_seconds must be a positive number, not {timeout_s!r}")


def _text(source: str | bytes | bytearray) -> str | bytes:
    """The source as what it can be remembered by.

    Raises:
        SourceRefused: If it is neither text nor bytes.
    """
    if isinstance(source, bytearray):
        return bytes(source)
    if type(source) not in (str, bytes):
        parsed(source, "exec")  # refuses it
    return source


def _given(*mappings: Mapping[str, Value] | None) -> dict[str, Value]:
    names: dict[str, Value] = {}
    for mapping in mappings:
        names.update(mapping or {})
    names.pop("__builtins__", None)
    return names


def prepared(
    source: str | bytes,
    mode: Mode,
    names: dict[str, Value],
    imports: frozenset[str],
) -> tuple[CodeType, dict[str, Value]]:
    """A source that the policy allows, compiled, and the names it runs with."""
    code = compiled(source, mode, frozenset(names), imports)
    space = values.copied_in(names)
    space.update(GUARDS)
    space["$import"] = functools.partial(_imported, imports, {})
    # Functions written in C import by way of the builtins around the call; no source can
    # name this one.
    space["__builtins__"] = {**_BUILTINS, "__import__": __import__}
    return code, space


@functools.lru_cache(maxsize=512)
def compiled(
    source: str | bytes, mode: Mode, given: frozenset[str], imports: frozenset[str]
) -> CodeType:
    """A source that the policy allows, with guards, ready to run.

    Raises:
        SourceRefused: If it does not.
        SyntaxError: If it is not Python.
    """
    tree = parsed(source, mode)
    policy = Policy(
        builtins=_BUILTIN_NAMES - given, withheld=_WITHHELD - given, imports=imports
    )
    checked(tree, policy)
    try:
        return compile(guarded(tree, given=given), "<sandbox>", mode, dont_inherit=True)
    except RecursionError:
        raise SourceRefused(
            line=None, construct="the source", reason="it is nested too deeply to compile"
        ) from None


def _imported(imports: Collection[str], known: dict[str, Value], name: str) -> Value:
    """The view of a module: in one run always the same."""
    if name not in imports:
        refuse(f"import of {name}", "it is not allowed here")
    if name not in known:
        try:
            known[name] = view_of(name)
        except UsageError as error:
            refuse(f"import of {name}", str(error))
    return known[name]


def _run(call: Callable[[], Value], timeout_s: float, memory_bytes: int | None) -> Value:
    return plainly(lambda: watched(call, timeout_s, memory_bytes))


def plainly(call: Callable[[], Value]) -> Value:
    """What a call of contained code gives; what it raises has nothing of the code in it.

    Raises:
        SandboxError: If it was stopped, or raised what has no class of Python's own.
        Exception: What it raised, anew.
    """
    try:
        return call()
    except Stopped as stopped:
        raised: Exception = stopped.error
    except SandboxError:
        raise
    except Exception as error:
        raised = _anew(error)
    try:
        # From here, so that it has no context: that would hold the code's frames.
        raise raised
    finally:
        del raised


def value_of(code: CodeType, space: dict[str, Value]) -> Value:
    """The plain value of an expression."""
    # The tree that was judged is what was compiled; its builtins are ours.
    value = _context().run(eval, code, space)
    return values.copied_out(value, "the value")


def names_of(code: CodeType, space: dict[str, Value]) -> dict[str, Value]:
    """The names that statements bind to plain values."""
    given = dict(space)
    _context().run(exec, code, space)
    return _changed(space, given)


def _context() -> Context:
    """A context in which nothing that the code sets is seen by the program."""
    context = copy_context()
    if "decimal" in sys.modules:
        context.run(limited_decimals)
    return context


def _changed(space: Mapping[str, Value], given: Mapping[str, Value]) -> dict[str, Value]:
    """The plain values that the code bound or changed."""
    return {
        name: plain
        for name, value in space.items()
        if not name.startswith(("$", "_"))
        for plain in values.plain_or_nothing(value, name)
        if name not in given or given[name] is not value or values.is_mutable(value)
    }


def _anew(error: Exception) -> Exception:
    """What the code raised, without anything of the code: no traceback, no objects."""
    line = _line_of(error)
    name = type(error).__name__
    few = weight(error.args, most=_TOLD) <= _TOLD
    told = error.args if few else ()
    plain = [part for arg in told for part in values.plain_or_nothing(arg, "arg")]
    cls = type(error)
    if (
        cls.__module__ == "builtins"
        and name in EXCEPTIONS
        and len(plain) == len(error.args)
    ):
        try:
            fresh = cls(*plain)
        except TypeError:
            fresh = None
        if fresh is not None:
            if line is not None:
                fresh.add_note(f"in contained code, line {line}")
            return fresh
    text = " ".join(str(part) for part in plain)[:1_000]
    return CodeFailed(type_name=name, message=text, line=line)


def _line_of(error: BaseException) -> int | None:
    line = None
    frame = error.__traceback__
    while frame is not None:
        if frame.tb_frame.f_code.co_filename == "<sandbox>":
            line = frame.tb_lineno
        frame = frame.tb_next
    return line
