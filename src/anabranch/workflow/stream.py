"""The events of a run for those who watch it, each at a pace of its own.

The last events are kept, up to a limit, and every reader has a cursor. A reader that comes
late, also after the end, begins with the oldest event that is kept; one that comes after
another has stopped in the middle goes on there. Nobody slows the run,
and no reader slows another: one that falls so far behind that an event it has not seen is
dropped is told so.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import Final

from anabranch.errors import StreamOverrun
from anabranch.workflow.events import Event, InternalDispatchEvent

MOST_KEPT: Final = 16_384


class EventStream:
    """What was published."""

    __slots__ = (
        "_dropped",
        "_events",
        "_most",
        "_readers",
        "closed",
        "left_at",
        "watchers",
    )

    def __init__(self, most: int = MOST_KEPT) -> None:
        self._events: deque[Event] | None = None  # none are made for who publishes none
        self._dropped = 0
        self._most = most
        self._readers: list[asyncio.Future[None]] | None = None
        self.closed = False
        self.watchers = 0
        self.left_at = 0

    def add(self, event: Event) -> None:
        """Publish an event."""
        if self._events is None:
            self._events = deque()
        self._events.append(event)
        if len(self._events) > self._most:
            self._events.popleft()
            self._dropped += 1
        if self._readers:
            self._wake()

    def close(self) -> None:
        """Publish no more."""
        self.closed = True
        self._wake()

    def _wake(self) -> None:
        readers, self._readers = self._readers, None
        for reader in readers or ():
            if not reader.done():
                reader.set_result(None)

    def read(self, *, expose_internal: bool) -> StreamReader:
        """A reader that begins with the oldest event, or where one has left off."""
        return StreamReader(self, expose_internal=expose_internal)

    def at(self, cursor: int) -> Event | None:
        """The event of this number, from 0; ``None`` if it is not there yet.

        Raises:
            StreamOverrun: It is not there any more.
        """
        index = cursor - self._dropped
        if index < 0:
            raise StreamOverrun(
                f"{-index:,} events were dropped before this reader came to them: a stream "
                f"keeps {self._most:,}; read faster, or give Workflow more stream_buffer",
                missed=-index,
            )
        events = self._events
        return events[index] if events is not None and index < len(events) else None

    def next(self) -> asyncio.Future[None]:
        """Is done when there is more, or never will be."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._readers = self._readers or []
        self._readers.append(future)
        return future


class StreamReader(AsyncIterator[Event]):
    """One reader's place in a stream: an async iterator that ends with the run."""

    def __init__(self, stream: EventStream, *, expose_internal: bool) -> None:
        self._stream = stream
        self._exposes = expose_internal
        self._cursor, stream.left_at = stream.left_at, 0
        self._is_open = True
        if expose_internal:
            stream.watchers += 1

    def __aiter__(self) -> StreamReader:
        return self

    async def __anext__(self) -> Event:
        """The next event.

        Raises:
            StreamOverrun: Events were dropped; the next call gives the oldest that is kept.
        """
        stream = self._stream
        while self._is_open:
            try:
                event = stream.at(self._cursor)
            except StreamOverrun as error:
                self._cursor += error.missed
                raise
            if event is None:
                if stream.closed:
                    self._cursor = 0  # who comes next begins anew
                    self._leave()
                    break
                await stream.next()
                continue
            self._cursor += 1
            if self._exposes or not isinstance(event, InternalDispatchEvent):
                return event
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Read no more."""
        self._leave()

    def __del__(self) -> None:
        self._leave()

    def _leave(self) -> None:
        if self._is_open:
            self._is_open = False
            self._stream.left_at = self._cursor
            self._stream.watchers -= self._exposes
