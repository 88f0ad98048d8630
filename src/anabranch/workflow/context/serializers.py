"""Values as text, and back.

A payload may have been tampered with, so reading one calls no code but that of data
classes: pydantic models, dataclasses, enumerations and exceptions. It imports nothing:
the class must be loaded already, or be one that the workflow declares. With
``allowed_types`` only those classes are accepted.
"""

from __future__ import annotations

import base64
import binascii
import io
import json
import pickle
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, is_dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, Flag
from functools import cache
from pathlib import Path
from types import ModuleType, NoneType
from typing import Any, Final, cast, get_args
from uuid import UUID

from pydantic import BaseModel, RootModel

from anabranch.errors import ContextSerdeError
from anabranch.workflow.context.paths import class_of
from anabranch.workflow.events import UnreconstructedException

__all__ = [
    "BaseSerializer",
    "JsonPickleSerializer",
    "JsonSerializer",
    "PickleSerializer",
]

# The key that marks a JSON object as the form of another value.
KIND: Final = "__anabranch__"

_MAIN: Final = ("__main__", "__mp_main__")
# What JSON has as it is.
PLAIN: Final = frozenset({type(None), bool, int, float, str})
_PLAIN_NAMES: Final[Mapping[str, type[Any]]] = {
    f"builtins.{kind.__name__}": kind for kind in (bool, int, float, str, bytes, list, dict)
} | {"builtins.NoneType": NoneType}
_ATOMS: Final[Mapping[type, Callable[[str], Any]]] = {
    datetime: datetime.fromisoformat,
    date: date.fromisoformat,
    time: time.fromisoformat,
    Decimal: Decimal,
    UUID: UUID,
    complex: complex,
}
_ATOMS_BY_NAME: Final[Mapping[str, Callable[[Any], Any]]] = {
    **{kind.__name__: read for kind, read in _ATOMS.items()},
    "bytes": base64.b64decode,
    "bytearray": lambda text: bytearray(base64.b64decode(text)),
    "timedelta": lambda parts: timedelta(*parts),
    "path": Path,
}
_COLLECTIONS: Final[Mapping[str, Callable[[Iterable[Any]], Any]]] = {
    "tuple": tuple,
    "set": set,
    "frozenset": frozenset,
}


class BaseSerializer(ABC):
    """Turns a value into text and back; one of your own overrides both methods."""

    @abstractmethod
    def serialize(self, value: Any) -> str:
        """The value as text."""

    @abstractmethod
    def deserialize(self, value: str) -> Any:
        """The value that :meth:`serialize` was given."""


