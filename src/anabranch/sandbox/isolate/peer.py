"""One child, as the parent has it: a socket to talk through, a pidfd to kill by.

The child answers each message with one message. More than one, too long a one, or one
that cannot be read is the end of it: it is killed, and whoever waits for it is told why.
All of it is of one event loop.
"""

from __future__ import annotations

import asyncio
import os
import select
import signal
import socket
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from anabranch.errors import IsolateDied, ValueRefused
from anabranch.sandbox import wire
from anabranch.sandbox.isolate import memory, speech

FACTS_BYTES: Final = 2**18  # what a message may say besides its buffers
_RECEIVE_BYTES: Final = 1 << 16
_FATE_S: Final = 5.0  # how long the zygote has to say how a child ended
_PROCESS_GROUP: Final = 1 << 2  # PIDFD_SIGNAL_PROCESS_GROUP, Linux 6.9


@dataclass(frozen=True, slots=True)
class Exit:
    """How a child ended: a status as ``os.wait`` gives it, and processor seconds."""

    status: int
    cpu_s: float


class Forging(IsolateDied):
    """What a child sent was no answer."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"the process that ran the code sent {reason} instead of an answer, and was "
            "killed: code that meddles with the sandbox gets no result"
        )


class Gone(Exception):
    """The child ended. Its ``fate`` says how."""


class Peer:
    """A child process.

    Args:
        connection: The socket to it.
        pidfd: A descriptor of the process.

    Attributes:
        over: Set when there is no use in it any more.
        exited: How it ended, once the zygote has said so; None if nobody knows.
    """

    def __init__(self, connection: socket.socket, pidfd: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._socket = connection
        self._socket.setblocking(False)
        self._pidfd = pidfd
        self._most = FACTS_BYTES
        self._frames = wire.Frames(self._most)
        self._held = bytearray()
        self._arrived: list[wire.Frame] = []
        self._end: Exception | None = None
        self._waiting: asyncio.Future[None] | None = None
        self._room: int | None = None
        self.over: asyncio.Future[None] = self._loop.create_future()
        self.exited: asyncio.Future[Exit | None] = self._loop.create_future()
        self._loop.add_reader(self._socket, self._readable)

    @property
    def ended(self) -> bool:
        """Whether there is no use in it any more."""
        return self._end is not None

    def expect(self, most_bytes: int) -> None:
        """From now on take messages with buffers of so many bytes, all together."""
        self._most = most_bytes + FACTS_BYTES
        if not (self._held or self._frames.pending):
            self._frames = wire.Frames(self._most)

    def is_alive(self) -> bool:
        """Whether it can be given something to do: what the kernel says right now."""
        if self._end is not None:
            return False
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        return not poll.poll(0)

    async def send(self, message: wire.Message) -> None:
        """Send a message.

        Raises:
            Gone: The child has ended.
        """
        if not speech.is_large(message):
            await self._send(speech.framed(message, apart=False))
            return
        place = memory.filled(message)
        try:
            await self._send(speech.framed(message, apart=True), place)
        finally:
            os.close(place)

    async def receive(self) -> speech.Heard:
        """The next message, its buffers with it wherever they lay.

        Raises:
            Gone: The child has ended.
            Forging: It sent what is no message, and was killed.
        """
        while True:
            while not self._arrived:
                if self._end:
                    raise self._end
                self._waiting = self._loop.create_future()
                await self._waiting
            frame = self._arrived.pop()
            try:
                facts = speech.facts_of(frame)
                if facts.get("is") == "room":
                    await self._make_room(facts.get("bytes"))
                else:
                    return speech.Heard(facts, self._buffers(frame))
            except speech.Forged as forged:
                raise self._forging(str(forged)) from None

    async def fate(self) -> Exit | None:
        """How the child ended, as the zygote tells; None if it does not tell in time."""
        with suppress(TimeoutError):
            return await asyncio.wait_for(asyncio.shield(self.exited), _FATE_S)
        return None

    def kill(self) -> None:
        """Kill it and all that it has begun, now. What it sends after this is not read."""
        self._finish(Gone())
        if self._pidfd < 0:
            return
        with suppress(ProcessLookupError):
            try:
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL, None, _PROCESS_GROUP)
            except OSError:  # the zygote kills the rest when it sees that this one is dead
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        self.abandon()

    def abandon(self) -> None:
        """Close what is open, and leave the process to the end of its zygote."""
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1
        self._socket.close()
        self._leave_room()

    def _readable(self) -> None:
        try:
            data: bytes | bytearray = self._socket.recv(_RECEIVE_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data:
            self._finish(Gone())
            return
        self._held += data
        if len(self._held) < self._frames.wanted:  # so a long frame is looked at once
            return
        data, self._held = self._held, bytearray()
        try:
            self._arrived += self._frames.feed(data)
        except ValueRefused as refused:
            self._forging(refused.reason)
        if len(self._arrived) > 1:
            self._forging("several messages at once")
        self._wake()

    def _forging(self, reason: str) -> Forging:
        forging = Forging(reason)
        self._arrived.clear()
        self._finish(forging)
        self.kill()
        return forging

    def _finish(self, why: Exception) -> None:
        if self._end is None:
            self._end = why
            self.over.set_result(None)
            # Both, and before it is closed: its number may soon be another's.
            self._loop.remove_reader(self._socket)
            self._loop.remove_writer(self._socket)
            self._wake()

    def _wake(self) -> None:
        if self._waiting and not self._waiting.done():
            self._waiting.set_result(None)
        self._waiting = None

    async def _send(self, frame: bytes, descriptor: int | None = None) -> None:
        descriptors = [] if descriptor is None else [descriptor]
        rest = memoryview(frame)
        while rest:
            if self._end:
                raise self._end
            try:
                if descriptors:
                    sent = socket.send_fds(self._socket, [rest], descriptors)
                else:
                    sent = self._socket.send(rest)
            except (BlockingIOError, InterruptedError):
                await self._writable()
                continue
            except OSError:
                self._finish(Gone())
                raise Gone from None
            rest, descriptors = rest[sent:], []

    async def _writable(self) -> None:
        """Return when there is room to send, or the child has ended."""
        able: asyncio.Future[None] = self._loop.create_future()
        self._waiting = able  # an end wakes this one too
        self._loop.add_writer(self._socket, _settle, able)
        try:
            await able
        finally:
            if self._end is None:
                self._loop.remove_writer(self._socket)
            self._waiting = None

    async def _make_room(self, size: object) -> None:
        if type(size) is not int or not 0 < size <= self._most:
            raise speech.Forged(f"a wish for {size!r:.40} bytes of memory")
        if self._room is not None:  # it could keep one after the other
            raise speech.Forged("a wish for more memory than one message needs")
        self._room = memory.room(size)
        wish = speech.say({"do": "room"})
        await self._send(speech.framed(wish, apart=False), self._room)

    def _buffers(self, frame: wire.Frame) -> tuple[speech.Part, ...]:
        if not speech.lies_apart(frame):
            return tuple(buffer for buffer in frame.buffers if buffer is not None)
        if self._room is None:
            raise speech.Forged("buffers that lie nowhere")
        try:
            memory.seal(self._room)
            return memory.mapped(self._room, frame.sizes, own=False)
        except OSError:
            raise speech.Forged("memory that it can still write to") from None
        except ValueError:
            raise speech.Forged("more buffers than it has memory for") from None
        finally:
            self._leave_room()

    def _leave_room(self) -> None:
        if self._room is not None:
            os.close(self._room)
            self._room = None


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
