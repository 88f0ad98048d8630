"""Answers from any endpoint that speaks OpenAI's chat completions, as they are written.

A streamed answer is a series of server-sent events, each a JSON object with a few
characters. Bytes come in packets that know nothing of lines, events or characters, so
:class:`EventParser` takes them as they come.
"""

from __future__ import annotations

import codecs
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from http import HTTPStatus
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, cast

from anabranch.errors import ChatError, UsageError
from anabranch.jobs.check import check_count, check_positive
from anabranch.rag.answer import Message
from anabranch.rag.service import (
    MOST_ERROR_BYTES,
    check_address,
    check_key,
    json_object,
    message,
    open_session,
    reason,
    said,
    shortened,
)

if TYPE_CHECKING:
    from aiohttp import ClientResponse, ClientSession

_DONE = "[DONE]"
_MOST_EVENT_CHARACTERS = 1 << 22

_REMEDIES = {
    400: "check the model's name, and how long a text it takes",
    401: "give a valid key",
    403: "the key may not use this model",
    404: "check the address, which often ends in /v1, and the model's name",
    429: "wait a while and try again, or look at your quota",
}


class ChatModel:
    """A language model behind an OpenAI-compatible endpoint.

    Use it as an async context manager; its connections close when the block ends. Any
    number of answers may be streamed at once. Nothing is tried a second time.

    Args:
        url: The endpoint's base, such as ``http://localhost:11434/v1``.
        model: The model's name there.
        key: Sent as a bearer token, and never followed elsewhere by a redirect.
        timeout: Seconds to wait for a connection, and for each next sign of life.
        max_characters: Of one answer. A model that goes round in circles never ends by
            itself, and what it writes is kept.

    Raises:
        UsageError: An argument cannot be meant.
    """

    def __init__(
        self,
        url: str,
        model: str,
        *,
        key: str | None = None,
        timeout: float = 60.0,
        max_characters: int = 1_000_000,
    ) -> None:
        check_address(url, "a language model", "http://localhost:11434/v1")
        if not model:
            raise UsageError("the model's name is empty")
        check_key(key)
        check_positive("timeout", timeout)
        check_count("max_characters", max_characters)
        self.url = url.rstrip("/").removesuffix("/chat/completions") + "/chat/completions"
        self.model = model
        self.timeout = timeout
        self.max_characters = max_characters
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._session: ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = open_session("ChatModel", self._headers, silence_s=self.timeout)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def stream(self, messages: Sequence[Message]) -> AsyncGenerator[str, None]:
        """The answer, piece by piece, as the model writes it.

        An endpoint that does not stream gives its answer as one piece. Closing the
        iterator closes the connection, which most endpoints take as a sign to stop.

        Raises:
            ChatError: It cannot be reached, refuses, breaks off, or writes more than
                ``max_characters``; what came is valid.
            RuntimeError: It was not entered with ``async with``.
        """
        if self._session is None:
            raise RuntimeError(
                "ChatModel is not open: use it in 'async with ChatModel(...)'"
            )
        import aiohttp

        body = {
            "model": self.model,
            "messages": [{"role": m.role, "content": m.content} for m in messages],
            "stream": True,
        }
        response: ClientResponse | None = None
        try:
            async with self._session.post(
                self.url, json=body, allow_redirects=False
            ) as response:
                if response.status != HTTPStatus.OK:
                    raise await self._refusal(response)
                characters = 0
                async for piece in self._pieces(response):
                    characters += len(piece)
                    if characters > self.max_characters:
                        raise ChatError(
                            f"{self.url}: the answer has more than {self.max_characters} "
                            "characters: ask for less, or give a larger max_characters="
                        )
                    yield piece
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise self._explained(error, has_begun=response is not None) from error

    async def _pieces(self, response: ClientResponse) -> AsyncIterator[str]:
        """What the answer says, whether it is events or one JSON object."""
        packets = response.content.iter_any()
        start = b""
        async for packet in packets:
            start = (start + packet).lstrip(b" \t\r\n")
            if start:
                break
        if start.startswith(b"{"):
            whole = bytearray(start)
            async for packet in packets:
                whole += packet
                self._refuse_above(len(whole))
            yield self._whole(bytes(whole))
            return
        is_finished = False
        async for event in self._events(start, packets):
            if event == _DONE:
                return
            text, is_last = self._delta(event)
            is_finished |= is_last
            if text:
                yield text
        if not is_finished:
            raise ChatError(f"{self.url}: the answer broke off before its end")

    async def _events(
        self, start: bytes, packets: AsyncIterator[bytes]
    ) -> AsyncIterator[str]:
        parser = EventParser()
        for event in parser.feed(start):
            yield event
        async for packet in packets:
            for event in parser.feed(packet):
                yield event
            self._refuse_above(parser.held)
        for event in parser.close():
            yield event

    def _delta(self, event: str) -> tuple[str, bool]:
        """The characters of one event, and whether the model says it was the last."""
        data = self._object(event)
        choice = _first_choice(data)
        return _text(choice.get("delta")), choice.get("finish_reason") is not None

    def _whole(self, body: bytes) -> str:
        return _text(_first_choice(self._object(body)).get("message"))

    def _object(self, text: str | bytes) -> dict[str, Any]:
        found = json_object(text)
        if found is None:
            shown = shortened(
                text if isinstance(text, str) else text.decode("utf-8", "replace")
            )
            raise ChatError(
                f"{self.url}: the answer is not that of a chat model: {shown!r}; check the "
                "address, which often ends in /v1"
            )
        if error := found.get("error"):
            raise ChatError(f"{self.url}: the model failed: {message(error)}")
        return found

    async def _refusal(self, response: ClientResponse) -> ChatError:
        status = response.status
        if location := response.headers.get("Location"):
            return ChatError(
                f"{self.url}: the server answered {status} and points to "
                f"{shortened(location)}: give that address",
                status=status,
            )
        body = await response.content.read(MOST_ERROR_BYTES)
        words = said(body.decode("utf-8", "replace"))
        remedy = _REMEDIES.get(status, "try again later" if status >= 500 else "")
        parts = [
            f"the server answered {status} {shortened(response.reason or '')}".rstrip(),
            words,
        ]
        sentence = ": ".join(part for part in parts if part)
        return ChatError(
            f"{self.url}: {sentence}" + (f" ({remedy})" if remedy else ""), status=status
        )

    def _refuse_above(self, size: int) -> None:
        if size > _MOST_EVENT_CHARACTERS:
            raise ChatError(f"{self.url}: the answer is no text of any sensible length")

    def _explained(self, error: Exception, *, has_begun: bool) -> ChatError:
        why = reason(error, timeout=self.timeout, has_begun=has_begun)
        return ChatError(f"{self.url}: {why}")


