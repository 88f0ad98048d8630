"""What Solr answers, and what is said when it refuses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, cast

from anabranch.errors import SolrError
from anabranch.rag.service import json_object, shortened

_REMEDIES: Final = {
    400: "the request and the collection's schema do not agree",
    401: "give auth=(user, password)",
    403: "this user may not do that: look at the roles in security.json",
    404: "check the address, which ends in the name of a core or a collection",
    409: "somebody else has changed the document: read it again before you write",
    413: "send fewer documents at once",
    429: "Solr has too much to do: try again later",
    503: "Solr is starting or overloaded: try again later",
}


def refusal(
    url: str, status: int, reason: str, body: bytes, retry_after: str | None = None
) -> SolrError:
    """The error of an answer that is no success.

    Solr answers with JSON, the servlet container before it with HTML: both are read.
    """
    msg, metadata = _said(body)
    said = f": {shortened(msg)}" if msg else ""
    remedy = _REMEDIES.get(
        status, "look into Solr's log" if status >= 500 else "look at the request"
    )
    return SolrError(
        f"{url}: Solr answered {f'{status} {reason}'.strip()}{said} ({remedy})",
        status=status,
        msg=msg,
        metadata=metadata,
        retry_after=retry_after,
    )


def answer(url: str, body: bytes) -> dict[str, Any]:
    """The object of a successful answer.

    Any: what a server sends may be anything; each access looks before it takes.

    Raises:
        SolrError: It is no JSON object, or tells of an error after all.
    """
    found = json_object(body)
    if found is None:
        shown = shortened(body[:2000].decode("utf-8", "replace"))
        raise SolrError(
            f"{url}: the answer is not Solr's: {shown!r} (check the address, which is such "
            "as http://localhost:8983/solr/NAME)"
        )
    if "error" in found:
        status = entry(found["error"], "code")
        raise refusal(url, status if isinstance(status, int) else 500, "", body)
    return found


def entry(holder: object, name: str) -> Any:
    """An entry of what may be an object; ``None`` if it is not."""
    if isinstance(holder, Mapping):
        return cast("Mapping[str, Any]", holder).get(name)
    return None


def _said(body: bytes) -> tuple[str, Mapping[str, str]]:
    found = json_object(body)
    if found is None:
        text = body.decode("utf-8", "replace").strip()
        return ("" if text.startswith("<") else text), {}
    error = entry(found, "error")
    msg = entry(error, "msg")
    told = [msg] if isinstance(msg, str) else []
    # The schema API says in msg that something failed, and in details what.
    for detail in _list(entry(error, "details")):
        told += [str(one).strip() for one in _list(entry(detail, "errorMessages"))]
    pairs = [str(part) for part in _list(entry(error, "metadata"))]
    return "; ".join(told), dict(zip(pairs[::2], pairs[1::2], strict=False))


def _list(value: object) -> list[object]:
    return cast("list[object]", value) if isinstance(value, list) else []