class JsonSerializer(BaseSerializer):
    """Values as JSON.

    Beside what JSON has it keeps tuples, sets, bytes, dates and times, decimals, UUIDs,
    paths, enumerations, dataclasses, pydantic models with their free and private
    attributes, classes of events, and exceptions by their type and message.

    Args:
        allowed_types: The classes that a payload may name. Default: those that the workflow
            declares, and every class for data that is loaded.
    """

    def __init__(self, *, allowed_types: Iterable[type[Any]] | None = None) -> None:
        self._allowed = (
            None
            if allowed_types is None
            else {name_of(kind): kind for kind in allowed_types}
        )
        self._known: dict[str, type[Any]] = {}
        self._found: set[str] = set()

    def knowing(self, kinds: Iterable[type[Any]]) -> JsonSerializer:
        """The same, for payloads that may name these classes as well."""
        twin = type(self).__new__(type(self))
        vars(twin).update(vars(self))
        twin._found = set()
        twin._known = self._known | {name_of(kind): kind for kind in kinds}
        return twin

    def serialize(self, value: Any) -> str:
        """The value as JSON.

        Raises:
            ContextSerdeError: It holds something that has no form in JSON.
        """
        try:
            return json.dumps(self.to_plain(value), ensure_ascii=False)
        except (RecursionError, ValueError) as error:
            raise ContextSerdeError(
                f"a value cannot be written as JSON: {error}"
            ) from error

    def deserialize(self, value: str) -> Any:
        """The value.

        Raises:
            ContextSerdeError: It is no payload, or names a class that is not accepted.
        """
        try:
            plain = json.loads(value)
        except ValueError as error:
            raise ContextSerdeError(f"a payload is no JSON: {error}") from error
        return self.from_plain(plain)

    # ------------------------------------------------------------------ writing

    def to_plain(self, value: Any) -> Any:
        """The value as what ``json`` can write."""
        kind: type[Any] = class_of(value)
        if kind in PLAIN:
            return value
        if kind is list:
            return [self.to_plain(item) for item in value]
        if kind is dict:
            return self._plain_dict(value)
        if kind in _ATOMS:
            read = value.isoformat() if hasattr(value, "isoformat") else str(value)
            return {KIND: kind.__name__, "v": read}
        return self._plain_object(value)

    def _plain_dict(self, value: Mapping[Any, Any]) -> Any:
        if all(type(key) is str for key in value) and KIND not in value:
            return {key: self.to_plain(held) for key, held in value.items()}
        pairs = [[self.to_plain(key), self.to_plain(held)] for key, held in value.items()]
        return {KIND: "dict", "v": pairs}

    def _plain_object(self, value: Any) -> Any:
        kind = class_of(value)
        match value:
            case Flag():  # a combination may have no name
                return {KIND: "flag", "t": self._named(kind), "v": value.value}
            case Enum():
                return {KIND: "enum", "t": self._named(kind), "v": value.name}
            case BaseModel():
                return {
                    KIND: "model",
                    **self._plain_class(kind),
                    **self._plain_model(value),
                }
            case bytes() | bytearray() if kind in (bytes, bytearray):
                return {KIND: kind.__name__, "v": base64.b64encode(value).decode()}
            case tuple() | set() | frozenset() if kind.__name__ in _COLLECTIONS:
                items = list(cast("Iterable[Any]", value))
                return {KIND: kind.__name__, "v": [self.to_plain(item) for item in items]}
            case timedelta():
                return {
                    KIND: "timedelta",
                    "v": [value.days, value.seconds, value.microseconds],
                }
            case Path():
                return {KIND: "path", "v": str(value)}
            case UnreconstructedException(original_type=str(name)):
                return {KIND: "error", "t": name, "v": str(value)}
            case BaseException():
                return {KIND: "error", "t": name_of(kind), **_plain_error(value)}
            case type() if issubclass(value, BaseModel):
                return {KIND: "class", **self._plain_class(value)}
            case _ if is_dataclass(value):
                held = {
                    f.name: self.to_plain(getattr(value, f.name)) for f in fields(value)
                }
                return {KIND: "dataclass", "t": self._named(kind), "v": held}
            case _:
                return self.other_to_plain(value)

    def _plain_class(self, kind: type[BaseModel]) -> dict[str, Any]:
        generic = kind.__pydantic_generic_metadata__
        origin, args = generic["origin"], generic["args"]
        if origin is None:
            return {"t": self._named(kind)}
        names = [name_of(arg) if isinstance(arg, type) else "" for arg in args]
        if not all(name in _PLAIN_NAMES or self._is_found(name) for name in names):
            raise ContextSerdeError(
                f"a {name_of(kind)} cannot be written: give it a name of its own, with "
                f"`class Name({kind.__name__})`"
            )
        return {"t": self._named(origin), "g": names}

    def _named(self, kind: type[Any]) -> str:
        """The name of a class, which must be found by it again."""
        name = name_of(kind)
        if not self._is_found(name):
            raise ContextSerdeError(
                f"a {name} cannot be written, since it could not be found again by this "
                "name: define the class at the top of a module, or let an event of the "
                "workflow declare it"
            )
        return name

    def _is_found(self, name: str) -> bool:
        if name not in self._found:
            known = self._known.get(name) or (self._allowed or {}).get(name)
            if known is None and _loaded(name) is None:
                return False
            self._found.add(name)
        return True

    def _plain_model(self, model: BaseModel) -> dict[str, Any]:
        shown = {**vars(model), **(model.__pydantic_extra__ or {})}
        try:
            held = {name: self.to_plain(value) for name, value in shown.items()}
        except ContextSerdeError:
            if not _serializes_itself(model):
                raise
            # It says itself how its fields are written, and reads them back.
            held = {n: self.to_plain(v) for n, v in model.model_dump(mode="json").items()}
        private = model.__pydantic_private__ or {}
        plain: dict[str, Any] = {"v": held}
        if private:
            plain["p"] = {name: self.to_plain(v) for name, v in private.items()}
        return plain

    def other_to_plain(self, value: Any) -> Any:
        """The form of a value that JSON has none for."""
        raise ContextSerdeError(
            f"a {name_of(class_of(value))} cannot be written as JSON: keep plain data in "
            "state and events, or use PickleSerializer"
        )

    # ------------------------------------------------------------------ reading

    def from_plain(self, plain: Any) -> Any:
        """The value that :meth:`to_plain` was given."""
        if isinstance(plain, list):
            items: list[Any] = cast("Any", plain)
            return [self.from_plain(item) for item in items]
        if not isinstance(plain, dict):
            return plain
        held: dict[str, Any] = cast("Any", plain)
        if KIND not in held:
            return {key: self.from_plain(value) for key, value in held.items()}
        try:
            return self._read(held)
        except ContextSerdeError:
            raise
        except Exception as error:
            raise ContextSerdeError(
                f"a payload holds a damaged {held.get('t', held[KIND])!r}: {error}"
            ) from error

    def _read(self, held: dict[str, Any]) -> Any:
        kind: str = held[KIND]
        value: Any = held.get("v")
        if kind in _ATOMS_BY_NAME:
            return _ATOMS_BY_NAME[kind](value)
        if kind in _COLLECTIONS:
            made: Any = _COLLECTIONS[kind]
            return made([self.from_plain(item) for item in value])
        match kind:
            case "model":
                return self._read_model(self._class_of(held), held)
            case "dict":
                pairs: list[Any] = value
                return {self.from_plain(key): self.from_plain(v) for key, v in pairs}
            case "enum":
                return self.resolve(held["t"], Enum).__members__[value]
            case "flag":
                return self.resolve(held["t"], Flag)(value)
            case "dataclass":
                return self._read_dataclass(self.resolve(held["t"]), value)
            case "class":
                return self._class_of(held)
            case "error":
                return self._read_error(held)
            case _:
                return self.other_from_plain(kind, value)

    def other_from_plain(self, kind: str, value: Any) -> Any:
        """The value of a form that is not JSON's."""
        if kind == "pickle":
            raise ContextSerdeError(
                "a payload holds a pickle, which can run any code when it is read: if you "
                "wrote it yourself, read it with PickleSerializer"
            )
        raise ContextSerdeError(
            f"a payload holds a {kind!r}, which is not known here: it was written by a "
            "newer version, or by something else"
        )

    def _class_of(self, held: dict[str, Any]) -> type[Any]:
        kind: Any = self.resolve(held["t"], BaseModel)
        if "g" not in held:
            return cast("type[Any]", kind)
        names: list[str] = held["g"]
        args = [_PLAIN_NAMES.get(name) or self.resolve(name) for name in names]
        return cast("type[Any]", kind[tuple(args)])

    def _read_model(self, kind: type[Any], held: dict[str, Any]) -> Any:
        values = {name: self.from_plain(v) for name, v in held["v"].items()}
        private = {name: self.from_plain(v) for name, v in held.get("p", {}).items()}
        model: Any
        if issubclass(kind, RootModel):
            model = cast("Any", kind).model_validate(values["root"])
        else:
            model = kind.model_validate(values, by_alias=False, by_name=True)
            _undo_changes(model, values)
        for name, value in private.items():
            if name not in kind.__private_attributes__:
                raise ContextSerdeError(
                    f"a payload holds a {held['t']} with {name!r}, which it has not"
                )
            setattr(model, name, value)
        return model

    def _read_dataclass(self, kind: type[Any], held: dict[str, Any]) -> Any:
        if not is_dataclass(kind):
            raise _refused(name_of(kind))
        # As it was, without its __init__, which may need what is not kept.
        value = object.__new__(kind)
        for f in fields(kind):
            object.__setattr__(value, f.name, self.from_plain(held[f.name]))
        return value

    def _read_error(self, held: dict[str, Any]) -> BaseException:
        name, message = held["t"], str(held["v"])
        try:
            error = self.resolve(name, Exception)(*held.get("a", [message]))
        except Exception:
            return UnreconstructedException(message, original_type=name)
        return cast("BaseException", error)

    def resolve(self, name: str, base: type[Any] | None = None) -> type[Any]:
        """The class of this name, if a payload may name it.

        Raises:
            ContextSerdeError: It may not, is not loaded, or is no subclass of ``base``.
        """
        found = self._known.get(name)
        if found is None and self._allowed is not None:
            found = self._allowed.get(name)
            if found is None and not name.startswith("anabranch.workflow.events."):
                raise _refused(name)
        if found is None:
            found = _loaded(name)
        if found is None or (base is not None and not issubclass(found, base)):
            raise _refused(name)
        return found


