"""The library in a real Jupyter kernel, whose event loop runs while a cell does."""

from __future__ import annotations

import asyncio
import re
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

with warnings.catch_warnings():  # Jupyter's packages warn about each other
    warnings.simplefilter("ignore")
    from jupyter_client.kernelspec import KernelSpec
    from jupyter_client.manager import AsyncKernelManager
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError
    from nbformat.v4 import new_code_cell, new_notebook

pytestmark = pytest.mark.filterwarnings("ignore")  # see above

IMPORTS = """
import asyncio
from anabranch import amap, asyncio_run

async def double(number):
    await asyncio.sleep(0.001)
    return 2 * number
"""


class Notebook:
    """Runs cells, one after another, in one kernel."""

    def __init__(self, folder: Path) -> None:
        self.loop = asyncio.new_event_loop()
        manager = AsyncKernelManager(connection_file=str(folder / "kernel.json"))
        # The kernel of this very Python, whatever is installed for the user.
        manager._kernel_spec = KernelSpec(
            argv=[sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
            language="python",
            interrupt_mode="signal",
        )
        self.manager = manager
        # nbformat makes its nodes in functions without types.
        empty = new_notebook()  # type: ignore[no-untyped-call]
        self.client = NotebookClient(empty, km=manager, timeout=30)
        # It plays a front end's Output widget by sending from within a wait for a reply,
        # and now and then sleeps through the reply. Without it outputs stand in the cell.
        self.client.widget_registry = {}
        self._open = self.client.async_setup_kernel(cleanup_kc=True)
        self.loop.run_until_complete(self._open.__aenter__())

    def run(self, source: str) -> str:
        """What a person sees below the cell: text, errors, and widgets as text."""
        return self.loop.run_until_complete(self.cell(source))

    async def cell(self, source: str) -> str:
        cells = self.client.nb.cells
        cells.append(new_code_cell(source))  # type: ignore[no-untyped-call]
        try:
            await self.client.async_execute_cell(cells[-1], len(cells) - 1)
        except CellExecutionError:
            pass  # the traceback is one of the outputs
        return "".join(map(shown, cells[-1].outputs))

    def close(self) -> None:
        self.loop.run_until_complete(self._open.__aexit__(None, None, None))
        self.loop.close()


def shown(output: Any) -> str:
    if output.output_type == "stream":
        return str(output.text)
    if output.output_type == "error":
        return "\n".join([*output.traceback, f"{output.ename}: {output.evalue}"])
    return str(output.data.get("text/plain", ""))


@pytest.fixture(scope="module")
def notebook(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Notebook]:
    notebook = Notebook(tmp_path_factory.mktemp("kernel"))
    notebook.run(IMPORTS)
    yield notebook
    notebook.close()


def test_asyncio_run_works_in_a_cell(notebook: Notebook) -> None:
    assert notebook.run("asyncio_run(amap(double, range(3)))") == "[0, 2, 4]"


def test_a_cell_may_await(notebook: Notebook) -> None:
    assert notebook.run("await amap(double, range(3))") == "[0, 2, 4]"


@pytest.mark.parametrize("way", ["asyncio_run", "await "])
def test_a_widget_shows_progress(notebook: Notebook, way: str) -> None:
    seen = set(notebook.client.widget_state)
    output = notebook.run(f"{way}(amap(double, range(3), progress='numbers'))")
    assert output.startswith("numbers:   0%|          | 0/3 ")
    assert output.endswith("[0, 2, 4]")
    final = [
        state.get("value")
        for model, state in notebook.client.widget_state.items()
        if model not in seen
    ]
    assert 3.0 in final, "the bar is full"
    assert any("3/3" in str(value) for value in final)


@pytest.mark.parametrize("way", ["asyncio_run", "await "])
def test_richs_widget_shows_progress(notebook: Notebook, way: str) -> None:
    notebook.run("from anabranch.jobs import RichProgress")
    output = notebook.run(
        f"{way}(amap(double, range(3), progress=RichProgress('numbers')))"
    )
    assert "Traceback" not in output
    assert output.endswith("[0, 2, 4]")
    assert "3/3 [00:00<00:00" in output


def test_without_widgets_a_bar_of_text_shows_progress(notebook: Notebook) -> None:
    output = notebook.run("""
import sys
from unittest.mock import patch

with patch.dict(sys.modules, ipywidgets=None):
    asyncio_run(amap(double, range(3), progress="numbers"))
""")
    assert re.search(r"\rnumbers: 100%\|█+\| 3/3 \[00:00<00:00, [\d,]+/s\]\n$", output)
    assert "Warning" not in output


def test_progress_goes_where_standard_error_was_sent(notebook: Notebook) -> None:
    output = notebook.run("""
import contextlib, io

with contextlib.redirect_stderr(io.StringIO()) as log:
    asyncio_run(amap(double, range(3), progress="numbers"))
print(log.getvalue().split(",")[0])
""")
    assert output == "numbers: 3 of 3 jobs\n"


def test_a_client_made_in_one_cell_works_in_the_next(notebook: Notebook) -> None:
    """As long as there is one loop, not a loop a call."""
    notebook.run("""
async def open_client():
    import aiohttp
    from aiohttp import web

    async def answer(request):
        return web.Response(text=f"{request.query['n']} please")

    app = web.Application()
    app.router.add_get("/", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    return aiohttp.ClientSession(site.name), runner

client, runner = asyncio_run(open_client())
""")
    output = notebook.run("""
async def ask(number):
    async with client.get("/", params={"n": number}) as response:
        return await response.text()

asyncio_run(amap(ask, range(2)))
""")
    assert output == "['0 please', '1 please']"
    assert notebook.run("asyncio_run(client.close())\nasyncio_run(runner.cleanup())") == ""


def test_an_interrupt_ends_the_cell_at_once_and_the_next_one_works(
    notebook: Notebook,
) -> None:
    source = """
async def long(number):
    print("started", flush=True)
    try:
        await asyncio.sleep(60)
    finally:
        print("cleaned up", flush=True)

asyncio_run(amap(long, [1]))
"""

    async def interrupt() -> tuple[str, float]:
        cell = asyncio.create_task(notebook.cell(source))
        cells = notebook.client.nb.cells
        while not (cells[-1].source == source and cells[-1].outputs) and not cell.done():
            await asyncio.wait((cell,), timeout=0.01)
        sent = time.monotonic()
        await notebook.manager.interrupt_kernel()
        return await cell, time.monotonic() - sent

    output, waited_s = notebook.loop.run_until_complete(interrupt())
    assert "cleaned up" in output
    assert "KeyboardInterrupt" in output
    assert waited_s < 1
    assert notebook.run("asyncio_run(amap(double, range(3)))") == "[0, 2, 4]"
