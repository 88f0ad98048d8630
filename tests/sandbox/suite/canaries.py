"""Harmless things that an attack tries to touch, and whether it did.

Sources name them by placeholders; `Canaries.fill` puts in what they are this time:

    {canary}           a path in an empty folder, where nothing may appear
    {secret_file}      a file of the host; its text may not come out
    {granted}          a folder with a file `table.csv`, to be granted read-only
    {secret_env}       the name of an environment variable; its value may not come out. It
                       is the same in all sets of one process
    {port}, {port6}    a TCP port that listens on 127.0.0.1, on ::1
    {udp_port}         a UDP port on 127.0.0.1
    {unix_socket}, {unix_datagram}, {abstract_socket}    names of unix sockets that listen
    {host_pid}         a process that stands for the host: it may be neither ended, stopped
                       nor traced; its environment holds the secret too
    {host_address}     where in the memory of that process the secret is
    {escaped}          a mark that a source gives as its value when it got through

Files and folders may be read and written by anybody, so that nothing but the sandbox is in
the way of code that runs as somebody else; the folder that holds them must be open too.

Whether something connected is read from the kernel's queues, so nothing runs beside the
test. What the code can change for the next caller (builtins, modules, options) is compared
with what it was, and put back. Sets may be there at the same time, if one of them comes
first and goes last.
"""

from __future__ import annotations

import contextlib
import copy
import decimal
import os
import random
import secrets
import select
import signal
import socket
import subprocess
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast

from tests.sandbox.suite import given

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import TracebackType

__all__ = ["PLACEHOLDERS", "Canaries"]

PLACEHOLDERS = (
    "canary secret_file granted secret_env escaped port port6 udp_port unix_socket "
    "unix_datagram abstract_socket host_pid host_address"
).split()
# In these a placeholder may be spelled in a source of bytes.
_ENCODINGS = ("ascii", "utf-16-le", "utf-16-be", "utf-32-le", "cp037")
_MODULES = (
    "builtins sys os io math json re random statistics itertools functools operator string "
    "collections datetime decimal time pandas numpy"
).split()
_ENV = f"SUITE_{secrets.token_hex(8).upper()}"
_ENV_SECRET = f"env-{secrets.token_hex(8)}"
_CLASSES = (
    ("pandas", "DataFrame"),
    ("pandas", "Series"),
    ("pandas", "Index"),
    ("datetime", "date"),
    ("decimal", "Decimal"),
    ("fractions", "Fraction"),
    ("collections", "Counter"),
    ("collections", "OrderedDict"),
)
# Says where its secret is; then answers each line, so that what was sent to it before the
# line has been delivered by the time of the answer.
_VICTIM = """
import os, sys
secret = os.environb[sys.argv[1].encode()]
print(id(secret) + 32, flush=True)
for line in sys.stdin:
    print(line, end="", flush=True)
"""


