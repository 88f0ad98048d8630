"""Jobs on a Ray cluster: chunks of items in actors, each with a runner of its own.

A Ray task costs its caller most of a millisecond, so none is made for an item. A chunk
is one call of an actor, which runs the items on its own event loop or in its own threads,
many at once. What travels is encoded by us: so one item or result that cannot travel fails
by itself, and failures come back as they do from processes.

Theory of operation. An actor is *idle*, *lent* to one ``run``, or *killed*, and runs one
chunk at a time: if it dies, nobody but this chunk is under suspicion. A ``run`` that ends
by a reply gives its actor back, every other kills it, unless a cancelled chunk has ended
by itself within a moment.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import count
from typing import Any, ClassVar, TypeAlias

from anabranch.errors import WorkerLost
from anabranch.jobs.check import check_count
from anabranch.jobs.cores import usable_cores
from anabranch.jobs.executors import wire
from anabranch.jobs.executors.choice import is_async
from anabranch.jobs.executors.protocol import Reply
from anabranch.jobs.executors.staff import Office, Recent, Staff
from anabranch.jobs.executors.threads import plain
from anabranch.jobs.executors.waiting import settle

Packed: TypeAlias = tuple[bool, bytes]

# How long the jobs of a cancelled chunk may clean up before their actor is killed, and
# how long Ray may take to say that it is.
CANCEL_GRACE_S = 5.0

USAGE_STATS = "RAY_USAGE_STATS_ENABLED"


class RayExecutor:
    """Runs functions, also ``async def`` ones, in actors of a Ray cluster.

    It connects with its first use: to the Ray that this process is connected to already;
    else to the cluster at ``address``; else to one that it starts on this machine, without
    a dashboard and without Ray's usage statistics, unless ``RAY_USAGE_STATS_ENABLED``
    says otherwise. Executors of one process share what the first of them has made, and the
    last to close shuts it down. ``aclose`` ends the executor's actors, and no connection
    that was made elsewhere.

    A chunk's results come together, when its last item is done. An item whose worker was
    lost is sent again up to three times, so it may run more than once: the death of a
    machine loses nothing. A job that is cancelled is cancelled in its actor if it is
    asynchronous; a synchronous one is killed with its actor.

    The other machines need the same Python, anabranch with the extra ``ray``, and the
    modules that ``fn`` is from; what is defined in ``__main__`` travels with it.

    Args:
        address: The cluster, as ``ray.init`` takes it.
        actors: How many at most. Default: one for each CPU of the cluster, of which this
            machine's count until it is connected.
        chunk: Items sent at once.
        per_actor_concurrency: Items of a chunk that an actor runs at once.
        num_cpus: CPUs to reserve for an actor. By default none, so that actors never
            wait for a place; they are spread over the machines.
        num_gpus: GPUs to reserve for an actor.
        resources: Other resources to reserve for an actor.

    Raises:
        ImportError: The extra ``ray`` is not installed.
    """

    resend = 3

    def __init__(
        self,
        address: str | None = None,
        *,
        actors: int | None = None,
        chunk: int = 200,
        per_actor_concurrency: int = 32,
        num_cpus: float | None = None,
        num_gpus: float | None = None,
        resources: Mapping[str, float] | None = None,
    ) -> None:
        wire.need_cloudpickle("RayExecutor", "ray")
        self._ray = _import_ray()
        if actors is not None:
            check_count("actors", actors)
        check_count("chunk", chunk)
        check_count("per_actor_concurrency", per_actor_concurrency)
        self.chunk = chunk
        self._address = address
        self._actors = actors
        self._concurrency = per_actor_concurrency
        self._needs = {
            "num_cpus": num_cpus,
            "num_gpus": num_gpus,
            "resources": None if resources is None else dict(resources),
        }
        self._cluster_cpus: int | None = None
        self._own: _OwnRay | None = None
        self._office: Office[Any] = Office()  # handles of actors have no types
        self._numbers = count()
        # By identity, since a callable need not be hashable; held, so that it stays unique.
        self._functions: Recent[int, _Function] = Recent(wire.MOST_FUNCTIONS)
        self._session: object = None

    @property
    def slots(self) -> int:
        if self._actors is not None:
            return self._actors
        if self._cluster_cpus is None and self._ray.is_initialized():
            self._count_cpus()
        return self._cluster_cpus or usable_cores()

    async def run(self, fn: Callable[[Any], Any], items: Sequence[Any]) -> list[Reply]:
        staff = self._office.staff()
        with staff.at_work():
            parcel = wire.Parcel(items, "Ray")
            replies: list[Reply] = []
            if parcel.sent:
                await self._connect()
                async with staff.place(self.slots):
                    staff.check_open()
                    try:
                        replies = await self._ask(staff, fn, parcel.sent)
                    except self._losses as error:
                        lost = WorkerLost(_obituary(error, fn, items))
                        raise staff.blamed(lost) from error
            return parcel.replies(replies)

    async def aclose(self) -> None:
        """Kill the actors; the last executor to close shuts down a Ray started by one.

        A run that uses it fails with :class:`~anabranch.errors.ExecutorClosed`.
        """
        staff = self._office.dismissed()
        for actor in (*staff.idle, *staff.lent.values()):
            self._kill(actor)
        interrupted = await settle(staff.lent, timeout_s=CANCEL_GRACE_S)
        own, self._own, self._cluster_cpus = self._own, None, None
        if own is not None and own.leave():
            interrupted = await settle([asyncio.wrap_future(own.ended)]) or interrupted
            own.thread.join()
        if interrupted is not None:
            raise interrupted

    # ------------------------------------------------------------------- connecting

    async def _connect(self) -> None:
        if self._own is not None and self._own.is_gone():
            self._own.leave()
            self._own = None
        if self._own is None:
            self._own = _OwnRay.join(self._ray, self._address)
        if (own := self._own) is not None:
            try:
                await asyncio.shield(asyncio.wrap_future(own.begun))
            except Exception:
                if self._own is own:
                    self._own = None  # the next may try again
                raise
        if self._cluster_cpus is None:
            self._count_cpus()

    def _is_of_another_session(self) -> bool:
        """Whether Ray was shut down and started since this was last asked."""
        context = self._ray.get_runtime_context()
        last, self._session = self._session, (context.get_node_id(), context.get_job_id())
        return last != self._session

    def _count_cpus(self) -> None:
        self._cluster_cpus = int(self._ray.cluster_resources().get("CPU", 1)) or 1

    # ----------------------------------------------------------------------- asking

    async def _ask(
        self, staff: Staff[Any], fn: Callable[[Any], Any], items: list[bytes]
    ) -> list[Reply]:
        if self._is_of_another_session():
            staff.idle.clear()
            self._functions.clear()
        function = self._functions.use(id(fn), lambda: self._sent(fn))
        actor = staff.idle.pop() if staff.idle else self._start()
        call = actor.run.remote(function.number, function.reference, items)
        answer: asyncio.Future[Any] = asyncio.wrap_future(call.future())
        staff.lent[answer] = actor
        try:
            flags, parts = await asyncio.shield(answer)
        except asyncio.CancelledError:
            if await self._is_cancelled(call, answer, actor, function):
                self._give_back(staff, actor)
            raise
        except BaseException:
            self._kill(actor)
            raise
        finally:
            del staff.lent[answer]
        self._give_back(staff, actor)
        return [wire.unpack(ok, part) for ok, part in zip(flags, parts, strict=True)]

    def _sent(self, fn: Callable[[Any], Any]) -> _Function:
        reference = self._ray.put(wire.dumps_function(fn))
        return _Function(fn, next(self._numbers), reference)

    def _give_back(self, staff: Staff[Any], actor: Any) -> None:
        if staff.closed:  # meanwhile: the answer came just before
            self._kill(actor)
        else:
            staff.idle.append(actor)

    def _start(self) -> Any:
        needs = {name: need for name, need in self._needs.items() if need is not None}
        # An actor that reserves nothing would else be put where the last one is.
        remote = self._ray.remote(JobActor).options(scheduling_strategy="SPREAD", **needs)
        return remote.remote(self._concurrency)

    async def _is_cancelled(
        self, call: Any, answer: asyncio.Future[Any], actor: Any, function: _Function
    ) -> bool:
        """End a call; whether its actor is still of use."""
        if function.is_async:
            self._ray.cancel(call)
            await settle([answer], timeout_s=CANCEL_GRACE_S)
        if answer.done() and isinstance(
            answer.exception(), self._ray.exceptions.TaskCancelledError | None
        ):
            return True
        self._kill(actor)
        await settle([answer], timeout_s=CANCEL_GRACE_S)
        if answer.done():
            answer.exception()  # seen: it was killed
        return False

    def _kill(self, actor: Any) -> None:
        # It may be dead already, and so may Ray.
        with suppress(Exception):
            self._ray.kill(actor)

    @property
    def _losses(self) -> tuple[type[Exception], ...]:
        errors = self._ray.exceptions
        return (
            errors.RayActorError,
            errors.WorkerCrashedError,
            errors.NodeDiedError,
            errors.LocalRayletDiedError,
            errors.ObjectLostError,
            errors.OutOfMemoryError,
        )


class _OwnRay:
    """The connection to Ray that executors of this process have made, and share.

    It has a thread that lives as long: making it blocks for seconds, and the processes
    that Ray starts on this machine are told to die with the *thread* that has started
    them, so it can be none of a pool's.
    """

    _lock = threading.Lock()
    _last: ClassVar[_OwnRay | None] = None

    def __init__(self, ray: Any, address: str | None, after: _OwnRay | None) -> None:
        self.begun: Future[None] = Future()
        self.ended: Future[None] = Future()
        self._ray = ray
        self._address = address
        self._after = after
        self._users = 0
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._live, name="anabranch-ray", daemon=True)
        self.thread.start()

    @classmethod
    def join(cls, ray: Any, address: str | None) -> _OwnRay | None:
        """The shared connection, made if need be; None if Ray is connected by others."""
        with cls._lock:
            last = cls._last
            if last is not None and last.is_gone():
                last.over.set()
            if last is not None and last.ended.done():
                last = None
            if last is None and ray.is_initialized():
                return None
            if last is None or last.over.is_set():
                last = cls._last = cls(ray, address, after=last)
            last._users += 1
            return last

    def is_gone(self) -> bool:
        """Whether somebody else has shut down what was made here."""
        return self.begun.done() and not self._ray.is_initialized()

    def leave(self) -> bool:
        """Whether its last user has left: it shuts down, and ``ended`` follows."""
        with self._lock:
            self._users -= 1
            if self._users == 0:
                self.over.set()
            return self.over.is_set()

    def _live(self) -> None:
        try:
            if self._after is not None:
                self._after.ended.result()
                self._after = None
            with _silent_by_default():
                # Below "error" it tells that it is in a thread, and about its tokens.
                self._ray.init(
                    address=self._address, include_dashboard=False, logging_level="error"
                )
        except BaseException as error:
            self.begun.set_exception(error)
        else:
            self.begun.set_result(None)
            self.over.wait()
            self._ray.shutdown()
        finally:
            self.ended.set_result(None)


class _Function:
    """A function, and where the cluster has it."""

    def __init__(self, fn: Callable[[Any], Any], number: int, reference: Any) -> None:
        self.fn = fn
        self.is_async = is_async(fn)
        self.number = number
        self.reference = reference


class JobActor:
    """What runs chunks in a process of Ray's; named for its log lines."""

    def __init__(self, concurrency: int) -> None:
        self._concurrency = concurrency
        self._functions: Recent[int, Callable[[Any], Any]] = Recent(wire.MOST_FUNCTIONS)
        self._threads: ThreadPoolExecutor | None = None

    async def run(
        self, number: int, function: bytes, items: list[bytes]
    ) -> tuple[list[bool], list[bytes]]:
        """The packed replies: for each whether it succeeded, and the data."""
        try:
            fn = self._functions.use(number, lambda: wire.loads(function))
        except Exception as error:
            packed = [wire.pack(None, (False, _noted(error)))] * len(items)
        else:
            run = self._on_the_loop if is_async(fn) else self._in_threads
            packed = await run(fn, items)
        return [ok for ok, _ in packed], [data for _, data in packed]

    async def _on_the_loop(
        self, fn: Callable[[Any], Any], items: list[bytes]
    ) -> list[Packed]:
        from anabranch.jobs import amap  # the runner that this is one of the homes of

        async def job(data: bytes) -> Packed:
            try:
                reply: Reply = (True, await fn(wire.loads(data)))
            except asyncio.CancelledError:
                raise  # of the chunk, or the job's own: the runner knows
            except BaseException as error:
                reply = (False, _judged(error))
            return wire.pack(fn, reply)

        outcomes = await amap(job, items, concurrency=self._concurrency, errors="return")
        return [
            wire.pack(fn, (False, outcome.error)) if outcome.error else outcome.result()
            for outcome in outcomes
        ]

    async def _in_threads(
        self, fn: Callable[[Any], Any], items: list[bytes]
    ) -> list[Packed]:
        pending = deque(enumerate(items))
        packed: dict[int, Packed] = {}

        def work() -> None:
            with suppress(IndexError):  # there is none left
                while True:
                    index, data = pending.popleft()
                    packed[index] = _attempt(fn, data)

        if self._threads is None:
            self._threads = ThreadPoolExecutor(self._concurrency)
        loop = asyncio.get_running_loop()
        threads = [
            loop.run_in_executor(self._threads, work)
            for _ in range(min(self._concurrency, len(items)))
        ]
        await asyncio.gather(*threads)
        return [packed[index] for index in range(len(items))]


