"""A Solr on this machine, as faithful over HTTP as our tests need.

It is written from Solr's reference guide and its grammar: what is uncommitted cannot be
found, ids are unique, versions conflict, fields have types, macros are expanded in a
request's text unless it says otherwise, and errors have Solr's bodies and words. Vectors
are compared exactly, where Solr walks a graph; full text is BM25 over lower-case words.
Left out are facets, highlighting, sorting by fields, shards and much else.

What it cannot show is that Solr itself agrees: for that the same tests run against a real
Solr where ``ANABRANCH_SOLR_URL`` names a collection that they may empty.
"""

from __future__ import annotations

import asyncio
import base64
import copy
import json
import math
import re
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from aiohttp import web

from tests.rag.solr.lucene import Doc, Fields, Parser, QueryError, Test, local_params

WORD = re.compile(r"\w+")
MOST_TERM_BYTES = 32_766
MOST_CLAUSES = 1024

TYPES = {
    "string": "solr.StrField",
    "strings": "solr.StrField",
    "plong": "solr.LongPointField",
    "plongs": "solr.LongPointField",
    "pint": "solr.IntPointField",
    "pdouble": "solr.DoublePointField",
    "pdoubles": "solr.DoublePointField",
    "boolean": "solr.BoolField",
    "booleans": "solr.BoolField",
    "text_general": "solr.TextField",
}
# Those of Solr's _default configuration.
DYNAMIC = {
    "*_s": "string",
    "*_ss": "strings",
    "*_l": "plong",
    "*_ls": "plongs",
    "*_i": "pint",
    "*_d": "pdouble",
    "*_ds": "pdoubles",
    "*_b": "boolean",
    "*_bs": "booleans",
    "*_t": "text_general",
}


class Refused(Exception):
    """An error that Solr answers."""

    def __init__(self, code: int, msg: str, kind: str = "SolrException") -> None:
        super().__init__(msg)
        self.code, self.msg, self.kind = code, msg, kind
        self.details: list[Any] | None = None

    def body(self) -> dict[str, Any]:
        kind = f"org.apache.solr.common.{self.kind}"
        error: dict[str, Any] = {
            "metadata": ["error-class", kind, "root-error-class", kind],
            "msg": self.msg,
            "code": self.code,
        }
        if self.details is not None:
            error["details"] = self.details
        return {"responseHeader": {"status": self.code, "QTime": 1}, "error": error}


@dataclass
class Planned:
    """What is answered instead, once: a refusal, a cut connection, or silence."""

    status: int = 503
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str = "<html><title>Error 503 Service Unavailable</title></html>"
    is_cut: bool = False
    is_after: bool = False  # the request is carried out, and then the connection is cut
    hangs: bool = False


