"""What keeps runs: the same two workflows in each one's own words.

An engine is made with a place, the path of a file or the URL of a database, and with what
the steps do; it then has the packages that it needs. Only from :meth:`Engine.open` on it
costs time that is measured.

Everywhere the defaults of the documentation, but for what would stop a long run, and for
LangGraph's ``durability``, which by default lets a step begin before the one before it is
stored. So the files of SQLite are as each engine has them: all but ours and the first floor
wait for the disk at each commit (LangGraph's with a log, the others without).
"""

# No postponed annotations here: what engines read from them are local classes.

import asyncio
import json
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from importlib import import_module
from typing import Any, ClassVar, Self, TypeAlias, TypedDict

AT_ONCE = 32

Answer: TypeAlias = Callable[[str, float], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Bodies:
    """What is done in steps.

    Attributes:
        step: One of a chain: what is left before it, and behind it.
        told: The one that waited for an answer, which says when it was sent.
    """

    step: Callable[[int], int]
    told: Callable[[float], None]


class Tally:
    """Counts, and lets wait for a number."""

    def __init__(self) -> None:
        self.number = 0
        self._changed = asyncio.Event()

    def add(self) -> None:
        self.number += 1
        self._changed.set()

    async def reaches(self, number: int) -> None:
        while self.number < number:
            self._changed.clear()
            await self._changed.wait()


class Engine:
    """Who keeps and runs workflows; its runs have names.

    Attributes:
        has_outside: Whether another process can answer a run that waits.
    """

    has_outside: ClassVar[bool] = False

    def __init__(self, place: str, bodies: Bodies) -> None:
        self.place = place
        self.step, self.told = bodies.step, bodies.told
        self.exits = AsyncExitStack()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.exits.aclose()

    async def open(self) -> None:
        """Open the place, made if it is new; runs that were cut off may go on by that."""
        raise NotImplementedError

    async def chain(self, run: str, count: int) -> int:
        """A run of that many steps, to its end: how many are left."""
        raise NotImplementedError

    async def take_up(self, run: str) -> int:
        """The rest of a run that was cut off: how many are left."""
        raise NotImplementedError

    def age(self) -> None:
        """Make what is there older, where what is young is not taken up."""

    # ------------------------------------------------------------ runs that wait

    async def serve(self) -> None:
        """Have somebody there who drives runs, where that is not who starts them."""

    async def ask(self, run: str) -> None:
        """Start a run that asks somebody, and waits."""
        raise NotImplementedError

    async def all_wait(self, count: int) -> None:
        """Return when so many of them wait, and hold as little memory as they can."""

    async def answer(self, run: str, sent_at: float) -> None:
        """Answer a run that waits."""
        raise NotImplementedError

    async def outside(self) -> Answer:
        """How another process answers; it opens nothing else."""
        raise NotImplementedError


# ------------------------------------------------------------------------------ the floors
# What one writes by hand: behind each step what is left is inserted, and committed. It
# knows nobody else who may drive the run, no events, and nobody who looks.


class FloorSQLite(Engine):
    synchronous = "NORMAL"

    async def open(self) -> None:
        self.db = sqlite3.connect(self.place, isolation_level=None)
        self.exits.callback(self.db.close)
        self.db.execute("PRAGMA journal_mode = WAL")
        self.db.execute(f"PRAGMA synchronous = {self.synchronous}")
        self.db.execute(
            "CREATE TABLE IF NOT EXISTS steps (run TEXT, number INTEGER, state TEXT, "
            "PRIMARY KEY (run, number))"
        )

    async def chain(self, run: str, count: int, number: int = 0) -> int:
        left = count
        while left:
            left = self.step(left)
            number += 1
            state = json.dumps({"left": left})
            self.db.execute("INSERT INTO steps VALUES (?, ?, ?)", (run, number, state))
        return left

    async def take_up(self, run: str) -> int:
        number, state = self.db.execute(
            "SELECT number, state FROM steps WHERE run = ? ORDER BY number DESC LIMIT 1",
            (run,),
        ).fetchone()
        return await self.chain(run, json.loads(state)["left"], number)


class FloorSQLitePower(FloorSQLite):
    synchronous = "FULL"


class FloorPostgres(Engine):
    """One connection a run at once; a statement is a transaction, and prepared."""

    def __init__(self, place: str, bodies: Bodies) -> None:
        super().__init__(place, bodies)
        from psycopg_pool import AsyncConnectionPool

        self.pool = AsyncConnectionPool(
            place, min_size=1, max_size=AT_ONCE, kwargs={"autocommit": True}, open=False
        )

    async def open(self) -> None:
        await self.exits.enter_async_context(self.pool)
        await self.pool.wait()
        async with self.pool.connection() as db:
            await db.execute(
                "CREATE TABLE IF NOT EXISTS steps (run text, number bigint, state text, "
                "PRIMARY KEY (run, number))"
            )

    async def chain(self, run: str, count: int, number: int = 0) -> int:
        left = count
        async with self.pool.connection() as db:
            while left:
                left = self.step(left)
                number += 1
                state = json.dumps({"left": left})
                await db.execute(
                    "INSERT INTO steps VALUES (%s, %s, %s)", (run, number, state)
                )
        return left

    async def take_up(self, run: str) -> int:
        async with self.pool.connection() as db:
            found = await db.execute(
                "SELECT number, state FROM steps WHERE run = %s ORDER BY number DESC "
                "LIMIT 1",
                (run,),
            )
            row = await found.fetchone()
        assert row is not None
        return await self.chain(run, json.loads(row[1])["left"], row[0])


# ------------------------------------------------------------------------------------ DBOS
# A workflow calls steps: what each returned is a row, looked for before it is called. A
# workflow that is taken up runs from its beginning, and is given what is in the rows.


class DBOS(Engine):
    has_outside = True

    def __init__(self, place: str, bodies: Bodies) -> None:
        super().__init__(place, bodies)
        import dbos

        self.dbos, self.client, self.named = dbos.DBOS, dbos.DBOSClient, dbos.SetWorkflowID
        said = self.dbos

        @said.step()
        async def go(left: int) -> int:
            return self.step(left)

        @said.workflow()
        async def chain(count: int) -> int:
            left = count
            while left:
                left = await go(left)
            return left

        @said.workflow()
        async def ask() -> None:
            self.waiting.add()
            self.told(await said.recv_async("answer", timeout_seconds=86_400))

        self.workflow, self.asking = chain, ask
        self.waiting = Tally()

    async def open(self) -> None:
        self.dbos(
            config={
                "name": "benchmark",
                "system_database_url": self._url,
                "application_version": "1",
                "log_level": "ERROR",
            }
        )
        self.exits.callback(self.dbos.destroy)
        self.dbos.launch()

    @property
    def _url(self) -> str:
        return self.place if "://" in self.place else f"sqlite:///{self.place}"

    async def chain(self, run: str, count: int) -> int:
        with self.named(run):
            return await self.workflow(count)

    async def take_up(self, run: str) -> int:
        return await (await self.dbos.retrieve_workflow_async(run)).get_result()

    async def ask(self, run: str) -> None:
        with self.named(run):
            await self.dbos.start_workflow_async(self.asking)

    async def all_wait(self, count: int) -> None:
        # Their coroutines stay in memory.
        await self.waiting.reaches(count)
        await asyncio.sleep(0.5)

    async def answer(self, run: str, sent_at: float) -> None:
        await self.dbos.send_async(run, sent_at, "answer")

    async def outside(self) -> Answer:
        client = self.client(system_database_url=self._url)
        self.exits.callback(client.destroy)
        return lambda run, sent_at: client.send_async(run, sent_at, "answer")


# ------------------------------------------------------------------------------- LangGraph
# Behind each step the whole state is a checkpoint, which is stored before the next begins,
# and what the step wrote is a row besides. Who answers a run goes on with it.


class _Chain(TypedDict):
    left: int


class _Asked(TypedDict):
    sent_at: float | None


class LangGraph(Engine):
    def __init__(self, place: str, bodies: Bodies) -> None:
        super().__init__(place, bodies)
        from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
        from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
        from langgraph.graph import END, START, StateGraph
        from langgraph.types import Command, interrupt
        from psycopg.rows import dict_row
        from psycopg_pool import AsyncConnectionPool

        async def go(state: _Chain) -> _Chain:
            return {"left": self.step(state["left"])}

        async def ask(_: _Asked) -> _Asked:
            sent_at = interrupt("go on?")
            self.told(sent_at)
            return {"sent_at": sent_at}

        self.chaining = StateGraph(_Chain)
        self.chaining.add_node("go", go)
        self.chaining.add_edge(START, "go")
        self.chaining.add_conditional_edges("go", lambda s: "go" if s["left"] else END)
        self.asking = StateGraph(_Asked)
        self.asking.add_node("ask", ask)
        self.asking.add_edge(START, "ask")
        self.asking.add_edge("ask", END)

        async def saver() -> Any:
            if "://" not in place:
                made = AsyncSqliteSaver.from_conn_string(place)
                return await self.exits.enter_async_context(made)
            said = {"autocommit": True, "prepare_threshold": 0, "row_factory": dict_row}
            pool = AsyncConnectionPool(place, max_size=AT_ONCE, kwargs=said, open=False)
            return AsyncPostgresSaver(await self.exits.enter_async_context(pool))

        self.saver, self.answered = saver, Command

    async def open(self) -> None:
        saver = await self.saver()
        await saver.setup()
        self.graph = self.chaining.compile(checkpointer=saver)
        self.asker = self.asking.compile(checkpointer=saver)

    async def chain(self, run: str, count: int) -> int:
        return await self._go_on(run, {"left": count})

    async def take_up(self, run: str) -> int:
        return await self._go_on(run, None)

    async def _go_on(self, run: str, state: Any) -> int:
        options = {"recursion_limit": 10**9, "configurable": {"thread_id": run}}
        return (await self.graph.ainvoke(state, options, durability="sync"))["left"]

    async def ask(self, run: str) -> None:
        options = {"configurable": {"thread_id": run}}
        await self.asker.ainvoke({"sent_at": None}, options, durability="sync")

    async def answer(self, run: str, sent_at: float) -> None:
        options = {"configurable": {"thread_id": run}}
        answered = self.answered(resume=sent_at)
        await self.asker.ainvoke(answered, options, durability="sync")


# ------------------------------------------------------------------------------------ Burr
# Behind each action the whole state is a row. Who answers a run builds its application from
# the last one, and goes on with it.


class Burr(Engine):
    def __init__(self, place: str, bodies: Bodies) -> None:
        super().__init__(place, bodies)
        from burr.core import ApplicationBuilder, GraphBuilder, State, action, default, expr
        from burr.integrations.persisters.b_aiosqlite import AsyncSQLitePersister
        from burr.integrations.persisters.b_asyncpg import AsyncPostgreSQLPersister
        from psycopg.conninfo import conninfo_to_dict

        @action(reads=["left"], writes=["left"])
        async def go(state: State) -> State:
            return state.update(left=self.step(state["left"]))

        @action(reads=["left"], writes=["result"])
        async def stop(state: State) -> State:
            return state.update(result=state["left"])

        @action(reads=[], writes=["asked"])
        async def ask(state: State) -> State:
            return state.update(asked="go on?")

        @action(reads=[], writes=["sent_at"])
        async def take(state: State, sent_at: float) -> State:
            self.told(sent_at)
            return state.update(sent_at=sent_at)

        chain = GraphBuilder().with_actions(go, stop)
        again = ("go", "go", expr("left > 0"))
        self.graph = chain.with_transitions(again, ("go", "stop", default)).build()
        asker = GraphBuilder().with_actions(ask, take)
        self.asker = asker.with_transitions(("ask", "take")).build()
        self.builder = ApplicationBuilder

        def persister() -> Any:
            if "://" not in place:
                return AsyncSQLitePersister.from_values(place)
            found = conninfo_to_dict(place)
            return AsyncPostgreSQLPersister.from_values(
                found["dbname"], found["user"], found["password"], found["host"],
                int(found["port"]), use_pool=True, max_size=AT_ONCE,
            )  # fmt: skip

        self.made = persister

    async def open(self) -> None:
        self.persister = await self.exits.enter_async_context(self.made())
        if pool := getattr(self.persister, "pool", None):
            self.exits.push_async_callback(pool.close)
        await self.persister.initialize()

    async def _application(self, graph: Any, run: str, first: str, state: Any) -> Any:
        made = self.builder().with_graph(graph)
        # In PostgreSQL it wants a partition, so it gets the default one of SQLite.
        made = made.with_identifiers(app_id=run, partition_key="").initialize_from(
            self.persister,
            resume_at_next_action=True,
            default_state=state,
            default_entrypoint=first,
        )
        return await made.with_state_persister(self.persister).abuild()

    async def chain(self, run: str, count: int) -> int:
        application = await self._application(self.graph, run, "go", {"left": count})
        _, _, state = await application.arun(halt_after=["stop"])
        return state["result"]

    async def take_up(self, run: str) -> int:
        return await self.chain(run, 0)

    async def ask(self, run: str) -> None:
        application = await self._application(self.asker, run, "ask", {"asked": None})
        await application.arun(halt_before=["take"])

    async def answer(self, run: str, sent_at: float) -> None:
        application = await self._application(self.asker, run, "ask", {"asked": None})
        await application.arun(halt_after=["take"], inputs={"sent_at": sent_at})


# --------------------------------------------------------------------------------- by name


@dataclass(frozen=True, slots=True)
class Row:
    """An engine at a place.

    Attributes:
        engine: Its module and class.
        floor: The row of the floor that keeps runs as safely, or less so if there is none.
    """

    engine: str
    floor: str

    @property
    def on_postgres(self) -> bool:
        """Whether its place is a database of the server."""
        return self.floor == POSTGRES_FLOOR

    def made(self, place: str, bodies: Bodies) -> Engine:
        """The engine with what it needs imported."""
        module, name = self.engine.split(":")
        made: type[Engine] = getattr(import_module(module), name)
        return made(place, bodies)


PROCESS_FLOOR = "SQLite: floor, process"
POWER_FLOOR = "SQLite: floor, power"
POSTGRES_FLOOR = "PostgreSQL: floor"
_HERE, _LLAMA, _OURS = (
    f"benchmarks.durable_{name}" for name in ("engines", "llama", "ours")
)

# Ours last: a picture sets the last rows off.
ROWS = {
    PROCESS_FLOOR: Row(f"{_HERE}:FloorSQLite", PROCESS_FLOOR),
    POWER_FLOOR: Row(f"{_HERE}:FloorSQLitePower", POWER_FLOOR),
    "SQLite: dbos": Row(f"{_HERE}:DBOS", POWER_FLOOR),
    "SQLite: langgraph": Row(f"{_HERE}:LangGraph", POWER_FLOOR),
    "SQLite: burr": Row(f"{_HERE}:Burr", POWER_FLOOR),
    "SQLite: llama-agents": Row(f"{_LLAMA}:LlamaAgents", POWER_FLOOR),
    POSTGRES_FLOOR: Row(f"{_HERE}:FloorPostgres", POSTGRES_FLOOR),
    "PostgreSQL: dbos": Row(f"{_HERE}:DBOS", POSTGRES_FLOOR),
    "PostgreSQL: langgraph": Row(f"{_HERE}:LangGraph", POSTGRES_FLOOR),
    "PostgreSQL: burr": Row(f"{_HERE}:Burr", POSTGRES_FLOOR),
    "PostgreSQL: llama-agents": Row(f"{_LLAMA}:LlamaAgents", POSTGRES_FLOOR),
    "SQLite: anabranch, process": Row(f"{_OURS}:OnSQLite", PROCESS_FLOOR),
    "SQLite: anabranch, power": Row(f"{_OURS}:OnSQLitePower", POWER_FLOOR),
    "PostgreSQL: anabranch": Row(f"{_OURS}:OnPostgres", POSTGRES_FLOOR),
}
