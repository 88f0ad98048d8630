"""Texts and bytes for contained code: as JSON, in lines, normalized, hashed."""

from __future__ import annotations

# Values of any type are what this module is about.
# pyright: basic
import json
from collections.abc import Callable
from typing import Any, Final

from anabranch.sandbox.arithmetic import is_over
from anabranch.sandbox.light import light
from anabranch.sandbox.objects import MAX_ITEMS, Given, too_large

__all__ = ["of_hashlib", "of_json", "of_textwrap", "of_unicodedata"]

Value = Any


def of_json() -> dict[str, Value]:
    """What the view of ``json`` has in place of its own."""

    def dumps(value: Value, *, indent: Value = None, sort_keys: bool = False,
              ensure_ascii: bool = True, default: Value = None,
              separators: Value = None) -> str:  # fmt: skip
        for text in (indent, *(separators or ())):
            if is_over(text, 100) or (isinstance(text, str) and len(text) > 100):
                too_large("this indent or separator", 100, "characters")
        return json.dumps(
            light(value), indent=indent, sort_keys=sort_keys, ensure_ascii=ensure_ascii,
            default=None if default is None else lambda value: light(default(value)),
            separators=separators,
        )  # fmt: skip

    def loads(text: str) -> Value:
        return json.loads(text)

    return {"dumps": dumps, "loads": loads}


def of_hashlib() -> dict[str, Value]:
    """What the view of ``hashlib`` has in place of its own."""
    import hashlib

    def made(name: str) -> Callable[..., Value]:
        def digest(data: bytes = b"") -> Value:
            done = hashlib.new(name, data)
            return Given(name, {"digest": done.digest, "hexdigest": done.hexdigest,
                                "update": done.update})  # fmt: skip

        return digest

    return {name: made(name) for name in "blake2b md5 sha1 sha256 sha512 sha3_256".split()}


_INDENT: Final = 1_000


def of_textwrap() -> dict[str, Value]:
    """What the view of ``textwrap`` has in place of its own."""
    import textwrap

    def limited(name: str) -> Callable[..., Value]:
        function = getattr(textwrap, name)

        def called(text: str, *args: Value, **named: Value) -> Value:
            for value in (*args, *named.values()):
                if isinstance(value, str) and len(value) > _INDENT:
                    too_large(f"{name}()", _INDENT, "characters of indentation")
            if is_over(named.get("tabsize", 8), _INDENT):
                too_large(f"{name}()", _INDENT, "characters for a tab")
            return function(text, *args, **named)

        return called

    def indent(text: str, prefix: str, predicate: Value = None) -> str:
        if len(prefix) * (text.count("\n") + 1) > MAX_ITEMS:
            too_large("indent()", MAX_ITEMS, "characters")
        return textwrap.indent(text, prefix, predicate)

    return {
        "indent": indent,
        **{name: limited(name) for name in ("fill", "shorten", "wrap")},
    }


_MARKS: Final = 1_000


def of_unicodedata() -> dict[str, Value]:
    """What the view of ``unicodedata`` has in place of its own."""
    import unicodedata

    def normalize(form: Value, text: str) -> str:
        # Marks are put in order by moving each along: the square of how many there are.
        marks = 0
        for character in () if text.isascii() else text:
            marks = marks + 1 if unicodedata.combining(character) else 0
            if marks > _MARKS:
                too_large("normalize()", _MARKS, "marks on one letter")
        return unicodedata.normalize(form, text)

    return {"normalize": normalize}
