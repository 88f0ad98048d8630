"""Questions that wait for a thread are answered together by the first one free."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from typing import Generic, TypeVar

Q = TypeVar("Q")
A = TypeVar("A")


class Together(Generic[Q, A]):
    """Asks a function that answers many questions for little more than one.

    Nobody waits for company: who finds a thread free is answered alone. First come, first
    served.

    Args:
        answer: Gives the answers in the order of the questions.
        threads: Where it runs.
        most: How many questions it is given at once.
    """

    def __init__(
        self, answer: Callable[[Sequence[Q]], Sequence[A]], threads: Executor, *, most: int
    ) -> None:
        self._answer = answer
        self._threads = threads
        self._most = most
        self._waiting: deque[tuple[Q, Future[A]]] = deque()
        self._turn = threading.Lock()

    def ask(self, question: Q) -> Future[A]:
        """The answer, when there is one. Cancelled before its turn, it is never sought.

        Raises:
            RuntimeError: The threads have been shut down.
        """
        answer: Future[A] = Future()
        with self._turn:
            self._waiting.append((question, answer))
        # As many turns as questions, so that none is forgotten: those that come when
        # others have been along already find nothing to do.
        self._threads.submit(self._take_turn)
        return answer

    def _take_turn(self) -> None:
        with self._turn:
            some = [
                self._waiting.popleft() for _ in range(min(self._most, len(self._waiting)))
            ]
        asked = [each for each in some if each[1].set_running_or_notify_cancel()]
        if not asked:
            return
        try:
            answers = self._answer([question for question, _ in asked])
        except BaseException as error:
            for _, future in asked:
                future.set_exception(error)
        else:
            for (_, future), answer in zip(asked, answers, strict=True):
                future.set_result(answer)