class Double(Fields):
    def __init__(self) -> None:
        self.url = ""
        self.auth: tuple[str, str] | None = None
        self.types: dict[str, dict[str, Any]] = {
            name: {"name": name, "class": kind} for name, kind in TYPES.items()
        }
        self.fields: dict[str, dict[str, Any]] = {
            "id": {"name": "id", "type": "string", "required": True},
            "_version_": {"name": "_version_", "type": "plong"},
            "_text_": {"name": "_text_", "type": "text_general"},
        }
        self.dynamic = {
            name: {"name": name, "type": kind} for name, kind in DYNAMIC.items()
        }
        self.unique_key = "id"
        self.pending: dict[str, dict[str, Any]] = {}
        self.visible: dict[str, dict[str, Any]] = {}
        self.clock = 1_700_000_000_000_000_000
        self.now_s = 0.0
        self.commit_at: float | None = None
        self.commits: list[str] = []
        self.planned: list[Planned] = []
        self.requests: list[tuple[str, str]] = []
        self.hanging = asyncio.Event()
        self.was_left = asyncio.Event()
        self.params: dict[str, Any] = {}

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        app = web.Application(client_max_size=1 << 28)
        app.router.add_route("*", "/solr/passages/{path:.*}", self.handle)
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            port = runner.addresses[0][1]
            self.url = f"http://127.0.0.1:{port}/solr/passages"
            yield self.url
        finally:
            await runner.cleanup()

    def pass_time(self, seconds: float) -> None:
        self.now_s += seconds
        if self.commit_at is not None and self.commit_at <= self.now_s:
            self.commit("soft")

    def commit(self, how: str) -> None:
        self.commits.append(how)
        self.commit_at = None
        self.visible = copy.deepcopy(self.pending)

    # -- HTTP

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = (await request.read()).decode()
        path = request.match_info["path"]
        self.requests.append((path, body))
        plan = self.planned.pop(0) if self.planned else None
        if plan is not None and not plan.is_after:
            return await self.misbehave(request, plan)
        if not self.is_allowed(request):
            return web.Response(
                status=401,
                text="<html><title>Error 401 require authentication</title></html>",
                content_type="text/html",
                headers={"WWW-Authenticate": 'Basic realm="solr"'},
            )
        try:
            answer = await self.answer(request, path, body)
        except Refused as refused:
            return web.json_response(refused.body(), status=refused.code)
        except QueryError as error:
            return web.json_response(Refused(400, str(error)).body(), status=400)
        if plan is not None:
            return await self.misbehave(request, plan)
        return web.json_response(answer)

    async def misbehave(self, request: web.Request, plan: Planned) -> web.StreamResponse:
        if plan.hangs:
            self.hanging.set()
            try:
                await asyncio.Event().wait()
            finally:
                self.was_left.set()
        if plan.is_cut or plan.is_after:
            assert request.transport is not None
            request.transport.abort()
        return web.Response(
            status=plan.status,
            text=plan.body,
            headers=plan.headers,
            content_type="text/html" if plan.body.startswith("<") else "application/json",
        )

    def is_allowed(self, request: web.Request) -> bool:
        if self.auth is None:
            return True
        said = base64.b64encode(":".join(self.auth).encode()).decode()
        return request.headers.get("Authorization") == f"Basic {said}"

    async def answer(self, request: web.Request, path: str, body: str) -> dict[str, Any]:
        match path:
            case "select":
                params = self.search_params(dict(request.query), body)
                return self.select(params)
            case "get":
                form = await request.post()
                return self.get([str(one) for one in form.getall("id", [])], form)
            case "update":
                self.update(body, request.query)
                return {"responseHeader": {"status": 0, "QTime": 1}}
            case "schema" if request.method == "GET":
                return {"responseHeader": {"status": 0}, "schema": self.schema()}
            case "schema":
                self.change_schema(pairs_of(body))
                return {"responseHeader": {"status": 0, "QTime": 1}}
            case "admin/ping":
                return {"responseHeader": {"status": 0}, "status": "OK"}
        raise Refused(404, f"Cannot find handler: /{path}")

    # -- the schema

    def schema(self) -> dict[str, Any]:
        return {
            "name": "default-config",
            "uniqueKey": self.unique_key,
            "fieldTypes": list(self.types.values()),
            "fields": list(self.fields.values()),
            "dynamicFields": list(self.dynamic.values()),
        }

    def change_schema(self, commands: Sequence[tuple[str, Any]]) -> None:
        places = {
            "add-field": ("Field", self.fields),
            "add-field-type": ("Field type", self.types),
            "add-dynamic-field": ("Dynamic field", self.dynamic),
        }
        details = []
        before = copy.deepcopy((self.types, self.fields, self.dynamic))
        for command, body in commands:
            kind, place = places[command]
            if body["name"] in place:
                said = f"{kind} '{body['name']}' already exists.\n"
                details.append({command: body, "errorMessages": [said]})
            elif command != "add-field-type" and body["type"] not in self.types:
                said = f"{kind} '{body['name']}': Field type '{body['type']}' not found.\n"
                details.append({command: body, "errorMessages": [said]})
            else:
                place[body["name"]] = body
        if details:
            self.types, self.fields, self.dynamic = before
            refused = Refused(
                400, "error processing commands", "api.ApiBag$ExceptionWithErrObject"
            )
            refused.details = details
            raise refused

    def type_of(self, name: str) -> dict[str, Any]:
        found = self.fields.get(name)
        if found is None:
            some = [
                one for pattern, one in self.dynamic.items() if name.endswith(pattern[1:])
            ]
            if not some:
                raise Refused(400, f"undefined field {name}")
            found = max(some, key=lambda one: len(one["name"]))
        return {**self.types[found["type"]], **found}

    def class_of(self, name: str) -> str:
        kind: str = self.type_of(name)["class"]
        return kind

    # -- writing

    def update(self, body: str, query: Mapping[str, str]) -> None:
        if body.lstrip().startswith("["):
            within = query.get("commitWithin")
            for doc in json.loads(body):
                self.add(doc)
            self.soon(within)
            return
        for command, value in pairs_of(body):
            match command:
                case "add":
                    self.add(value["doc"])
                    self.soon(value.get("commitWithin") or query.get("commitWithin"))
                case "delete" if isinstance(value, dict) and "query" in value:
                    test = self.query(value["query"], {})
                    for key in [key for key, doc in self.pending.items() if test(doc)]:
                        del self.pending[key]
                case "delete":
                    for key in [value] if isinstance(value, str) else value:
                        self.pending.pop(key, None)
                    self.soon(query.get("commitWithin"))
                case "commit":
                    self.commit("soft" if value.get("softCommit") else "hard")
                case _:
                    raise Refused(400, f"Unknown command '{command}' at [1]")

    def soon(self, within_ms: Any) -> None:
        if within_ms is not None:
            self.commit_at = self.now_s + int(within_ms) / 1000

    def add(self, given: Mapping[str, Any]) -> None:
        doc = dict(given)
        key = doc.get("id")
        if not key:
            raise Refused(400, "Document is missing mandatory uniqueKey field: id")
        old = self.pending.get(key)
        wanted = int(doc.pop("_version_", 0))
        actual = -1 if old is None else old["_version_"]
        if not (
            wanted == 0
            or (wanted == 1 and actual > 0)
            or (wanted < 0 and actual < 0)
            or wanted == actual
        ):
            raise Refused(
                409, f"version conflict for {key} expected={wanted} actual={actual}"
            )
        if any(isinstance(value, dict) for value in doc.values()):
            doc = changed(old or {}, doc)
        # As RemoveBlankFieldUpdateProcessor does in the _default configuration.
        stored = {
            name: self.stored(key, name, value)
            for name, value in doc.items()
            if value not in ("", None, []) and name != "_version_"
        }
        self.clock += 1
        self.pending[key] = {**stored, "_version_": self.clock}

    def stored(self, key: str, name: str, value: Any) -> Any:
        try:
            kind = self.type_of(name)
        except Refused:
            raise Refused(400, f"ERROR: [doc={key}] unknown field '{name}'") from None
        if kind["class"] == "solr.DenseVectorField":
            if len(value) != kind["vectorDimension"]:
                raise Refused(
                    400,
                    f"ERROR: [doc={key}] Error adding field '{name}' msg="
                    f"{wrong_dimension(len(value), kind['vectorDimension'])}",
                )
            return [float(np.float32(one)) for one in value]
        if kind["type"].endswith("s") and kind["class"] != "solr.TextField":
            some = value if isinstance(value, list) else [value]
            return [self.single(key, name, kind, one) for one in some if one != ""]
        if isinstance(value, list):
            if len(value) != 1:
                raise Refused(
                    400,
                    f"ERROR: [doc={key}] multiple values encountered for non multiValued "
                    f"field {name}: {value}",
                )
            value = value[0]
        return self.single(key, name, kind, value)

    def single(self, key: str, name: str, kind: Mapping[str, Any], value: Any) -> Any:
        try:
            found = typed(kind["class"], value)
        except ValueError:
            raise Refused(
                400,
                f"ERROR: [doc={key}] Error adding field '{name}'='{value}' msg=For input "
                f'string: "{value}"',
            ) from None
        if (
            kind["class"] == "solr.StrField"
            and kind.get("indexed", True)
            and len(found.encode("utf-8", "replace")) > MOST_TERM_BYTES
        ):
            raise Refused(
                400,
                f"Exception writing document id {key} to the index; possible analysis "
                f'error: Document contains at least one immense term in field="{name}"',
            )
        return found

    # -- reading

    def get(self, ids: Sequence[str], form: Mapping[str, Any]) -> dict[str, Any]:
        found = [self.pending[one] for one in ids if one in self.pending]
        names = str(form.get("fl", "*")).split(",")
        shown = [shown_fields(doc, names, None) for doc in found]
        if len(ids) == 1:
            return {"doc": shown[0] if shown else None}
        return {"response": {"numFound": len(shown), "start": 0, "docs": shown}}

    def search_params(self, query: Mapping[str, str], body: str) -> dict[str, Any]:
        """Solr's RequestUtil: macros first, in the text of the JSON too."""
        expand = query.get("expandMacros", "true") == "true"
        flat = flat_params(body)
        if expand:
            body = expanded(body, {**flat, **query})
            flat = {name: expanded(value, flat) for name, value in flat.items()}
        try:
            said = json.loads(body) if body else {}
        except ValueError as error:
            raise Refused(400, f"JSON Parse Error: {error}", "JSONParser") from None
        params: dict[str, Any] = {**flat, **query}
        names = {"query": "q", "filter": "fq", "fields": "fl", "limit": "rows",
                 "offset": "start", "sort": "sort"}  # fmt: skip
        for name, value in said.items():
            if name == "params":
                continue
            if name not in names:
                raise Refused(400, f"Unknown top-level key in JSON request : {name}")
            params[names[name]] = value
        return params

    def select(self, params: dict[str, Any]) -> dict[str, Any]:
        self.params = params
        filters = params.get("fq", [])
        filters = [filters] if isinstance(filters, str) else filters
        docs = [
            doc
            for doc in self.visible.values()
            if all(test(doc) for test in self.filters(filters, params))
        ]
        scored = self.scored(str(params.get("q", "*:*")), params, docs)
        scored = list(self.collapsed(filters, scored))
        scored.sort(key=lambda one: (-one[0], one[1]["id"]))
        start, rows = int(params.get("start", 0)), int(params.get("rows", 10))
        names = params.get("fl", ["*"])
        names = [names] if isinstance(names, str) else names
        page = scored[start : start + rows]
        cursor: dict[str, str] = {}
        if "cursorMark" in params:
            page = self.after_mark(params, scored)[:rows]
            last = page[-1][1]["id"] if page else None
            cursor = {"nextCursorMark": last or params["cursorMark"]}
        return {
            **cursor,
            "responseHeader": {"status": 0, "QTime": 1},
            "response": {
                "numFound": len(scored),
                "start": start,
                "numFoundExact": True,
                "docs": [shown_fields(doc, names, score) for score, doc in page],
            },
        }

    def after_mark(
        self, params: Mapping[str, Any], scored: Sequence[tuple[float, Doc]]
    ) -> list[tuple[float, Doc]]:
        """By the unique key alone, which is all that we ask for."""
        if params.get("sort") != "id asc" or int(params.get("start", 0)):
            raise Refused(
                400,
                "Cursor functionality requires a sort containing a uniqueKey field tie "
                "breaker",
            )
        mark = params["cursorMark"]
        ordered = sorted(scored, key=lambda one: one[1]["id"])
        return [one for one in ordered if mark == "*" or one[1]["id"] > mark]

    def filters(self, filters: Sequence[str], params: Mapping[str, Any]) -> list[Test]:
        return [
            self.query(one, params) for one in filters if not one.startswith("{!collapse ")
        ]

    def collapsed(
        self, filters: Sequence[str], scored: list[tuple[float, Doc]]
    ) -> Iterator[tuple[float, Doc]]:
        fields = [one.split("field=")[1][:-1] for one in filters if "{!collapse" in one]
        seen: set[Any] = set()
        for score, doc in scored:
            if fields and (value := doc.get(fields[0])) is not None:
                if value in seen:
                    continue
                seen.add(value)
            yield score, doc

    def scored(
        self, query: str, params: Mapping[str, Any], docs: Sequence[Doc]
    ) -> list[tuple[float, Doc]]:
        local = local_params(query, params)
        kind = local[0].get("type", "lucene") if local else params.get("defType", "lucene")
        if local and kind == "knn":
            return self.nearest(local[0], local[1], docs)
        if kind == "edismax":
            said = local[0] if local else {"v": query}
            return self.ranked({**params, **said}, docs)
        test = self.query(query, params)
        return [(1.0, doc) for doc in docs if test(doc)]

    def nearest(
        self, local: Mapping[str, str], text: str, docs: Sequence[Doc]
    ) -> list[tuple[float, Doc]]:
        name = local.get("f")
        if not name:
            raise Refused(400, "the Dense Vector field 'f' is missing")
        if not text:
            raise Refused(400, "the Dense Vector value 'v' to search is missing")
        kind = self.type_of(name)
        if kind["class"] != "solr.DenseVectorField":
            raise Refused(
                400, "only DenseVectorField is compatible with Vector Query Parsers"
            )
        if not re.fullmatch(r"\[.*\]", text):
            raise Refused(
                400,
                "incorrect vector format. The expected format is:'[f1,f2..f3]' where each "
                "element f is a float",
            )
        vector = np.array([float(one) for one in text[1:-1].split(",")])
        if len(vector) != kind["vectorDimension"]:
            raise Refused(400, wrong_dimension(len(vector), kind["vectorDimension"]))
        scored = []
        for doc in docs:
            if name in doc:
                stored = np.array(doc[name])
                size = float(np.linalg.norm(stored) * np.linalg.norm(vector))
                scored.append(((1 + float(stored @ vector) / size) / 2, doc))
        scored.sort(key=lambda one: -one[0])
        return scored[: int(local.get("topK", 10))]

    def ranked(
        self, params: Mapping[str, Any], docs: Sequence[Doc]
    ) -> list[tuple[float, Doc]]:
        words = [one.lower() for one in WORD.findall(str(params["v"])) if one != "OR"]
        names = [one.split("^")[0] for one in str(params["qf"]).split()]
        for name in names:
            self.type_of(name)
        if len(words) * len(names) > MOST_CLAUSES:
            raise Refused(400, "too many boolean clauses, maxClauseCount is set to 1024")
        scores: dict[str, float] = defaultdict(float)
        for name in names:
            counts = {doc["id"]: Counter(words_of(doc.get(name, ""))) for doc in docs}
            mean = sum(sum(one.values()) for one in counts.values()) / max(1, len(counts))
            for word in words:
                having = sum(1 for one in counts.values() if word in one)
                weight = math.log(1 + (len(counts) - having + 0.5) / (having + 0.5))
                for key, one in counts.items():
                    if word in one:
                        length = 0.25 + 0.75 * sum(one.values()) / mean
                        scores[key] += weight * one[word] / (one[word] + 1.2 * length)
        return [(scores[doc["id"]], doc) for doc in docs if doc["id"] in scores]

    # -- queries

    def query(self, query: str, params: Mapping[str, Any]) -> Test:
        local = local_params(query, params)
        self.current = params
        if local is None:
            return Parser(query, self).parse()
        said, text = local
        match said.get("type", "lucene"):
            case "terms":
                values = set(text.split(","))
                name = said["f"]
                self.type_of(name)
                return lambda doc: bool(values & set(many(doc.get(name))))
            case "join":
                return self.join(said["from"], said["to"], text, params)
            case "lucene":
                return Parser(text, self).parse()
            case "knn" | "edismax" as kind:
                raise Refused(400, f"{kind} as a filter is not in this double")
            case kind:
                raise Refused(400, f"Unknown query parser '{kind}'")

    def join(self, source: str, to: str, text: str, params: Mapping[str, Any]) -> Test:
        test = self.query(text, params)
        values = {
            value
            for doc in self.visible.values()
            if test(doc)
            for value in many(doc.get(source))
        }
        return lambda doc: bool(values & set(many(doc.get(to))))

    def nested(self, query: str) -> Test:
        return self.query(query, self.current)

    def term(self, field: str, text: str, *, is_quoted: bool) -> Test:
        kind = self.class_of(field)
        if kind == "solr.TextField":
            words = words_of(text)
            return lambda doc: bool(words) and contains(words_of(doc.get(field, "")), words)
        try:
            value = typed(kind, text)
        except ValueError:
            raise Refused(400, f"Invalid Number: {text}") from None
        return lambda doc: value in many(doc.get(field))

    def prefix(self, field: str, text: str) -> Test:
        self.type_of(field)
        return lambda doc: any(str(one).startswith(text) for one in many(doc.get(field)))

    def wildcard(self, field: str, pattern: str) -> Test:
        self.type_of(field)
        glob = re.escape(pattern).replace(r"\*", ".*").replace(r"\?", ".")
        return lambda doc: any(
            re.fullmatch(glob, str(one)) is not None for one in many(doc.get(field))
        )

    def between(
        self, field: str, low: str | None, high: str | None, *, closed: tuple[bool, bool]
    ) -> Test:
        kind = self.class_of(field)
        try:
            least = None if low is None else ordered(kind, low)
            most = None if high is None else ordered(kind, high)
        except ValueError:
            raise Refused(400, f"Invalid Number: {low} or {high}") from None

        def holds(doc: Doc) -> bool:
            for one in many(doc.get(field)):
                value = ordered(kind, one)
                if least is not None and (
                    value < least or (value == least and not closed[0])
                ):
                    continue
                if most is not None and (value > most or (value == most and not closed[1])):
                    continue
                return True
            return False

        return holds