class PickleSerializer(JsonSerializer):
    """Values as JSON, and as pickles what has no form in JSON.

    Reading a pickle can run any code: use it for payloads that you wrote yourself and that
    nobody could change.

    Args:
        allowed_types: The classes that a payload may name, in its pickles too. Default: any
            in pickles, else as :class:`JsonSerializer`.
    """

    def other_to_plain(self, value: Any) -> Any:
        try:
            pickled = pickle.dumps(value)
        except Exception as error:
            raise ContextSerdeError(
                f"a {name_of(class_of(value))} cannot be pickled ({error}): keep it out of "
                "state and events; a resource is made anew in each process"
            ) from error
        return {KIND: "pickle", "v": base64.b64encode(pickled).decode()}

    def other_from_plain(self, kind: str, value: Any) -> Any:
        if kind != "pickle":
            return super().other_from_plain(kind, value)
        try:
            pickled = base64.b64decode(value, validate=True)
        except (binascii.Error, TypeError) as error:
            raise ContextSerdeError(f"a payload holds a damaged pickle: {error}") from error
        return _Unpickler(io.BytesIO(pickled), self._allowed, self._known).load()


JsonPickleSerializer = PickleSerializer


class _Unpickler(pickle.Unpickler):
    def __init__(
        self,
        file: io.BytesIO,
        allowed: Mapping[str, type[Any]] | None,
        known: Mapping[str, type[Any]],
    ) -> None:
        super().__init__(file)
        self._accepted = None if allowed is None else {**allowed, **known}

    def find_class(self, module: str, name: str) -> Any:
        if self._accepted is None:
            return super().find_class(module, name)
        found = self._accepted.get(f"{module}.{name}")
        if found is None:
            raise _refused(f"{module}.{name}")
        return found


