"""The part of Solr's query language that we write, read as Solr reads it.

Tokens and grammar are those of Solr's QueryParser.jj: what is not escaped has the meaning
that it has there, so that a value that is put into a query as it is breaks out of it here
as well. Left out are fuzzy terms, regular expressions and comments.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Doc = Mapping[str, Any]
Test = Callable[[Doc], bool]

ESCAPED = r"\\[\s\S]"
TERM_START = rf"(?:[^ \t\n\r\u3000+\-!():^\[\]\"{{}}~*?\\/]|{ESCAPED})"
TERM_CHAR = rf"(?:{TERM_START}|[-+/!])"
# The longest match wins, and of equals the first, as with JavaCC.
DEFAULT = {
    "SPACE": r"[ \t\n\r\u3000]+",
    "AND": r"AND|&&",
    "OR": r"OR|\|\|",
    "NOT": r"NOT|!",
    "PLUS": r"\+",
    "MINUS": r"-",
    "LPAREN": r"\(",
    "RPAREN": r"\)",
    "COLON": r":",
    "STAR": r"\*",
    "QUOTED": rf'"(?:[^"\\]|{ESCAPED})*"',
    "TERM": rf"{TERM_START}{TERM_CHAR}*",
    "PREFIXTERM": rf"{TERM_START}{TERM_CHAR}*\*",
    "WILDTERM": rf"(?:{TERM_START}|[*?])(?:{TERM_CHAR}|[*?])*",
    "RANGEIN_START": r"\[",
    "RANGEEX_START": r"\{(?!!)",
    "LPARAMS": r"\{!(?:'(?:[^'\\]|\\.)*'|[^}'])*\}[^) \t\n{^]*",
    "CARAT": r"\^=?-?\d+(?:\.\d+)?",
}
RANGE = {
    "SPACE": r"[ \t\n\r\u3000]+",
    "RANGE_TO": r"TO",
    "RANGEIN_END": r"\]",
    "RANGEEX_END": r"\}",
    "RANGE_QUOTED": r'"(?:[^"]|\\")+"',
    "RANGE_GOOP": r"[^ \]}]+",
}
_COMPILED = {
    state: {kind: re.compile(pattern) for kind, pattern in kinds.items()}
    for state, kinds in {"default": DEFAULT, "range": RANGE}.items()
}


class QueryError(Exception):
    """What Solr answers with 400."""


@dataclass(frozen=True)
class Token:
    kind: str
    image: str


def tokens(query: str) -> Iterator[Token]:
    place, state = 0, "default"
    while place < len(query):
        found = [
            (match.end(), -order, kind)
            for order, (kind, pattern) in enumerate(_COMPILED[state].items())
            if (match := pattern.match(query, place)) and match.end() > place
        ]
        if not found:
            raise QueryError(
                f"org.apache.solr.search.SyntaxError: Cannot parse '{query}': Lexical error "
                f"at line 1, column {place + 1}."
            )
        end, _, kind = max(found)
        if kind != "SPACE":
            yield Token(kind, query[place:end])
        place = end
        if kind in ("RANGEIN_START", "RANGEEX_START"):
            state = "range"
        elif kind in ("RANGEIN_END", "RANGEEX_END"):
            state = "default"
    yield Token("EOF", "")


def discard_escapes(text: str) -> str:
    """What Solr's discardEscapeChar makes of it."""
    units: list[int] = []
    place = 0
    while place < len(text):
        one = text[place]
        if one != "\\":
            units += _units(one)
            place += 1
            continue
        place += 1
        if place == len(text):
            raise QueryError("Term can not end with escape character.")
        if text[place] == "u":
            digits = text[place + 1 : place + 5]
            if not re.fullmatch(r"[0-9a-fA-F]{4}", digits):
                raise QueryError("Truncated or non-hex unicode escape sequence.")
            units.append(int(digits, 16))
            place += 5
        else:
            units += _units(text[place])
            place += 1
    return b"".join(unit.to_bytes(2, "big") for unit in units).decode(
        "utf-16-be", "replace"
    )


def _units(one: str) -> list[int]:
    data = one.encode("utf-16-be", "surrogatepass")
    return [int.from_bytes(data[at : at + 2], "big") for at in range(0, len(data), 2)]


class Fields:
    """What the parser asks of whoever knows the schema."""

    default_field = "_text_"

    def term(self, field: str, text: str, *, is_quoted: bool) -> Test:
        raise NotImplementedError

    def prefix(self, field: str, text: str) -> Test:
        raise NotImplementedError

    def wildcard(self, field: str, pattern: str) -> Test:
        raise NotImplementedError

    def between(
        self, field: str, low: str | None, high: str | None, *, closed: tuple[bool, bool]
    ) -> Test:
        raise NotImplementedError

    def nested(self, query: str) -> Test:
        raise NotImplementedError


