"""A pipeline on processes and on a real Ray: one store, many workers."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from anabranch.errors import SourceError
from anabranch.jobs import Executor, ProcessExecutor, RayExecutor
from anabranch.observe import Observer
from anabranch.rag import Embedder, Report, SqliteStore
from anabranch.rag.distributed import DistributedPipeline
from tests.rag.parts import HashEmbedder
from tests.rag.pipeline.elsewhere import Deadly, Loaded, Service, parts
from tests.rag.pipeline.running import held, metadata


def write_files(folder: Path, count: int, lines: int = 5) -> list[str]:
    folder.mkdir(exist_ok=True)
    names: list[str] = []
    for number in range(count):
        place = folder / f"{number:03}.txt"
        place.write_text("\n".join(f"{number} line {line}" for line in range(lines)))
        names.append(str(place))
    return names


async def each(names: list[str]) -> AsyncIterator[str | SourceError]:
    for name in names:
        yield name
    yield SourceError("the cellar", "cannot be listed")


async def run(
    folder: Path,
    names: list[str],
    executor: Executor,
    *,
    embedder: Callable[[], Embedder] = HashEmbedder,
    shard: int = 8,
    observer: Observer | None = None,
) -> Report:
    try:
        async with await SqliteStore.create(folder / "index", HashEmbedder()) as store:
            pipeline = DistributedPipeline(
                embedder=embedder, parts=parts, store=store, executor=executor, shard=shard
            )
            report = await pipeline.run(each(names), observer=observer)
            await store.sweep()
            return report
    finally:
        await executor.aclose()


def expected(names: list[str]) -> dict[str, list[str]]:
    return {name: Path(name).read_text().splitlines() for name in names}


@pytest.fixture(scope="module")
def local_ray() -> Iterator[None]:
    ray = pytest.importorskip("ray")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        ray.init(
            num_cpus=2, include_dashboard=False, logging_level="error", log_to_driver=False
        )
        yield
        ray.shutdown()


class Telling(Observer):
    def __init__(self) -> None:
        self.ended_sources: list[object] = []
        self.stages: set[str] = set()

    def finished(self, label: object, error: BaseException | None) -> None:
        self.ended_sources.append(label)

    def flowed(self, stages: object) -> None:
        self.stages = {stage.name for stage in stages}  # type: ignore[attr-defined]


def test_processes_index_what_one_process_would(tmp_path: Path) -> None:
    names = write_files(tmp_path / "docs", 50)
    (tmp_path / "docs" / "049.txt").write_bytes(b"\0\0\0\0")
    telling = Telling()

    async def main() -> None:
        report = await run(tmp_path, names, ProcessExecutor(2), observer=telling)
        assert (report.sources, report.new, report.chunks) == (51, 49, 245)
        assert {Path(error.uri).name for error in report.broken} == {
            "049.txt",
            "the cellar",
        }
        assert await held(tmp_path) == expected(names[:-1])
        assert await metadata(tmp_path, "tag") == {"x"}
        assert sorted(map(str, telling.ended_sources)) == sorted([*names, "the cellar"])
        done = {stage.name: stage.done for stage in report.stages}
        assert done["embed"] == done["store"] == done["tag"] == 245

        Path(names[7]).write_text("a changed line")
        again = await run(tmp_path, names, ProcessExecutor(2))
        assert (again.unchanged, again.changed, again.new) == (48, 1, 0)
        assert again.embedded == 1
        assert await held(tmp_path) == expected(names[:-1])

    asyncio.run(main())


def test_a_model_is_loaded_once_in_each_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOADED", str(tmp_path / "loaded"))
    names = write_files(tmp_path / "docs", 60)
    asyncio.run(run(tmp_path, names, ProcessExecutor(2), embedder=Loaded, shard=4))
    loaded = (tmp_path / "loaded").read_text().split()
    assert len(loaded) == len(set(loaded)) <= 2


def test_an_embedder_that_must_be_open_is_opened_for_each_shard(tmp_path: Path) -> None:
    names = write_files(tmp_path / "docs", 12)
    report = asyncio.run(
        run(tmp_path, names, ProcessExecutor(1), embedder=Service, shard=4)
    )
    assert (report.new, len(report.broken)) == (12, 1)


def test_a_worker_that_dies_costs_its_shard_once_more_and_nothing_else(
    tmp_path: Path,
) -> None:
    names = write_files(tmp_path / "docs", 20)
    with Path(names[13]).open("a") as file:
        file.write(f"\ndeadly {tmp_path / 'died'}")

    async def main() -> None:
        report = await run(tmp_path, names, ProcessExecutor(2), embedder=Deadly, shard=4)
        assert (report.new, report.chunks) == (20, 101)
        assert await held(tmp_path) == expected(names)

    asyncio.run(main())
    assert (tmp_path / "died").exists()


def test_a_driver_that_is_killed_leaves_whole_sources_and_goes_on(tmp_path: Path) -> None:
    names = write_files(tmp_path / "docs", 80)
    program = (
        "import asyncio, os, signal, sys\n"
        "from pathlib import Path\n"
        "from anabranch.jobs import ProcessExecutor\n"
        "from anabranch.rag import SqliteStore\n"
        "from tests.rag.pipeline.test_distributed import run\n"
        "write, writes = SqliteStore.write, []\n"
        "async def killed(self, some):\n"
        "    writes.append(1)\n"
        "    if len(writes) == 4: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    await write(self, some)\n"
        "    if len(writes) == int(sys.argv[2]): os.kill(os.getpid(), signal.SIGKILL)\n"
        "SqliteStore.write = killed\n"
        "folder = Path(sys.argv[1])\n"
        "names = sorted(str(name) for name in (folder / 'docs').iterdir())\n"
        "asyncio.run(run(folder, names, ProcessExecutor(1), shard=10))\n"
    )
    for moment in ("3", "9"):  # after the third write, and before the fourth
        command = [sys.executable, "-c", program, str(tmp_path), moment]
        environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
        done = subprocess.run(command, check=False, env=environment)
        assert done.returncode == -signal.SIGKILL

    async def main() -> None:
        before = await held(tmp_path)
        assert len(before) == 60
        assert before == expected(sorted(before))
        report = await run(tmp_path, names, ProcessExecutor(1))
        assert (report.unchanged, report.new) == (60, 20)
        assert await held(tmp_path) == expected(names)

    asyncio.run(main())


@pytest.mark.exhaustive  # a Ray takes a while to start
def test_ray_workers_index_what_one_process_would(tmp_path: Path, local_ray: None) -> None:
    names = write_files(tmp_path / "docs", 40)

    async def main() -> None:
        executor = RayExecutor(actors=2, chunk=1)
        report = await run(tmp_path, names, executor)
        assert (report.new, report.chunks) == (40, 200)
        assert await held(tmp_path) == expected(names)

    asyncio.run(main())


@pytest.mark.exhaustive
def test_a_ray_worker_that_dies_costs_its_shard_once_more(
    tmp_path: Path, local_ray: None
) -> None:
    names = write_files(tmp_path / "docs", 400)
    with Path(names[213]).open("a") as file:
        file.write(f"\ndeadly {tmp_path / 'died'}")

    async def main() -> None:
        executor = RayExecutor(actors=2, chunk=1, per_actor_concurrency=1)
        report = await run(tmp_path, names, executor, embedder=Deadly)
        assert (report.new, report.chunks) == (400, 2001)
        assert await held(tmp_path) == expected(names)

    asyncio.run(main())
    assert (tmp_path / "died").exists()
