"""Durable workflows in LlamaIndex's words; see :mod:`benchmarks.durable_engines`.

Its server stores each tick of a run's loop, each event of its stream and how the run
stands, each in a transaction. Requests are made in the server's process, without a socket.
Runs that wait are not measured: nothing refers to them, so that now and then one is
collected as garbage, and its answer is lost (release 0.8.0).
"""

import asyncio
import sqlite3
from typing import Any

import httpx
import psycopg
from llama_agents.server import SqliteWorkflowStore, WorkflowServer

# It is in no module without an underscore, though the documentation names it.
from llama_agents.server._store.postgres_workflow_store import PostgresWorkflowStore
from workflows import Workflow, step
from workflows.events import Event, StartEvent, StopEvent

from benchmarks.durable_engines import Bodies, Engine


class Start(StartEvent):
    left: int


class Go(Event):
    left: int


class Chain(Workflow):
    bodies: Bodies

    @step
    async def start(self, ev: Start) -> Go | StopEvent:
        return self.behind(ev.left)

    @step
    async def go(self, ev: Go) -> Go | StopEvent:
        return self.behind(ev.left)

    def behind(self, left: int) -> Go | StopEvent:
        left = self.bodies.step(left)
        return Go(left=left) if left else StopEvent(result=left)


class LlamaAgents(Engine):
    def __init__(self, place: str, bodies: Bodies) -> None:
        super().__init__(place, bodies)
        self.workflow = Chain(timeout=None)
        self.workflow.bodies = bodies

    async def open(self) -> None:
        store = self._store()
        if isinstance(store, PostgresWorkflowStore):
            self.exits.push_async_callback(store.close)
        server = WorkflowServer(workflow_store=store)
        server.add_workflow("chain", self.workflow)
        await self.exits.enter_async_context(server.contextmanager())
        client = httpx.AsyncClient(
            transport=httpx.ASGITransport(app=server.app),
            base_url="http://benchmark",
            timeout=600,
        )
        self.client = await self.exits.enter_async_context(client)

    def _store(self) -> Any:
        if "://" not in self.place:
            return SqliteWorkflowStore(self.place)
        return PostgresWorkflowStore(self.place)

    async def _post(self, path: str, **body: Any) -> Any:
        answer = await self.client.post(path, json=body)
        answer.raise_for_status()
        return answer.json()

    async def chain(self, run: str, count: int) -> int:
        start = {"left": count}
        path = "/workflows/chain/run"
        done = await self._post(path, handler_id=run, start_event=start)
        return done["result"]["value"]["result"]

    def age(self) -> None:
        # Runs of the last half minute are not taken up when a server starts.
        if "://" not in self.place:
            with sqlite3.connect(self.place) as db:
                db.execute("UPDATE handlers SET started_at = '2020-01-01T00:00:00+00:00'")
            db.close()
            return
        with psycopg.connect(self.place) as db:
            db.execute("UPDATE wf_handlers SET started_at = '2020-01-01 00:00:00+00'")

    async def take_up(self, run: str) -> int:
        while True:
            found = (await self.client.get(f"/handlers/{run}")).json()
            if found["status"] != "running":
                return found["result"]["value"]["result"]
            await asyncio.sleep(0.05)
