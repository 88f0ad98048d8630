"""A reader in use: in a pipeline, at the command line, cancelled, and entered again."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from anabranch.rag import Pipeline, SqliteStore, WebReader
from anabranch.rag.web import Manners
from tests.rag.parts import HashEmbedder, LineSplitter
from tests.rag.web.site import Site, html, reader


def test_a_crawl_goes_into_a_store_and_again_only_what_has_changed(tmp_path: Path):
    async def run(site: Site) -> tuple[int, int, int, int]:
        embedder = HashEmbedder()
        async with (
            reader(site, cache=tmp_path / "cache") as web_reader,
            await SqliteStore.create(tmp_path / "index", embedder) as store,
        ):
            crawl = web_reader.crawl(site.url)
            pipeline = Pipeline(
                reader=crawl, splitter=LineSplitter(), embedder=embedder, store=store
            )
            report = await pipeline.run(crawl)
            return report.new, report.changed, report.unchanged, len(report.broken)

    async def main() -> None:
        links = [str(number) for number in range(30)]
        pages = {f"/{number}": html(text=f"page {number}") for number in range(29)}
        async with Site({"/": html(*links, text="all"), **pages}) as site:
            assert await run(site) == (30, 0, 0, 1)
            site.pages["/7"] = html(text="another text")
            assert await run(site) == (0, 1, 29, 1)
            # Each page once a run.
            assert set(site.asked.values()) == {2}

    asyncio.run(main())


@pytest.mark.parametrize("as_argument", [True, False])
def test_the_command_line_reads_private_hosts_that_are_named_in_its_arguments(
    tmp_path: Path, as_argument: bool
):
    async def main() -> tuple[int, str, Site]:
        async with Site({"/a": html(text="words about rivers")}) as site:
            source = site / "a" if as_argument else "-"
            command = ["-m", "anabranch", "index", source, "--into", str(tmp_path / "i")]
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, *command, "--model", "static"),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
            )
            said, _ = await process.communicate((site / "a").encode())
            assert process.returncode is not None
            return process.returncode, said.decode(), site

    code, said, site = asyncio.run(main())
    assert ("private address" in said) is not as_argument, said
    assert (code == 0) is as_argument
    assert bool(site.requests) is as_argument


def test_reads_that_are_cancelled_leave_their_turns_to_others():
    async def main() -> None:
        site = Site({"/fine": "fine"})
        release = asyncio.Event()

        async def hangs(_: Any) -> Any:
            await release.wait()

        site.pages["/hangs"] = hangs
        options: dict[str, Any] = {"manners": Manners(per_host=1), "concurrency": 1}
        async with site, reader(site, **options) as web_reader:
            for _ in range(3):
                hanging = asyncio.ensure_future(web_reader.read(site / "hangs"))
                waiting = asyncio.ensure_future(web_reader.read(site / "fine"))
                while site.at_once == 0:  # the server says when
                    await asyncio.sleep(0.001)
                hanging.cancel()
                assert (await waiting).data == b"fine"
                assert hanging.cancelled()
                release.set()
                while site.at_once:
                    await asyncio.sleep(0.001)
                release.clear()

    asyncio.run(main())


def test_a_reader_is_entered_again_in_another_loop():
    web_reader = WebReader(allow_private=True, manners=Manners(per_host=1), concurrency=2)

    async def main() -> int:
        site = Site({f"/{number}": f"page {number}" for number in range(9)})
        async with site, web_reader:
            return len(await web_reader.load(site / str(number) for number in range(9)))

    assert [asyncio.run(main()) for _ in range(2)] == [9, 9]


def test_pages_are_iterated_once():
    async def main() -> None:
        async with Site({"/a": "a"}) as site, reader(site) as web_reader:
            pages = web_reader.pages([site / "a"])
            assert [uri async for uri in pages] == [site / "a"]
            with pytest.raises(RuntimeError, match="iterated once"):
                assert [uri async for uri in pages]

    asyncio.run(main())


def test_a_list_of_a_reader_that_is_not_open_says_so():
    async def main() -> None:
        with pytest.raises(RuntimeError, match="async with WebReader"):
            await WebReader(allow_private=True).load(["http://127.0.0.1/"])

    asyncio.run(main())