class EventParser:
    """Server-sent events out of bytes, however the bytes were cut.

    Source: WHATWG, "HTML Living Standard", 9.2.6 "Interpreting an event stream".
    """

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")("replace")
        self._rest = ""
        self._data: list[str] = []

    @property
    def held(self) -> int:
        """How many characters wait for the end of their event."""
        return len(self._rest) + sum(map(len, self._data))

    def feed(self, packet: bytes) -> Iterator[str]:
        """The data of each event that this packet completes."""
        text = self._rest + self._decoder.decode(packet)
        # A carriage return at the end may be half of a line's end.
        held = "\r" if text.endswith("\r") else ""
        lines = (
            text.removesuffix("\r").replace("\r\n", "\n").replace("\r", "\n").split("\n")
        )
        self._rest = lines.pop() + held
        for line in lines:
            yield from self._line(line)

    def close(self) -> Iterator[str]:
        """The data of an event that was complete but for the line's end behind it."""
        yield from self._line(self._rest.removesuffix("\r"))
        yield from self._line("")

    def _line(self, line: str) -> Iterator[str]:
        if line:
            field, _, value = line.partition(":")
            if field == "data":
                self._data.append(value.removeprefix(" "))
        elif self._data:
            yield "\n".join(self._data)
            self._data.clear()


def _first_choice(data: dict[str, Any]) -> dict[str, Any]:
    choices = data.get("choices")
    first: object = (
        cast("list[object]", choices)[0] if isinstance(choices, list) and choices else {}
    )
    return cast("dict[str, Any]", first) if isinstance(first, dict) else {}


def _text(message: object) -> str:
    content = (
        cast("dict[str, Any]", message).get("content") if isinstance(message, dict) else ""
    )
    return content if isinstance(content, str) else ""