def _attempt(fn: Callable[[Any], Any], data: bytes) -> Packed:
    try:
        reply: Reply = (True, plain(fn(wire.loads(data))))
    except BaseException as error:
        reply = (False, _judged(error))
    return wire.pack(fn, reply)


def _judged(error: BaseException) -> BaseException:
    if isinstance(error, SystemExit):
        # The function ends its process, which asyncio and Ray would not survive in part.
        os._exit(error.code if isinstance(error.code, int) else 1)
    return _noted(error)


def _noted(error: BaseException) -> BaseException:
    return wire.with_traceback(error, f"Ray actor in process {os.getpid()}", __file__)


def _obituary(error: Exception, fn: object, items: Sequence[object]) -> str:
    said, _, _ = " ".join(str(error).split()).partition(" Some common causes")
    return f"a Ray actor was lost while it ran {wire.described(fn, items)}: {said}"


def _import_ray() -> Any:
    # It has types, but nearly everything that it returns is Any.
    try:
        import ray
    except ModuleNotFoundError as error:
        raise ImportError("RayExecutor needs ray: pip install 'anabranch[ray]'") from error
    return ray


@contextmanager
def _silent_by_default() -> Generator[None]:
    """A Ray that starts reads from its environment whether to report to its makers."""
    if USAGE_STATS in os.environ:
        yield
        return
    os.environ[USAGE_STATS] = "0"
    try:
        yield
    finally:
        del os.environ[USAGE_STATS]
