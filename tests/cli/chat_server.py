"""A language model's endpoint on this machine, as faithful as our tests need.

It speaks the part of OpenAI's API that is used here over a real socket: it wants a JSON
body and, if told so, a key; it knows one model; it streams events, or does not. A test
may replace what it answers, down to the packets.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

MODEL = "parrot"


@dataclass(slots=True)
class Reply:
    """What is sent, packet by packet; afterwards the connection may be cut."""

    packets: Sequence[bytes]
    status: int = 200
    headers: Mapping[str, str] = field(
        default_factory=lambda: {"Content-Type": "text/event-stream"}
    )
    is_cut: bool = False
    hangs: bool = False


@dataclass(slots=True)
class ChatServer:
    """What the endpoint is told to do, and what it was asked."""

    url: str = ""
    key: str | None = None
    answer: Sequence[str] = ("To install it, ", "run the installer", " [1].")
    reply: Callable[[], Reply] | None = None
    requests: list[dict[str, Any]] = field(default_factory=list)
    headers: list[Mapping[str, str]] = field(default_factory=list)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.requests.append(body)
        self.headers.append(dict(request.headers))
        if self.reply is not None:
            return await self.send(request, self.reply())
        if self.key is not None and request.headers.get("Authorization") != (
            f"Bearer {self.key}"
        ):
            return failure(401, "Incorrect API key provided")
        if body["model"] != MODEL:
            return failure(404, f"The model `{body['model']}` does not exist")
        assert {"role", "content"} == set(body["messages"][0])
        if not body.get("stream"):
            return web.json_response(whole("".join(self.answer)))
        return await self.send(request, Reply(list(events(self.answer))))

    async def send(self, request: web.Request, reply: Reply) -> web.StreamResponse:
        response = web.StreamResponse(status=reply.status, headers=reply.headers)
        await response.prepare(request)
        for packet in reply.packets:
            await response.write(packet)
        if reply.hangs:
            await asyncio.Event().wait()
        if reply.is_cut:
            assert request.transport is not None
            request.transport.close()
        return response


def events(pieces: Sequence[str]) -> Iterator[bytes]:
    """As OpenAI sends them: a role first, then text, an end, the usage, and a mark."""
    yield event(choice({"role": "assistant", "content": ""}))
    for piece in pieces:
        yield event(choice({"content": piece}))
    yield event(choice({}, finish_reason="stop"))
    yield event({"object": "chat.completion.chunk", "choices": [], "usage": {"total": 9}})
    yield b"data: [DONE]\n\n"


def choice(delta: Mapping[str, str], finish_reason: str | None = None) -> dict[str, Any]:
    chosen = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return {"object": "chat.completion.chunk", "choices": [chosen]}


def event(data: Mapping[str, Any]) -> bytes:
    return b"data: " + json.dumps(data, ensure_ascii=False).encode() + b"\n\n"


def whole(text: str) -> dict[str, Any]:
    message = {"role": "assistant", "content": text}
    return {
        "object": "chat.completion",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
    }


def failure(status: int, message: str) -> web.Response:
    return web.json_response({"error": {"message": message, "type": "x"}}, status=status)


@contextmanager
def served(routes: Mapping[str, Callable[[web.Request], Any]]) -> Iterator[str]:
    """Handlers by path on a free port, in a thread with a loop of its own; the URL."""
    ready = threading.Event()
    loop = asyncio.new_event_loop()
    url: list[str] = []

    async def start() -> web.AppRunner:
        app = web.Application()
        for path, handler in routes.items():
            app.router.add_route("*", path, handler)
        runner = web.AppRunner(app, shutdown_timeout=0.01)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        url.append(f"http://{host}:{port}")
        return runner

    def serve() -> None:
        runner = loop.run_until_complete(start())
        ready.set()
        loop.run_forever()
        loop.run_until_complete(runner.cleanup())
        loop.run_until_complete(cancel_all())
        loop.close()

    async def cancel_all() -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    thread = threading.Thread(target=serve)
    thread.start()
    ready.wait()
    try:
        yield url[0]
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


@contextmanager
def chat_server() -> Iterator[ChatServer]:
    server = ChatServer()
    with served({"/v1/chat/completions": server.handle}) as url:
        server.url = f"{url}/v1"
        yield server