class Canaries:
    """A set of canaries for one case: `with Canaries(tmp_path) as canaries`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        token = secrets.token_hex(8)
        self._file_secret = f"file-{token}"
        self._escaped = f"escaped-{token}"
        self._abstract = f"suite-{token}"
        self._watched: dict[str, tuple[object, object]] = {}
        self._sockets: dict[str, socket.socket] = {}
        self._victim: _Victim | None = None
        self._cleanup = contextlib.ExitStack()
        self._state: dict[str, dict[str, object]] = {}
        self._settings: dict[str, object] = {}

    def __enter__(self) -> Self:
        self._nest = self._folder / "nest"
        self._nest.mkdir()
        self._secret_file = self._folder / "secret.txt"
        self._secret_file.write_text(self._file_secret, encoding="utf-8")
        self._granted = self._folder / "granted"
        self._granted.mkdir()
        table = self._granted / "table.csv"
        table.write_text("a,b\n1,2\n", encoding="utf-8")
        for path in (self._nest, self._secret_file, self._granted, table):
            path.chmod(0o777 if path.is_dir() else 0o666)
        self._before = _tree(self._granted)
        if _ENV not in os.environ:
            os.environ[_ENV] = _ENV_SECRET
            self._cleanup.callback(os.environ.pop, _ENV, None)
        self._cleanup.callback(_forget_kept)
        random.Random("seed")  # Python 3.13 imports into random when a text is the seed
        self._state = _host_state()
        self._settings = _host_settings()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._put_back()
        self._cleanup.close()

    @property
    def granted(self) -> Path:
        """The folder that `{granted}` names."""
        return self._granted

    def fill(self, source: str | bytes) -> str | bytes:
        """The source with the canaries in place of its placeholders.

        What a source does not name is not set up: a port costs nothing to other cases.
        """
        for name, value in self._values().items():
            mark = "{" + name + "}"
            if isinstance(source, str):
                if mark in source:
                    source = source.replace(mark, value())
                continue
            for encoding in _ENCODINGS:
                if (spelled := mark.encode(encoding)) in source:
                    source = source.replace(spelled, value().encode(encoding))
        return source

    def watch(self, inputs: Mapping[str, object]) -> None:
        """Remembers what these objects are like: a change trips `input NAME`."""
        for name, value in inputs.items():
            self._watched[name] = (value, _likeness(value))

    def call_later(self) -> None:
        """Calls what the code gave to the host's `keep`, as a host may once it is done."""
        for function in list(given.KEPT):
            if callable(function):
                with contextlib.suppress(Exception):
                    function()

    def tripped(self, *observed: object) -> list[str]:
        """The names of the canaries that were touched, in no particular order.

        What was changed in the host is put back first: code that replaced `len` would
        break the rest.

        Args:
            observed: Whatever came out: a value, printed text, an error. It is searched for
                secrets; no method of a class that is not known is called.
        """
        changed = self._put_back()
        return [*changed, *self._leaks(observed), *self._touched(), *self._changed()]

    def _values(self) -> dict[str, Callable[[], str]]:
        return {
            "canary": lambda: str(self._nest / "touched"),
            "secret_file": lambda: str(self._secret_file),
            "granted": lambda: str(self._granted),
            "secret_env": lambda: _ENV,
            # Spelled otherwise than its value, for tracebacks quote the source.
            "escaped": lambda: f"\\x{ord(self._escaped[0]):x}{self._escaped[1:]}",
            "port": lambda: self._listen("tcp", socket.AF_INET, ("127.0.0.1", 0)),
            "port6": lambda: self._listen("tcp6", socket.AF_INET6, ("::1", 0)),
            "udp_port": lambda: self._listen("udp", socket.AF_INET, ("127.0.0.1", 0)),
            "unix_socket": lambda: self._listen("unix", socket.AF_UNIX, self._short("s")),
            "unix_datagram": lambda: self._listen(
                "unix_datagram", socket.AF_UNIX, self._short("d")
            ),
            "abstract_socket": lambda: self._listen(
                "abstract", socket.AF_UNIX, "\0" + self._abstract
            ),
            "host_pid": lambda: str(self._start_victim().pid),
            "host_address": lambda: str(self._start_victim().address),
        }

    def _short(self, name: str) -> str:
        # A path of a unix socket has 108 bytes at most; pytest's folders are long.
        path = Path("/tmp") / f"{self._abstract}-{name}"
        self._cleanup.callback(path.unlink, missing_ok=True)
        return str(path)

    def _listen(self, name: str, family: int, address: Any) -> str:
        if name not in self._sockets:
            datagram = name in {"udp", "unix_datagram"}
            kind = socket.SOCK_DGRAM if datagram else socket.SOCK_STREAM
            server = self._cleanup.enter_context(socket.socket(family, kind))
            server.setblocking(False)
            server.bind(address)
            if not datagram:
                server.listen(16)
            self._sockets[name] = server
        bound = self._sockets[name].getsockname()
        if isinstance(bound, tuple):
            return str(bound[1])
        return bound.decode().lstrip("\0") if isinstance(bound, bytes) else str(bound)

    def _start_victim(self) -> _Victim:
        if self._victim is None:
            self._victim = _Victim(_ENV)
            self._cleanup.callback(self._victim.end)
        return self._victim

    def _leaks(self, observed: tuple[object, ...]) -> Iterator[str]:
        secrets_ = {
            "environment": _ENV_SECRET,
            "secret file": self._file_secret,
            "host memory": given.HOST_SECRET,
            "escaped": self._escaped,
        }
        texts = list(_texts(observed, depth=12))
        for name, secret in secrets_.items():
            if any(secret in text for text in texts):
                yield name

    def _touched(self) -> Iterator[str]:
        if any(self._nest.iterdir()):
            yield "file"
        if not self._secret_file.exists() or (
            self._secret_file.read_text(encoding="utf-8") != self._file_secret
        ):
            yield "secret file changed"
        if _tree(self._granted) != self._before:
            yield "granted folder changed"
        for name, server in self._sockets.items():
            if _was_used(server):
                yield name
        if self._victim is not None and not self._victim.is_untouched():
            yield "host process"

    def _put_back(self) -> list[str]:
        changed = []
        for label, was in self._state.items():
            holder = dict(_holder(label))
            found = [k for k, v in was.items() if _differs(holder.get(k, _GONE), v)]
            if label == "builtins" or ":" in label:  # modules import their parts lazily
                found += [key for key in holder if key not in was and key not in _CACHES]
            _restore(label, was, found)
            changed += [f"{label}.{key}" for key in found]
        return changed

    def _changed(self) -> Iterator[str]:
        now = _host_settings()
        for label, setting in self._settings.items():
            if now.get(label) != setting:
                yield label
        for name, (value, likeness) in self._watched.items():
            if _likeness(value) != likeness:
                yield f"input {name}"


_GONE = object()
_CACHES = {"__slotnames__"}  # what pickling leaves in a class


def _forget_kept() -> None:
    given.KEPT.clear()


def _holder(label: str) -> Mapping[str, object]:
    module, _, name = label.partition(":")
    thing = sys.modules[module]
    return vars(getattr(thing, name)) if name else vars(thing)


def _host_state() -> dict[str, dict[str, object]]:
    labels = [name for name in _MODULES if name in sys.modules]
    labels += [f"{module}:{name}" for module, name in _CLASSES if module in sys.modules]
    labels += [f"{given.__name__}:Account"]
    return {label: dict(_holder(label)) for label in labels}