def pairs_of(body: str) -> list[tuple[str, Any]]:
    """The entries of an object, of which keys may repeat; deeper ones are dictionaries."""
    depth: list[list[tuple[str, Any]]] = []

    def keep(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        depth.append(pairs)
        return dict(pairs)

    try:
        json.loads(body, object_pairs_hook=keep)
    except ValueError as error:
        raise Refused(400, f"JSON Parse Error: {error}", "JSONParser") from None
    return depth[-1] if depth else []


def flat_params(body: str) -> dict[str, str]:
    """The params of a JSON body; unreadable ones are ignored at this point, as in Solr."""
    try:
        said = json.loads(body).get("params", {})
    except ValueError:
        return {}
    return {name: str(value) for name, value in said.items()}


def expanded(text: str, params: Mapping[str, str]) -> str:
    """Solr's MacroExpander: ``${name}`` and ``${name:default}``."""
    return re.sub(
        r"\$\{([^}:]*)(?::([^}]*))?\}",
        lambda match: params.get(match[1], match[2] or ""),
        text,
    )


def changed(old: Mapping[str, Any], update: Mapping[str, Any]) -> dict[str, Any]:
    """An atomic update of what is stored."""
    doc = dict(old)
    for name, value in update.items():
        if not isinstance(value, dict):
            doc[name] = value
            continue
        for how, operand in value.items():
            match how:
                case "set":
                    doc[name] = operand
                case "inc":
                    doc[name] = doc.get(name, 0) + operand
                case "add":
                    doc[name] = [*many(doc.get(name)), *many(operand)]
                case "remove":
                    doc[name] = [
                        one for one in many(doc.get(name)) if one not in many(operand)
                    ]
                case _:
                    raise Refused(400, f"Error:Unknown operation for the update: {how}")
    return doc


def typed(kind: str, value: Any) -> Any:
    match kind:
        case "solr.LongPointField" | "solr.IntPointField":
            bits = 63 if "Long" in kind else 31
            number = int(value)
            if not -(2**bits) <= number < 2**bits:
                raise ValueError(value)
            return number
        case "solr.DoublePointField":
            is_infinite = isinstance(value, str) and "inf" in value.lower()
            if is_infinite and value.lstrip("+-") != "Infinity":
                raise ValueError(value)
            return float(value)
        case "solr.BoolField":
            return value if isinstance(value, bool) else str(value)[:1] in "1tT"
    # Java has no half characters in UTF-8.
    return str(value).encode("utf-8", "replace").decode()


def ordered(kind: str, value: Any) -> Any:
    """What a field is ordered by: texts by their bytes in UTF-8."""
    found = typed(kind, value)
    return found.encode("utf-8", "replace") if isinstance(found, str) else found


def many(value: Any) -> list[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def words_of(text: str) -> list[str]:
    return [word.lower() for word in WORD.findall(text)]


def contains(words: list[str], part: list[str]) -> bool:
    return any(words[at : at + len(part)] == part for at in range(len(words)))


def shown_fields(doc: Doc, names: Sequence[str], score: float | None) -> dict[str, Any]:
    flat = [one for name in names for one in name.split(",")]
    shown = {name: value for name, value in doc.items() if "*" in flat or name in flat}
    if "score" in flat and score is not None:
        shown["score"] = score
    return shown


def wrong_dimension(found: int, expected: int) -> str:
    return (
        f"incorrect vector dimension. The vector value has size {found} while it is "
        f"expected a vector with size {expected}"
    )
