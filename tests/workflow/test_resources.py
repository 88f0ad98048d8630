"""Resources: made once or for each execution, shared, nested, closed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Annotated, Any

import pytest

from anabranch.testing import run_virtual
from anabranch.workflow import (
    Event,
    Resource,
    ResourceManager,
    StartEvent,
    StopEvent,
    Workflow,
    WorkflowCancelledByUser,
    WorkflowTimeoutError,
    step,
)

log: list[str] = []


@pytest.fixture(autouse=True)
def _fresh_log() -> None:
    log.clear()


class A(Event):
    n: int


class Client:
    def __init__(self) -> None:
        log.append("made")


async def slow_client() -> Client:
    await asyncio.sleep(1)
    return Client()


def nested(client: Annotated[Client, Resource(slow_client)]) -> tuple[str, Client]:
    return ("nested", client)


async def opened() -> AsyncIterator[str]:
    log.append("opened")
    yield "open"
    await asyncio.sleep(0)
    log.append("closed")


def plain_opened() -> Iterator[str]:
    log.append("opened")
    try:
        yield "open"
    finally:
        log.append("closed")


def flow(mark: Any, steps: int = 4, **options: Any) -> Workflow:
    """Its workers each ask for the resource."""

    class Flow(Workflow):
        @step
        async def start(self, ev: StartEvent) -> list[A]:
            return [A(n=n) for n in range(steps)]

        @step
        async def work(self, ev: A, resource: Annotated[Any, mark]) -> A | None:
            log.append("used")
            await asyncio.sleep(1)
            seen.append(resource)
            return None

        @step
        async def end(self, ev: StartEvent) -> StopEvent:
            await asyncio.sleep(20)
            return StopEvent(result=list(seen))

    seen: list[Any] = []
    return Flow(skip_graph_checks={"dead_end"}, **options)


async def _result(made: Workflow) -> Any:
    return await made.run()


def test_a_cached_resource_is_made_once_however_many_ask_at_once() -> None:
    made = flow(Resource(slow_client))
    first = run_virtual(_result(made))
    assert log.count("made") == 1
    assert len(set(map(id, first))) == 1
    again = run_virtual(_result(made))
    assert log.count("made") == 1
    assert again[-1] is first[0]
    run_virtual(_result(flow(Resource(slow_client))))
    assert log.count("made") == 2


def test_one_that_is_not_cached_is_made_for_each_execution() -> None:
    seen = run_virtual(_result(flow(Resource(slow_client, cache=False))))
    assert log.count("made") == len(set(map(id, seen))) == 4


def test_resources_may_need_resources() -> None:
    seen = run_virtual(_result(flow(Resource(nested))))
    assert {name for name, _ in seen} == {"nested"}
    assert log.count("made") == 1


@pytest.mark.parametrize(
    "factory",
    [opened, plain_opened, asynccontextmanager(opened), contextmanager(plain_opened)],
    ids=["async generator", "generator", "async context manager", "context manager"],
)
def test_what_a_factory_yields_is_closed_with_the_run(factory: Any) -> None:
    made = flow(Resource(factory))
    assert run_virtual(_result(made)) == ["open"] * 4
    assert log == ["opened", *["used"] * 4, "closed"]
    run_virtual(_result(made))
    assert log.count("opened") == log.count("closed") == 2


def test_or_with_the_execution_if_it_is_not_cached() -> None:
    run_virtual(_result(flow(Resource(opened, cache=False), steps=1)))
    assert log == ["opened", "used", "closed"]
    log.clear()
    run_virtual(_result(flow(Resource(opened, cache=False))))
    assert log.count("opened") == log.count("closed") == 4


def test_it_is_closed_whatever_the_runs_end() -> None:
    class Ends(Workflow):
        @step
        async def work(
            self, ev: StartEvent, resource: Annotated[str, Resource(plain_opened)]
        ) -> StopEvent:
            if ev.how == "fails":
                raise ValueError
            await asyncio.sleep(100)
            return StopEvent()

    async def main(how: str) -> None:
        handler = Ends(timeout=50).run(how=how)
        await asyncio.sleep(1)
        if how == "cancelled":
            await handler.cancel_run()
        with pytest.raises(
            (ValueError, WorkflowCancelledByUser, WorkflowTimeoutError), match=r".*"
        ):
            await handler
        assert log == ["opened", "closed"]
        log.clear()

    for how in ("fails", "cancelled", "timed out"):
        run_virtual(main(how))


def test_a_resource_that_cannot_be_made_is_the_steps_failure() -> None:
    def broken() -> int:
        raise OSError("no key")

    with pytest.raises(OSError, match="no key"):
        run_virtual(_result(flow(Resource(broken))))


def test_one_that_cannot_be_closed_costs_no_result(caplog: Any) -> None:
    def stuck() -> Iterator[int]:
        yield 1
        raise OSError("will not close")

    assert run_virtual(_result(flow(Resource(stuck)))) == [1] * 4
    assert "will not close" in caplog.text


def test_one_that_does_not_close_is_given_up(caplog: Any) -> None:
    async def hangs() -> AsyncIterator[int]:
        yield 1
        await asyncio.sleep(3600)

    async def main() -> float:
        assert await flow(Resource(hangs), steps=1).run() == [1]
        return asyncio.get_running_loop().time()

    assert run_virtual(main()) == 20 + 30
    assert "could not be closed" in caplog.text


def test_a_manager_gives_what_was_put_in_by_name_and_may_be_shared() -> None:
    async def main() -> None:
        manager = ResourceManager()
        await manager.set("slow_client", "double")
        made = flow(Resource(slow_client), resource_manager=manager)
        assert await made.run() == ["double"] * 4
        assert manager.get_all() == {"slow_client": "double"}
        other = ResourceManager()
        client = await other.get(Resource(slow_client))
        assert other.get_all() == {"slow_client": client}
        assert await other.get(Resource(slow_client)) is client

    run_virtual(main())


def test_factories_of_the_same_name_are_not_taken_for_each_other() -> None:
    async def main() -> None:
        manager = ResourceManager()
        assert await manager.get(Resource(lambda: 1)) == 1
        assert await manager.get(Resource(lambda: 2)) == 2

    run_virtual(main())