def _differs(value: object, was: object) -> bool:
    if value is was:
        return False
    # Importing pandas makes some of these anew, with the same value.
    plain = type(value) is type(was) and type(was) in {str, int, float, tuple, list}
    return not plain or value != was


def _restore(label: str, was: dict[str, object], keys: list[str]) -> None:
    module, _, name = label.partition(":")
    owner = getattr(sys.modules[module], name) if name else sys.modules[module]
    for key in keys:
        if key in was:
            setattr(owner, key, was[key])
        else:
            delattr(owner, key)


def _host_settings() -> dict[str, object]:
    settings: dict[str, object] = {
        "recursion limit": sys.getrecursionlimit(),
        "trace": sys.gettrace(),
        "search path": list(sys.path),
        "finders": [id(finder) for finder in sys.meta_path],
        "environment changed": dict(os.environ),
        "working folder": Path.cwd(),
        "alarm": signal.getsignal(signal.SIGALRM),
        "interrupt": signal.getsignal(signal.SIGINT),
        "decimal precision": decimal.getcontext().prec,
        "warnings": list(warnings.filters),
    }
    if numpy := sys.modules.get("numpy"):
        settings["numpy errors"] = numpy.geterr()
        settings["numpy printing"] = str(numpy.get_printoptions())
    if pandas := sys.modules.get("pandas"):
        settings["pandas rows"] = pandas.get_option("display.max_rows")
        settings["pandas precision"] = pandas.get_option("display.precision")
    return settings


def _likeness(value: object) -> object:
    kind = type(value)
    if kind.__module__.split(".")[0] == "pandas":
        return str(kind), value.to_json(), str(value.attrs)  # type: ignore[attr-defined]
    if kind.__module__ == "numpy":
        return str(kind), value.tolist(), value.shape, value.flags.writeable  # type: ignore[attr-defined]
    if kind is given.Account:
        return copy.deepcopy(vars(value))
    if kind in {list, dict, set, tuple}:
        return repr(value)
    return None


def _texts(value: object, *, depth: int) -> Iterator[str]:
    kind = type(value)
    if depth == 0:
        return
    if kind is str:
        yield value  # type: ignore[misc]
    elif kind in {bytes, bytearray}:
        yield bytes(value).decode("latin-1")  # type: ignore[call-overload]
    elif kind is dict:
        for key, item in value.items():  # type: ignore[attr-defined]
            yield from _texts(key, depth=depth - 1)
            yield from _texts(item, depth=depth - 1)
    elif kind in {list, tuple, set, frozenset}:
        # Each object once: a long text may be in a list a thousand times.
        for item in {id(item): item for item in value}.values():  # type: ignore[attr-defined]
            yield from _texts(item, depth=depth - 1)
    elif kind in _printable():
        with contextlib.suppress(Exception):
            yield str(value)
    elif issubclass(kind, BaseException):
        # Not isinstance, nor str(): its __class__ and __str__ may be code of the case.
        error = cast("BaseException", value)
        yield from _texts(BaseException.args.__get__(error), depth=depth - 1)  # type: ignore[attr-defined]
        notes = BaseException.__getattribute__(error, "__dict__").get("__notes__")
        yield from _texts(notes, depth=depth - 1)


def _printable() -> set[type]:
    names = {
        "numpy": ("ndarray", "str_", "bytes_"),
        "pandas": ("DataFrame", "Series", "Index"),
    }
    return {
        getattr(sys.modules[module], name)
        for module, kinds in names.items()
        if module in sys.modules
        for name in kinds
    }


def _tree(folder: Path) -> list[tuple[str, int, int, int]]:
    if not folder.is_dir():
        return []
    paths = [folder, *sorted(folder.rglob("*"))]
    stats = [(path, path.stat()) for path in paths]
    return [(str(p), s.st_mode, s.st_mtime_ns, s.st_nlink) for p, s in stats]


def _was_used(server: socket.socket) -> bool:
    try:
        if server.type == socket.SOCK_DGRAM:
            server.recvfrom(1)
        else:
            server.accept()[0].close()
    except BlockingIOError:
        return False
    return True


class _Victim:
    def __init__(self, secret: str) -> None:
        command = [sys.executable, "-I", "-S", "-c", _VICTIM, secret]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, text=True, start_new_session=True
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._stdin, self._stdout = self._process.stdin, self._process.stdout
        self.address = int(self._stdout.readline())

    @property
    def pid(self) -> int:
        return self._process.pid

    def is_untouched(self) -> bool:
        try:
            self._stdin.write("still there?\n")
            self._stdin.flush()
        except BrokenPipeError:
            return False
        # Only one that was stopped keeps us waiting.
        if not select.select([self._stdout], [], [], 2.0)[0] or not self._stdout.readline():
            return False
        status = Path(f"/proc/{self.pid}/status")
        return not status.exists() or "TracerPid:\t0\n" in status.read_text("utf-8")

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        self._stdout.close()
        with contextlib.suppress(BrokenPipeError):
            self._stdin.close()