class Parser:
    def __init__(self, query: str, fields: Fields) -> None:
        self.query = query
        self.fields = fields
        self.tokens = list(tokens(query))
        self.place = 0

    @property
    def next(self) -> Token:
        return self.tokens[self.place]

    def take(self, *kinds: str) -> Token:
        token = self.next
        if kinds and token.kind not in kinds:
            raise QueryError(
                f"org.apache.solr.search.SyntaxError: Cannot parse '{self.query}': "
                f'Encountered " <{token.kind}> "{token.image} "" at line 1. Was expecting '
                f"one of: {', '.join(kinds)}"
            )
        self.place += 1
        return token

    def parse(self) -> Test:
        if self.next.kind == "EOF":
            return lambda doc: False
        clauses = self.clauses(self.fields.default_field)
        self.take("EOF")
        # Solr makes a purely negative query mean something at the top only.
        if clauses and all(occur == "MUST_NOT" for occur, _ in clauses):
            clauses.append(("MUST", lambda doc: True))
        return boolean(clauses)

    def clauses(self, field: str) -> list[tuple[str, Test]]:
        clauses: list[tuple[str, Test]] = []
        while True:
            conjunction = self.take().kind if self.next.kind in ("AND", "OR") else None
            if conjunction and not clauses:
                raise QueryError(f"Cannot parse '{self.query}': Encountered AND or OR")
            modifier = (
                self.take().kind if self.next.kind in ("PLUS", "MINUS", "NOT") else None
            )
            test = self.clause(field)
            if conjunction == "AND" and clauses[-1][0] == "SHOULD":
                clauses[-1] = ("MUST", clauses[-1][1])
            if modifier in ("MINUS", "NOT"):
                occur = "MUST_NOT"
            elif modifier == "PLUS" or conjunction == "AND":
                occur = "MUST"
            else:
                occur = "SHOULD"
            clauses.append((occur, test))
            if self.next.kind in ("EOF", "RPAREN"):
                return clauses

    def clause(self, field: str) -> Test:
        if self.tokens[self.place + 1 :] and self.tokens[self.place + 1].kind == "COLON":
            name = self.take("TERM", "STAR")
            self.take("COLON")
            field = "*" if name.kind == "STAR" else discard_escapes(name.image)
        if self.next.kind == "LPAREN":
            self.take()
            test = boolean(self.clauses(field))
            self.take("RPAREN")
        else:
            test = self.term(field)
        if self.next.kind == "CARAT":
            self.take()
        return test

    def term(self, field: str) -> Test:
        token = self.take(
            "TERM",
            "QUOTED",
            "STAR",
            "PREFIXTERM",
            "WILDTERM",
            "RANGEIN_START",
            "RANGEEX_START",
            "LPARAMS",
        )
        match token.kind:
            case "TERM":
                return self.fields.term(
                    field, discard_escapes(token.image), is_quoted=False
                )
            case "QUOTED":
                text = discard_escapes(token.image[1:-1])
                return self.fields.term(field, text, is_quoted=True)
            case "STAR":
                return (lambda doc: True) if field == "*" else self.fields.prefix(field, "")
            case "PREFIXTERM":
                return self.fields.prefix(field, discard_escapes(token.image[:-1]))
            case "WILDTERM":
                return self.fields.wildcard(field, token.image)
            case "LPARAMS":
                return self.fields.nested(token.image)
        return self.range(field, is_closed=token.kind == "RANGEIN_START")

    def range(self, field: str, *, is_closed: bool) -> Test:
        ends = ("RANGE_GOOP", "RANGE_QUOTED", "RANGE_TO")
        low = self.take(*ends)
        self.take("RANGE_TO")
        high = self.take(*ends)
        closing = self.take("RANGEIN_END", "RANGEEX_END").kind == "RANGEIN_END"
        return self.fields.between(
            field, range_end(low), range_end(high), closed=(is_closed, closing)
        )


def range_end(token: Token) -> str | None:
    if token.kind == "RANGE_QUOTED":
        return discard_escapes(token.image[1:-1])
    return None if token.image == "*" else discard_escapes(token.image)


def boolean(clauses: list[tuple[str, Test]]) -> Test:
    """Lucene's BooleanQuery: nothing is found where all is negative."""
    must = [test for occur, test in clauses if occur == "MUST"]
    never = [test for occur, test in clauses if occur == "MUST_NOT"]
    should = [test for occur, test in clauses if occur == "SHOULD"]

    def holds(doc: Doc) -> bool:
        if any(test(doc) for test in never) or not all(test(doc) for test in must):
            return False
        return bool(must) or any(test(doc) for test in should)

    return holds


LOCAL = re.compile(
    r"\s*(?:(?P<name>[A-Za-z_][\w.]*)=)?"
    r"(?:\$(?P<ref>[\w.]+)|'(?P<single>(?:[^'\\]|\\.)*)'|\"(?P<double>(?:[^\"\\]|\\.)*)\""
    r"|(?P<bare>[^ }\"'$][^ }]*))"
)


def local_params(
    query: str, params: Mapping[str, str]
) -> tuple[dict[str, str], str] | None:
    """The local parameters in front of a query, and what comes after them."""
    if not query.startswith("{!"):
        return None
    found: dict[str, str] = {}
    place = 2
    while not re.compile(r"\s*\}").match(query, place):
        match = LOCAL.match(query, place)
        if match is None:
            raise QueryError(f"Cannot parse local params '{query}'")
        if match["ref"] is not None:
            value = params.get(match["ref"], "")
        elif match["bare"] is not None:
            value = match["bare"]
        else:
            value = re.sub(r"\\(.)", r"\1", match["single"] or match["double"] or "")
        found[match["name"] or "type"] = value
        place = match.end()
    rest = query[query.index("}", place) + 1 :]
    found.setdefault("v", rest)
    return found, found["v"]
