"""What a child does: it takes requests from its socket, one after another, and runs them.

The child is confined before the first request arrives. From then on it may do and send
anything; the parent counts on nothing that is written here.
"""

from __future__ import annotations

import os
import resource
import socket
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Final, NoReturn

from anabranch.errors import ValueRefused
from anabranch.sandbox import wire
from anabranch.sandbox.isolate import memory, speech
from anabranch.sandbox.isolate.runner import Runner

MOST_BYTES: Final = 1 << 40  # memory is what limits
_RECEIVE_BYTES: Final = 1 << 16
_FIRST: Final = 'import re\nprint("x")\nsorted({"a": [1, 2.5, None]}.items())'


class Line:
    """The socket to the parent, with messages. Calls block."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._frames = wire.Frames(MOST_BYTES)
        self._pid = os.getpid()

    def send(self, message: wire.Message) -> None:
        """Send a message; large buffers go into memory that the parent makes."""
        if os.getpid() != self._pid:  # the code forked, and this is the other process
            os._exit(0)
        apart = speech.is_large(message)
        if apart:
            wish = speech.say({"is": "room", "bytes": message.mapped_bytes})
            self._socket.sendall(speech.framed(wish, apart=False))
            _, (place,) = self._next()
            try:
                memory.write(place, message)
            finally:
                os.close(place)
        self._socket.sendall(speech.framed(message, apart=apart))

    def receive(self) -> speech.Heard:
        """The next message; the process ends when there is no parent."""
        frame, places = self._next()
        buffers: Any = frame.buffers
        for place in places:
            buffers = memory.mapped(place, frame.sizes, own=True)
            os.close(place)
        return speech.Heard(speech.facts_of(frame), buffers)

    def _next(self) -> tuple[wire.Frame, list[int]]:
        places: list[int] = []
        while True:
            data, more, _, _ = socket.recv_fds(self._socket, _RECEIVE_BYTES, 1)
            places += more
            if not data:
                os._exit(0)
            for frame in self._frames.feed(data):  # the parent sends one at a time
                return frame, places


class Worker:
    """Answers requests to run something."""

    def __init__(self, line: Line) -> None:
        self._line = line
        self._runner = Runner()
        self._talking = threading.Lock()
        self._running = False
        self._at_first = _peak_bytes()

    def work(self) -> NoReturn:
        """Answer until the parent is gone, or kills this process."""
        while True:
            request = self._line.receive()
            try:
                answer = self._answer(request)
            except ValueRefused as error:
                told = {"is": "refused", "path": error.path, "reason": error.reason}
                answer = speech.say(told)
            except MemoryError:
                answer = speech.say({"is": "out of memory"})
            del request
            with self._talking:  # a thread of the code may be in the middle of a call
                self._running = False
                try:
                    self._line.send(answer)
                except MemoryError:
                    self._line.send(speech.say({"is": "out of memory"}))
            del answer

    def _answer(self, request: speech.Heard) -> wire.Message:
        facts = request.facts
        values = request.value(max_bytes=MOST_BYTES)
        for name in facts["expose"]:
            values[name] = self._stub(name)
        self._running = True
        began = time.process_time()
        ran = self._runner.run(facts["source"], values, output_bytes=facts["output_bytes"])
        if ran.error and ran.error.out_of_memory:
            return speech.say({"is": "out of memory"})
        items = speech.items_of(facts["result_bytes"])
        value = wire.encode(ran.value, max_bytes=MOST_BYTES, max_items=items)
        if value.nbytes > facts["result_bytes"]:
            return speech.say({"is": "too large", "bytes": value.nbytes})
        told = {
            "is": "done",
            "error": asdict(ran.error) if ran.error else None,
            "cpu_s": time.process_time() - began,
            "memory_bytes": max(_peak_bytes() - self._at_first, 0),
        }
        return speech.say(told, [ran.stdout, ran.stderr], value)

    def _stub(self, name: str) -> Callable[..., Any]:
        """A function that has the parent call its own of this name."""

        def call(*args: Any, **kwargs: Any) -> Any:
            asked = wire.encode([list(args), kwargs], max_bytes=MOST_BYTES)
            with self._talking:
                if not self._running:
                    raise RuntimeError(f"{name}: the run that was given it has ended")
                self._line.send(speech.say({"is": "call", "name": name}, value=asked))
                answer = self._line.receive()
            if answer.facts["do"] == "fail":
                raise RuntimeError(answer.facts["text"])
            return answer.value(max_bytes=MOST_BYTES)

        call.__name__ = call.__qualname__ = name
        return call


def live(connection: socket.socket, confine: Callable[[], None]) -> NoReturn:
    """Be a child: never returns."""
    line = Line(connection)
    try:
        reseed()
        confine()
        exercise()
        worker = Worker(line)
    except BaseException as error:  # the parent is told whatever it is
        text = f"{type(error).__name__}: {error}"[:2000]
        line.send(speech.say({"is": "broken", "text": text}))
        os._exit(speech.BROKEN)
    line.send(speech.say({"is": "ready"}))
    try:
        worker.work()
    except MemoryError:
        os._exit(speech.OUT_OF_MEMORY)
    finally:
        os._exit(speech.BROKEN)


def reseed() -> None:
    """No two children draw the same numbers. ``random`` sees to itself after a fork."""
    if "numpy.random" in sys.modules:
        sys.modules["numpy.random"].seed()


def exercise() -> None:
    """Do once what each run does: what it touches is loaded, and copied, beforehand."""
    ran = Runner().run(_FIRST, {}, output_bytes=100)
    value = wire.encode([ran.value, {"a": 1.5}], max_bytes=MOST_BYTES)
    message = speech.say({"is": "ready"}, [ran.stdout], value)
    for frame in wire.Frames(MOST_BYTES).feed(speech.framed(message, apart=False)):
        heard = speech.Heard(speech.facts_of(frame), message.buffers)
        heard.value(after=1, max_bytes=MOST_BYTES)


def _peak_bytes() -> int:
    """The most memory that this process ever had at once."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