def reachable(kinds: Iterable[type[Any]]) -> tuple[type[Any], ...]:
    """These classes, and those for data that their fields are annotated with, all down."""
    found: dict[type[Any], None] = {}
    left: list[Any] = list(kinds)
    while left:
        annotation = left.pop()
        left += get_args(annotation)
        if not isinstance(annotation, type):
            continue
        kind: type[Any] = annotation
        if kind in found:
            continue
        if issubclass(kind, BaseModel):
            left += [field.annotation for field in kind.model_fields.values()]
        elif is_dataclass(kind):
            left += [f.type for f in fields(kind)]
        elif not issubclass(kind, Enum):
            continue
        found[kind] = None
    return tuple(found)


def _undo_changes(model: BaseModel, values: Mapping[str, Any]) -> None:
    """Take what was written, also where a validator changes what it is given."""
    held: dict[str, Any] = vars(model)
    for name in held.keys() & values.keys():
        if type(held[name]) is type(values[name]):
            held[name] = values[name]


def _plain_error(error: BaseException) -> dict[str, Any]:
    try:
        message = str(error)
    except Exception:
        message = f"{type(error).__name__}, which cannot be printed"
    if error.args and all(type(arg) in PLAIN for arg in error.args):
        return {"v": message, "a": list(error.args)}
    return {"v": message}


def _serializes_itself(model: BaseModel) -> bool:
    decorators = type(model).__pydantic_decorators__
    return bool(decorators.field_serializers or decorators.model_serializers)


def name_of(kind: type[Any]) -> str:
    """A class's name with its module.

    A class of the program that runs has the name by which others would import it: what is
    written down is read by a worker that has another main program.
    """
    module = kind.__module__
    if module in _MAIN:
        module = _main_name()
    return f"{module}.{kind.__qualname__}"


@cache
def _main_name() -> str:
    main = sys.modules.get("__main__")
    spec = getattr(main, "__spec__", None)
    if spec is not None:  # python -m package.module
        return str(spec.name)
    stem = Path(getattr(main, "__file__", None) or "").stem
    return stem if stem.isidentifier() else "__main__"


def _loaded(name: str) -> type[Any] | None:
    """A class for data that is loaded under this name."""
    module, _, rest = name.rpartition(".")
    path = [rest]
    while module and module not in sys.modules and module != _main_name():
        module, _, part = module.rpartition(".")
        path.insert(0, part)
    found: Any = sys.modules.get("__main__" if module == _main_name() else module)
    for part in path:
        # Not by attribute: a module that is to be loaded at its first use would load.
        if isinstance(found, ModuleType):
            held: Mapping[str, Any] = object.__getattribute__(found, "__dict__")
        elif isinstance(found, type):
            held = type.__getattribute__(found, "__dict__")
        else:
            return None
        found = held.get(part)
    if not isinstance(found, type):
        return None
    kind: type[Any] = found
    is_data = issubclass(kind, BaseModel | Enum | Exception) or is_dataclass(kind)
    return kind if is_data and name_of(kind) == name else None


def _refused(name: str) -> ContextSerdeError:
    return ContextSerdeError(
        f"a payload names {name!r}, which is not accepted: if it is yours, import its "
        "module first, or pass JsonSerializer(allowed_types=[...]) with it"
    )
