"""Source code, kept as it was written, a document for each outermost definition.

Definitions are found by the look of their first line, in every language alike. A parser
for each would know better, and refuse what is half written or of another version; a break
too many or too few only moves the end of a passage.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise
from pathlib import Path, PurePosixPath

from anabranch.rag.readers import media, text
from anabranch.rag.readers._sections import paths
from anabranch.rag.types import Content, Document, Metadata

GENERATED = 400
"""Characters of a mean line above which nobody has written it by hand."""

_MODIFIERS = (
    "abstract async declare default export extern final inline internal local open "
    "override partial private protected public sealed static suspend unsafe virtual"
)
_KEYWORDS = {
    "python": "def class",
    "c": "struct enum union",
    "c++": "struct enum union class namespace",
    "c#": "class struct interface enum record namespace",
    "go": "func type",
    "java": "class interface enum record @interface",
    "javascript": "function function* class",
    "kotlin": "fun class interface object",
    "lua": "function",
    "perl": "sub package",
    "php": "function class interface trait enum",
    "ruby": "def class module",
    "rust": "fn struct enum trait impl mod macro_rules!",
    "scala": "def class object trait",
    "shell": "function",
    "swift": "func class struct enum protocol extension",
    "typescript": "function function* class interface type enum namespace",
}
_FUNCTIONS = frozenset("def fn fun func function function* sub".split())
# A line such as `static int find(const char *name)`, and its name; not a statement.
_TYPED = (
    r"^(?P<indent>[ \t]*)(?!(?:return|else|if|for|while|switch|catch|throw|new|case|do|goto"
    r"|delete|await|using|typedef)\b)(?:[\w:<>,*&\[\]~.?]+[ \t]+){1,6}[*&]*"
    r"(?P<name>[\w:~]+)[ \t]*\([^;{}\n]*(?:\)[^;{}\n=]*\{?|,|\()[ \t]*$"
)
_METHOD = (
    r"^(?P<indent>[ \t]+)(?:(?:async|static|get|set|public|private|protected)[ \t]+)*"
    r"(?!(?:if|for|while|switch|catch|function|return|with)\b)"
    r"(?P<name>[\w$#]+)\([^;{}\n]*\)[^;{}\n=]*\{[ \t]*$"
)
_ARROW = (
    r"^(?P<indent>[ \t]*)(?:export[ \t]+)?(?:const|let|var)[ \t]+(?P<name>[\w$]+)"
    r"[^=\n]*=[ \t]*(?:async[ \t]*)?(?:function\b|\([^\n]*=>|[\w$]+[ \t]*=>)"
)
_OTHERS = {
    "c": (_TYPED,),
    "c++": (_TYPED,),
    "c#": (_TYPED,),
    "java": (_TYPED,),
    "javascript": (_METHOD, _ARROW),
    "typescript": (_METHOD, _ARROW),
    "r": (r"^(?P<indent>)(?P<name>[\w.]+)[ \t]*(?:<-|=)[ \t]*function\b",),
    "shell": (r"^(?P<indent>[ \t]*)(?P<name>[\w.-]+)[ \t]*\(\)",),
    "sql": (
        (
            r"^(?P<indent>[ \t]*)(?i:create)[ \t]+(?:\w+[ \t]+){0,3}?"
            r"(?P<kind>(?i:table|view|index|function|procedure|trigger|type))[ \t]+"
            r"(?i:if[ \t]+not[ \t]+exists[ \t]+)?"
            r"(?P<name>[\w.\"`\[\]]+)"
        ),
    ),
}
# Source: PEP 263.
_CODING = re.compile(rb"(?:[^\n]*\n)?[ \t\f]*#[^\n]*?coding[:=][ \t]*([-\w.]+)")
# What may stand above a definition and belongs to it: comments, decorators, attributes.
_ABOVE = ("@", "//", "/*", "*", "--", "#[", "[")
_HASHED = frozenset("perl python r ruby shell".split())


@dataclass(frozen=True, slots=True)
class Definition:
    """A definition, by the look of its first line.

    Attributes:
        start: Where it begins with what is above it, in characters.
        offset: Where its first line begins.
        indent: Of its first line.
        kind: The word that makes it, such as ``class``; ``function`` for all of those.
    """

    start: int
    offset: int
    indent: int
    kind: str
    name: str


def documents(content: Content) -> Iterator[Document]:
    """A document for each outermost definition, ``uri#name``, and for what is before.

    A definition has the comments above it, and goes on to the next one. Within it there
    is a break before each definition, and each section knows the names that lead to it,
    by their indentation. Metadata: ``title`` is the name, in Python dotted from the module
    on; ``kind``; ``line``; ``language``. What programs have written, such as scripts in
    one line, gives no document. A file too large to hold is read as plain text.

    Raises:
        SourceError: It is not text.
    """
    if isinstance(content.data, Path):
        yield from text.documents(content)
        return
    name = PurePosixPath(content.uri).name
    language = "python" if content.media_type == media.PYTHON else media.language(name)
    source = text.read(_declared(content) if language == "python" else content)
    if not source.strip() or len(source) > GENERATED * (source.count("\n") + 1):
        return
    found = definitions(source, language)
    sections = paths((each.indent, each.name) for each in found)
    outer = [index for index, path in enumerate(sections) if len(path) == 1]
    metadata = {**content.metadata, **({"language": language} if language else {})}
    module = _module(content) if language == "python" else name
    head = source[: found[0].start] if found else source
    if head.strip():
        about: Metadata = {"title": module, "kind": "module", "line": 1}
        yield Document(content.uri, head, {**metadata, **about})
    seen: set[str] = set()
    line, counted = 1, 0
    for first, last in pairwise([*outer, len(found)]):
        own = found[first]
        line, counted = line + source.count("\n", counted, own.offset), own.offset
        part = own.name if own.name not in seen else f"{own.name}@{line}"
        seen.add(own.name)
        title = f"{module}.{own.name}" if language == "python" else own.name
        end = found[last].start if last < len(found) else len(source)
        yield Document(
            f"{content.uri}#{part}",
            source[own.start : end],
            metadata | {"title": title, "kind": own.kind, "line": line},
            [each.start - own.start for each in found[first:last]],
            own.start,
            sections[first:last],
        )


def _module(content: Content) -> str:
    path = PurePosixPath(content.uri)
    return path.parent.name if path.stem == "__init__" else path.stem


def _declared(content: Content) -> Content:
    """The content with the encoding that Python's source declares itself to be in."""
    match = _CODING.match(text.held(content))
    return (
        replace(content, charset=match[1].decode("ascii", "ignore")) if match else content
    )


