"""Runs programs of the grammar behind the policy; prints what it found wrong, as JSON.

``python policy_fuzz_program.py tame|wild|both FIRST COUNT [--seconds S]``: each batch in a
forked child with limits, so that a crash or a hang ends the child, and is told with the
seed that it is due to. The process is one that is thrown away: an audit hook stays.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import importlib
import io
import json
import os
import re
import resource
import select
import signal
import sys
import tempfile
import threading
import time
import types
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, TextIO

from anabranch.errors import CodeFailed, SandboxError, SourceRefused
from anabranch.sandbox import evaluation, safe_exec, values
from anabranch.sandbox.names import EXCEPTIONS
from anabranch.sandbox.objects import Given, Offered
from anabranch.sandbox.views.modules import view_of
from anabranch.sandbox.wire.homes import preload
from tests.sandbox.policy_fuzz import IMPORTS, Program, inputs, program
from tests.sandbox.suite.loader import Canaries, describe, same

TIMEOUT_S: Final = 0.25
MEMORY_BYTES: Final = 2**28
# What a program may take in the end. An operation that was let through ends first.
MOST_CPU_S: Final = TIMEOUT_S + 2.0
MOST_GROWTH: Final = 3 * MEMORY_BYTES
# By then a batch that says nothing hangs.
SILENCE_S: Final = 12.0
_BATCH: Final = 25

# ----------------------------------------------------------------------------- the oracle

# Events that reach out of the interpreter, or run what was not judged.
_OUT: Final = (
    "open os. subprocess. socket. ctypes. shutil. tempfile. glob. mmap. signal. import exec"
    " pickle. code.__new__ function.__new__ gc. sys.set sys._current builtins.input"
    " urllib. sqlite3. webbrowser."
).split()
# What libraries load when they are used: their own files, for reading.
_LIBRARIES: Final = (sys.prefix, sys.base_prefix, str(Path(evaluation.__file__).parent))
_LOADED: Final = (
    "encodings _strptime numpy pandas pyarrow jinja2 markupsafe tabulate".split()
)
_events: list[str] = []
_main = threading.get_ident()
_is_armed = False


def _hook(event: str, args: tuple[Any, ...]) -> None:
    is_told = _is_armed and event.startswith(tuple(_OUT)) and not _is_ours(event, args)
    if is_told and threading.get_ident() == _main:
        _events.append(f"{event} {str(args)[:120]}")


def _is_ours(event: str, args: tuple[Any, ...]) -> bool:
    """Whether an event is what the policy, or a library on its behalf, does on purpose."""
    match event:
        case "exec":
            code = args[0]
            names = [n for c in code.co_consts for n in getattr(c, "co_varnames", ())]
            # Judged code, libraries, and what `namedtuple` makes of names it has looked at.
            known = code.co_filename.startswith(("<sandbox>", "<frozen", *_LIBRARIES))
            return known or "_cls" in names
        case "import":
            return str(args[0]).partition(".")[0] in _LOADED
        case "open":
            # The compiler looks for the line of an error in the file that it is told.
            named = str(args[0]).startswith(("<sandbox>", *_LIBRARIES))
            return named and str(args[1])[:1] in ("r", "N")
        case "ctypes.dlsym":
            return str(args[1]) == "PyThreadState_SetAsyncExc"
        case "os.listdir":
            return str(args[0]).startswith(_LIBRARIES)
        case _:
            return False


_PLAIN_HOMES: Final = frozenset(
    "datetime decimal fractions uuid collections re random statistics itertools functools"
    " operator time numpy pandas zoneinfo calendar json math cmath heapq bisect textwrap"
    " html unicodedata base64 zlib copy string pytz".split()
)
_BUILTIN_KINDS: Final = frozenset(
    "NoneType ellipsis NotImplementedType bool int float complex str bytes bytearray list"
    " tuple dict set frozenset range slice generator function builtin_function_or_method"
    " method method_descriptor map filter zip enumerate reversed dict_keys dict_values"
    " dict_items list_iterator tuple_iterator str_iterator bytes_iterator range_iterator"
    " longrange_iterator dict_keyiterator dict_valueiterator dict_itemiterator"
    " set_iterator list_reverseiterator dict_reversekeyiterator callable_iterator"
    " classmethod_descriptor str_ascii_iterator bytearray_iterator"
    " dict_reversevalueiterator dict_reverseitemiterator wrapper_descriptor"
    " method-wrapper getset_descriptor type".split()
)
_FORBIDDEN: Final = frozenset(
    id(value)
    for value in (
        *(eval, exec, compile, open, __import__, vars, globals, locals, input, breakpoint),
        *(getattr, setattr, delattr, memoryview, object, type, super, dir, id, exit, quit),
        *(os, sys, types.CodeType, types.FrameType, types.FunctionType, Given, Offered),
    )
)


def forbidden(value: Any) -> str | None:
    """Why code should not have got hold of a value, or nothing."""
    kind = type(value)
    if id(value) in _FORBIDDEN:
        return f"it got hold of {value!r}"[:200]
    if isinstance(value, (types.ModuleType, types.CodeType, types.FrameType)):
        return f"it got hold of a {kind.__name__}"
    if kind is dict and "__builtins__" in value:
        return "it got hold of the names of a module"
    ours = kind is types.FunctionType and str(value.__module__).startswith(
        "anabranch.sandbox."
    )
    if kind is types.FunctionType and not ours and value.__module__ not in _OURS:
        return f"it got hold of the function {value.__module__}.{value.__qualname__}"
    home = kind.__module__.partition(".")[0]
    if home == "builtins":
        fine = kind.__name__ in _BUILTIN_KINDS or isinstance(value, Exception)
    else:
        fine = home in _PLAIN_HOMES or kind.__module__.startswith("anabranch.sandbox")
    return None if fine else f"it got hold of a {kind.__module__}.{kind.__qualname__}"


_OURS: Final = frozenset(
    # Code has no module of its own: that of its builtins is told.
    ("builtins", None, "tests.sandbox.policy_fuzz", "tests.sandbox.suite.given", *IMPORTS)
)
_seen: list[str] = []


def _look(value: Any) -> Any:
    if len(_seen) < 5 and (why := forbidden(value)) is not None:
        _seen.append(why)
    return value


class _Looking(ast.NodeTransformer):
    """Puts a look at every value that a source reads."""

    def visit(self, node: ast.AST) -> Any:
        if isinstance(node, (ast.MatchValue, ast.MatchClass, ast.JoinedStr)):
            return node
        self.generic_visit(node)
        is_read = isinstance(node, (ast.Attribute, ast.Call, ast.Subscript, ast.Name))
        if not is_read or not isinstance(getattr(node, "ctx", ast.Load()), ast.Load):
            return node
        if isinstance(node, ast.Name) and node.id.startswith("$"):
            return node
        match node:
            case ast.Call(func=ast.Name(id="$type")):
                return node  # what the policy asks of a value, and the code never sees
            case _:
                pass
        look = ast.Call(ast.Name("$look", ast.Load()), [node], [])  # type: ignore[list-item]
        return ast.copy_location(look, node)


_evaluation: Any = evaluation  # what it imported is exchanged here
_guarded = _evaluation.guarded


def _watched_tree(tree: Any, **named: Any) -> Any:
    looked = _Looking().visit(_guarded(tree, **named))
    return ast.fix_missing_locations(looked)


# ---------------------------------------------------------------------------- properties


def faults(made: Program, canaries: Canaries) -> Iterator[str]:
    """What is wrong with how a program of the grammar ends behind the policy."""
    global _is_armed
    source = canaries.fill(made.source)
    given = inputs(made)
    canaries.watch(given)
    looks = made.is_wild and made.seed % 4 > 0
    _evaluation.guarded = _watched_tree if looks else _guarded
    _evaluation.GUARDS["$look"] = _look
    evaluation.compiled.cache_clear()
    bound: dict[str, Any] = {}
    error: BaseException | None = None
    _events.clear()
    _seen.clear()
    before = _peak(forget=True)
    began = time.process_time()
    _is_armed = True
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            safe_exec(
                source, given, bound, TIMEOUT_S,
                allow_imports=IMPORTS, memory_bytes=MEMORY_BYTES,
            )  # fmt: skip
    except BaseException as raised:
        error = raised
    finally:
        _is_armed = False
    took = time.process_time() - began
    grown = _peak() - before
    yield from (f"event: {event}" for event in _events)
    yield from (f"reached: {why}" for why in _seen)
    if took > MOST_CPU_S:
        yield f"late: {took:.1f} s"
    if grown > MOST_GROWTH:
        yield f"memory: {grown >> 20} MiB"
    tripped = canaries.tripped(bound, str(error), printed.getvalue())
    yield from (f"canary: {name}" for name in tripped)
    if error is not None:
        yield from _undocumented(error)
    for name, value in bound.items():
        if not _is_plain(value):
            yield f"not plain: {name} is a {type(value).__name__}"
    yield from _views_changed()
    if not made.is_wild:
        yield from _differences(made, bound, error)


def _undocumented(error: BaseException) -> Iterator[str]:
    if isinstance(error, (SandboxError, SyntaxError)):
        return
    known = type(error).__module__ == "builtins" and type(error).__name__ in EXCEPTIONS
    # What the code raised says so; what has no line was raised by the policy itself.
    if not known or not any(
        "in contained code" in n for n in getattr(error, "__notes__", ())
    ):
        yield f"undocumented: {type(error).__name__}: {str(error)[:200]}"


def _is_plain(value: Any) -> bool:
    try:
        values.copied_out(value, "value")
    except BaseException:
        return False
    return True


def _peak(*, forget: bool = False) -> int:
    """The most that the process has occupied, since it was last forgotten."""
    if forget:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


_views: dict[str, dict[str, Any]] = {}
# Pandas is given no expressions but short texts, whatever it would have said itself.
_MAY_REFUSE: Final = re.compile("it is not offered|pandas takes a short text here")


def _views_changed() -> Iterator[str]:
    for name in {*IMPORTS} - {"random"}:  # which is made anew each time
        names = view_of(name)._names  # there is no public way to list a view
        was = _views.setdefault(name, dict(names))
        if names.keys() != was.keys() or any(names[key] is not was[key] for key in was):
            yield f"canary: the view of {name}"


def _differences(
    made: Program, bound: dict[str, Any], error: BaseException | None
) -> Iterator[str]:
    if isinstance(error, SyntaxError):
        yield f"grammar: {error}"
        return
    given = inputs(made)
    space = dict(given)
    plain: BaseException | None = None
    with _patience(5.0), contextlib.redirect_stdout(io.StringIO()):
        try:
            exec(compile(made.source, "<plain>", "exec", dont_inherit=True), space)
        except Exception as raised:
            plain = raised
    if error is not None:
        refused = isinstance(error, SourceRefused)
        if refused and (made.is_spliced or _MAY_REFUSE.search(str(error))):
            return
        if isinstance(plain, TimeoutError) and isinstance(error, TimeoutError):
            return
        if plain is None or refused:
            yield f"refusal: {type(error).__name__}: {error}"[:300]
        elif _name_of(error) != type(plain).__name__:
            yield f"other error: {error!r} instead of {plain!r}"[:300]
        return
    if plain is not None:
        yield f"no error: {plain!r}"[:300]
        return
    yield from _other_values(space, given, bound)


def _other_values(
    space: dict[str, Any], given: dict[str, Any], bound: dict[str, Any]
) -> Iterator[str]:
    for name, value in space.items():
        if name.startswith("_") or name in IMPORTS:
            continue
        if name in given and not values.is_mutable(value):
            continue
        for expected in values.plain_or_nothing(value, name):
            told = _described(expected)
            found = _described(bound[name]) if name in bound else "nothing"
            if told is not None and not same(told, found) and "0x" not in f"{told}{found}":
                yield f"value: {name} is {found!r} instead of {told!r}"[:400]


def _name_of(error: BaseException) -> str:
    return error.type_name if isinstance(error, CodeFailed) else type(error).__name__


def _described(value: Any) -> Any:
    try:
        return describe(value)
    except (TypeError, RecursionError):
        return None


@contextlib.contextmanager
def _patience(seconds: float) -> Iterator[None]:
    """Ends what runs in plain Python, which nothing else stops."""

    def late(*_: object) -> None:
        raise TimeoutError("plain Python took too long")

    signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


# ------------------------------------------------------------------------------- batches


def _in_child(programs: list[tuple[int, bool]], out: TextIO) -> None:
    def tell(*message: object) -> None:
        print(json.dumps(message), file=out, flush=True)

    resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20))
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 2)
    for seed, wild in programs:
        tell("at", seed, wild)
        with tempfile.TemporaryDirectory() as folder, Canaries(Path(folder)) as canaries:
            for fault in dict.fromkeys(faults(program(seed, wild=wild), canaries)):
                tell("fault", seed, wild, fault)
    tell("done")


def hunted(programs: list[tuple[int, bool]]) -> Iterator[tuple[int, bool, str]]:
    """The faults of programs, each with its seed, also if one ends the child."""
    while programs:
        readable, writable = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(readable)
            os.setsid()
            with contextlib.suppress(BaseException), os.fdopen(writable, "w") as out:
                _in_child(programs, out)
            os._exit(0)
        os.close(writable)
        at, done = 0, False
        for message in _messages(readable):
            match message:
                case ["at", seed, wild]:
                    at = programs.index((seed, wild))
                case ["fault", seed, wild, fault]:
                    yield seed, wild, fault
                case _:
                    done = True
        os.close(readable)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if done:
            return
        hung = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        what = "hangs" if hung else f"ends the interpreter: status {status}"
        yield *programs[at], what
        programs = programs[at + 1 :]


def _messages(readable: int) -> Iterator[Any]:
    data = b""
    while select.select([readable], [], [], SILENCE_S)[0]:
        if not (chunk := os.read(readable, 65536)):
            return
        *lines, data = (data + chunk).split(b"\n")
        yield from map(json.loads, lines)


def _warm_up() -> None:
    """Loads all that is loaded when it is first used; so what a program loads is its own."""
    for library in (*IMPORTS, "pyarrow", "_strptime", "tabulate"):
        with contextlib.suppress(ImportError):
            importlib.import_module(library)
    preload()
    for name in IMPORTS:
        view_of(name)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=("tame", "wild", "both"))
    parser.add_argument("first", type=int)
    parser.add_argument("count", type=int)
    parser.add_argument("--seconds", type=float, default=3600.0)
    parser.add_argument("--live", action="store_true", help="print each as it is found")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    _warm_up()
    sys.addaudithook(_hook)
    kinds = {"tame": [False], "wild": [True], "both": [False, True]}[given.kind]
    until = time.monotonic() + given.seconds
    found: list[dict[str, Any]] = []
    run = 0
    for first in range(given.first, given.first + given.count, _BATCH):
        seeds = range(first, min(first + _BATCH, given.first + given.count))
        for seed, wild, fault in hunted([(s, wild) for s in seeds for wild in kinds]):
            found.append({"seed": seed, "wild": wild, "fault": fault})
            if given.live:
                print(json.dumps(found[-1]), flush=True)
        run += len(seeds) * len(kinds)
        if time.monotonic() > until:
            break
    print(json.dumps({"run": run, "found": found}))


if __name__ == "__main__":
    main()
