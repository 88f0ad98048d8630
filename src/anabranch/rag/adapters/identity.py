"""What an object of another library is, in a few characters: the same on every run.

An index must know when the model or the splitter behind an adapter is another one, and
neither library has a word for it. So its class and all settings of it that are plain
values are digested, those of parts within it too. Left out is what cannot decide a result
(how many at once, how long to wait) or must not: keys change, and are nobody's business.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import partial
from hashlib import blake2b
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any, Final, cast

# Parts of parts are looked at so deep.
_LEVELS: Final = 4

_SECRET: Final = re.compile(
    r"keys?(_id)?$|token$|secret|password|credential|auth(?!or)"
    r"|(^|default_|extra_|http_)headers$",
    re.IGNORECASE,
)
_IRRELEVANT: Final = re.compile(
    r"retr(y|ies)|time_?out|workers|parallel|progress|verbose|callback|cache|rate_?limit"
    r"|batch_size|client|session|executor|threads|(^|_)lock$|id_func|profile",
    re.IGNORECASE,
)


def class_name(value: object) -> str:
    """The full name of its class."""
    kind = type(value)
    return f"{kind.__module__}.{kind.__qualname__}"


def digest(value: object, *more: object) -> str:
    """Changes with the class, its plain settings, and ``more``: 32 hexadecimal digits."""
    facts = json.dumps([_facts(value, 0), *more], sort_keys=True, default=str)
    return blake2b(facts.encode("utf-8", "replace"), digest_size=16).hexdigest()


def _facts(value: object, level: int) -> Any:
    match value:
        case None | bool() | int() | float() | str():
            return value
        case FunctionType() | BuiltinFunctionType() | MethodType():
            return f"{value.__module__}.{value.__qualname__}"
        case partial(func=function, args=args, keywords=keywords):
            return [_facts(part, level + 1) for part in (function, args, keywords)]
        case type():
            return f"{value.__module__}.{value.__qualname__}"
        case Mapping() if level < _LEVELS:
            entries = cast("Mapping[object, object]", value)
            return {str(k): _facts(v, level + 1) for k, v in entries.items()}
        case list() | tuple() if level < _LEVELS:
            items = cast("Sequence[object]", value)
            return [_facts(item, level + 1) for item in items]
        case _ if level == 0 or (level < _LEVELS and hasattr(value, "model_fields")):
            # What is within may be a whole model; of parts only records are looked into.
            return [class_name(value), _settings(value, level)]
        case _:
            return class_name(value)


def _is_function(value: object) -> bool:
    return isinstance(value, FunctionType | BuiltinFunctionType | MethodType | partial)


def _settings(value: object, level: int) -> dict[str, Any]:
    settings = {**getattr(value, "__dict__", {})}
    # Of what pydantic keeps apart only functions: the rest is made on the way, or a cache.
    private: Mapping[str, object] = getattr(value, "__pydantic_private__", None) or {}
    settings |= {name: part for name, part in private.items() if _is_function(part)}
    return {
        name: _facts(setting, level + 1)
        for name, setting in settings.items()
        if not _SECRET.search(name) and not _IRRELEVANT.search(name)
    }