def definitions(source: str, language: str | None) -> list[Definition]:
    """The definitions, in the source's order."""
    matches: dict[int, re.Match[str]] = {}
    for pattern in _patterns(language or ""):
        for match in pattern.finditer(source):
            matches.setdefault(match.start(), match)
    above = (*_ABOVE, "#") if language in _HASHED else _ABOVE
    first = 0
    found: list[Definition] = []
    for offset, match in sorted(matches.items()):
        start = _with_above(source, offset, first, above)
        kind = match.groupdict().get("kind") or "function"
        kind = "function" if kind.lower() in _FUNCTIONS else kind.lower()
        indent = len(match["indent"].expandtabs(4))
        found.append(Definition(start, offset, indent, kind, match["name"]))
        first = offset + 1
    return found


@cache
def _patterns(language: str) -> list[re.Pattern[str]]:
    patterns = list(_OTHERS.get(language, ()))
    if keywords := _KEYWORDS.get(language):
        modifiers = "|".join(_MODIFIERS.split())
        named = "|".join(map(re.escape, keywords.split()))
        # Behind `func` a receiver, behind `impl` and `fun` parameters of the type.
        patterns.append(
            rf"^(?P<indent>[ \t]*)(?:(?:{modifiers}|pub(?:\([^)\n]*\))?)[ \t]+)*"
            rf"(?P<kind>{named})(?:[ \t]*<[^>\n]*>|[ \t]*\([^)\n]*\)(?=[ \t]+\w))?[ \t]+"
            r"\*?(?P<name>[\w$~]+(?:[.:]{1,2}[\w$~]+)*)"
        )
    return [re.compile(pattern, re.MULTILINE) for pattern in patterns]


def _with_above(source: str, offset: int, first: int, above: tuple[str, ...]) -> int:
    """Where the lines begin that stand directly above a line and belong to it."""
    while offset > first:
        start = source.rfind("\n", 0, offset - 1) + 1
        if start < first or not source[start:offset].lstrip().startswith(above):
            break
        offset = start
    return offset
