"""What code in a sandbox can do, gets, gives back, and is limited to."""

from __future__ import annotations

import asyncio
import gc
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from anabranch.errors import (
    CodeFailed,
    IsolateDied,
    IsolateUnavailable,
    LimitExceeded,
    LoopError,
    SandboxError,
    TimeLimitExceeded,
    UsageError,
    ValueRefused,
)
from anabranch.sandbox.confine import ALL
from anabranch.sandbox.limits import Limits, ReadOnly, Scratch
from anabranch.sandbox.sandbox import Sandbox
from tests.sandbox.isolate.lab import (
    Lab,
    descendants,
    descriptors,
    opened,
    peers,
    resident_bytes,
    until,
    zygote,
)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux")


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with opened() as lab:
        yield lab


# ------------------------------------------------------------------ what comes out


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("1 + 1", 2),
        ("x = 1\nx", 1),
        ("x = 1", None),
        ("", None),
        ("'a docstring'", "a docstring"),
        ("if True:\n    5", None),
        ("{'a': (1, {2}, b'3')}", {"a": (1, {2}, b"3")}),
        ("class A: n = 4\nA().n", 4),
        ("from dataclasses import dataclass\n@dataclass\nclass P:\n  x: 'int'\nP(3).x", 3),
        ("__name__", "__main__"),
    ],
)
def test_the_value_is_that_of_a_last_line_that_is_an_expression(
    lab: Lab, source: Any, value: Any
) -> None:
    assert lab.run(source).unwrap() == value


def test_values_are_global_names_and_are_copied_in(lab: Lab) -> None:
    given = {"rows": [1, 2], "name": "x"}
    result = lab.run("rows.append(3)\nlen(rows), name", given)
    assert result.unwrap() == (3, "x")
    assert given["rows"] == [1, 2]


def test_await_works_at_the_top_level(lab: Lab) -> None:
    source = "import asyncio\nasync def f(x):\n    await asyncio.sleep(0)\n    return x\n"
    assert lab.run(source + "sum(await asyncio.gather(f(1), f(2)))").unwrap() == 3


def test_what_is_printed_and_what_is_logged_come_apart(lab: Lab) -> None:
    result = lab.run(
        "import sys, logging\nprint('out', 'ü')\nprint('err', file=sys.stderr)\n"
        "logging.warning('logged')\nsys.stdout.buffer.write(b'raw')\n'\\ud800'\n"
        "print('\\ud800')"
    )
    assert result.stdout == "out ü\nraw\\ud800\n"
    assert result.stderr == "err\nWARNING:root:logged\n"


def test_there_is_no_input(lab: Lab) -> None:
    assert lab.run("input()").error.type_name == "EOFError"


def test_output_over_the_limit_is_dropped_and_said(lab: Lab) -> None:
    source = "import sys\nprint('a' * 50)\nprint('b' * 5, file=sys.stderr)\n7"
    result = lab.run(source, limits=Limits(output_bytes=10))
    assert result.value == 7
    assert result.stdout == "aaaaaaaaaa\n[41 more bytes were dropped: output_bytes=10]\n"
    assert result.stderr == "bbbbb\n"


def test_an_exception_is_data_with_the_line_of_the_source(lab: Lab) -> None:
    result = lab.run("def f():\n    return {}['x']\n\nf()")
    assert result.error.type_name == "KeyError"
    assert result.error.message == "'x'"
    assert result.error.line == 2
    lines = result.error.traceback.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[1] == '  File "<sandbox>", line 4, in <module>'
    assert "    return {}['x']" in lines
    assert result.value is None


def test_unwrap_raises_the_failure_as_an_error_of_ours(lab: Lab) -> None:
    with pytest.raises(CodeFailed, match=r"line 1: ValueError: no") as caught:
        lab.run("raise ValueError('no')").unwrap()
    assert caught.value.type_name == "ValueError"
    assert "<sandbox>" in caught.value.__notes__[0]


@pytest.mark.parametrize(
    ("source", "type_name", "line"),
    [
        ("x = 1\ny = (", "SyntaxError", 2),
        ("import json\njson.loads('{')", "JSONDecodeError", 2),
        ("raise SystemExit(3)", "SystemExit", 1),
        ("raise KeyboardInterrupt", "KeyboardInterrupt", 1),
        ("def f(): f()\nf()", "RecursionError", 1),
        ("\x00", "SyntaxError", None),
        ("'\ud800'", "UnicodeEncodeError", None),
        ("(" * 5000, "SyntaxError", 1),
        ("raise ExceptionGroup('g', [ValueError(1)])", "ExceptionGroup", 1),
    ],
)
def test_whatever_the_code_raises_is_data(
    lab: Lab, source: Any, type_name: Any, line: Any
) -> None:
    error = lab.run(source).error
    assert error.type_name in {type_name, "ValueError", "MemoryError"}
    assert error.line == line


def test_an_exception_that_cannot_be_shown_is_still_an_exception(lab: Lab) -> None:
    source = "class E(Exception):\n    def __str__(self): raise self\nraise E()"
    result = lab.run(source)
    assert result.error.type_name == "E"
    assert "cannot be shown" in result.error.message


def test_a_class_of_the_code_does_not_come_out(lab: Lab) -> None:
    with pytest.raises(ValueRefused, match="not plain data"):
        lab.run("class A: pass\n[A()]")
    with pytest.raises(ValueRefused, match="function"):
        lab.run("lambda: 1")


def test_what_cannot_go_in_is_refused_by_its_path(lab: Lab) -> None:
    with pytest.raises(ValueRefused, match="rows") as caught:
        lab.run("1", {"rows": [1, object()]})
    assert "[1]" in caught.value.path


def test_it_says_what_a_run_took(lab: Lab) -> None:
    result = lab.run("x = bytearray(50_000_000)\nsum(range(200_000))")
    assert result.wall_s > 0
    assert 0 < result.cpu_s < 10
    assert 40_000_000 < result.memory_bytes < 200_000_000


def test_large_values_go_in_and_come_out_whole(lab: Lab) -> None:
    large = bytes(range(256)) * 40_000
    assert lab.run("x[::-1]", {"x": large}).unwrap() == large[::-1]
    text = ["ä" * 100] * 10_000
    assert lab.run("x", {"x": text}).unwrap() == text


def test_what_is_imported_later_must_have_been_named(lab: Lab) -> None:
    error = lab.run("import numpy").error
    assert error.type_name == "ModuleNotFoundError"
    assert "Sandbox(imports=" in error.message


def test_time_zones_are_known(lab: Lab) -> None:
    source = "import zoneinfo, datetime as d\nd.datetime(2020, 7, 1, tzinfo=zoneinfo.ZoneInfo('Europe/Berlin')).utcoffset().seconds"
    assert lab.run(source).unwrap() == 7200


# ------------------------------------------------------------------ each run alone


def test_nothing_is_left_for_the_next_run(lab: Lab) -> None:
    lab.run("import builtins, json\nbuiltins.leak = 1\njson.leak = 1\nx = 1").unwrap()
    assert (
        lab.run("import json\n[n for n in ('leak', 'x') if n in dir(__builtins__)]").value
        == []
    )
    assert lab.run("import json\nhasattr(json, 'leak')").value is False


def test_no_two_runs_draw_the_same_numbers(lab: Lab) -> None:
    drawn = [lab.run("import random\nrandom.random()").value for _ in range(5)]
    assert len(set(drawn)) == 5


def test_no_environment_no_arguments_no_path_of_the_host(lab: Lab) -> None:
    source = (
        "import os, sys\n[dict(os.environ), sys.argv, sys.path, os.getcwd() if 0 else '/']"
    )
    assert lab.run(source).value == [{}, [""], [], "/"]


def test_no_descriptor_but_its_socket_and_the_null_device(lab: Lab) -> None:
    source = (
        "import os, stat\nfound = []\nfor n in range(64):\n    try: m = os.fstat(n).st_mode\n"
        "    except OSError: continue\n    found.append(stat.filemode(m)[0])\nfound"
    )
    assert sorted(lab.run(source).value) == ["c", "c", "c", "s"]


def test_many_tasks_run_code_at_once_and_get_each_its_own(lab: Lab) -> None:
    async def all_of_them() -> Any:
        runs = (lab.sandbox.run("x * 2", {"x": x}) for x in range(40))
        return [result.value for result in await asyncio.gather(*runs)]

    assert lab.do(all_of_them()) == [x * 2 for x in range(40)]


def test_waiting_runs_are_served_in_order_and_one_may_leave(lab: Lab) -> None:
    order = []

    async def one(number: Any) -> None:
        await lab.sandbox.run("import time\ntime.sleep(0.05)")
        order.append(number)

    async def story() -> None:
        tasks = []
        for number in range(8):
            tasks.append(asyncio.create_task(one(number)))
            await asyncio.sleep(0)
        tasks[5].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    lab.do(story())
    assert sorted(order) == [0, 1, 2, 3, 4, 6, 7]
    # Two go on at once, so neighbours may change places.
    assert all(abs(place - number) <= 2 for place, number in enumerate(order))


# ------------------------------------------------------------------ limits


def test_code_that_takes_too_long_is_killed(lab: Lab) -> None:
    with pytest.raises(TimeLimitExceeded, match=r"0\.2 s") as caught:
        lab.run("while True: pass", limits=Limits(wall_s=0.2))
    assert (caught.value.limit, caught.value.allowed) == ("wall_s", 0.2)
    with pytest.raises(TimeLimitExceeded):
        lab.run("import time\ntime.sleep(60)", limits=Limits(wall_s=0.2))


def test_no_handler_of_the_code_swallows_the_time_limit(lab: Lab) -> None:
    source = (
        "import signal\nfor n in range(1, 65):\n    try: signal.signal(n, signal.SIG_IGN)\n"
        "    except Exception: pass\nwhile True:\n    try:\n        while True: pass\n"
        "    except BaseException: pass"
    )
    with pytest.raises(TimeLimitExceeded):
        lab.run(source, limits=Limits(wall_s=0.3))


def test_processor_time_is_limited_apart(lab: Lab) -> None:
    with pytest.raises(LimitExceeded, match="processor time") as caught:
        lab.run("while True: pass", limits=Limits(cpu_s=1))
    assert (caught.value.limit, caught.value.allowed) == ("cpu_s", 1)


@pytest.mark.parametrize(
    "source",
    [
        "bytearray(10**9)",
        "x = []\nwhile True: x.append(bytearray(10**6))",
        "x = 'a'\nwhile True: x += x",
        "x = []\ntry:\n    while True: x.append(bytearray(10**6))\nexcept MemoryError: raise",
    ],
)
def test_memory_is_limited(lab: Lab, source: Any) -> None:
    with pytest.raises(LimitExceeded, match="memory") as caught:
        lab.run(source, limits=Limits(memory_bytes=100 * 2**20))
    assert caught.value.limit == "memory_bytes"


def test_code_may_survive_its_own_memory_error(lab: Lab) -> None:
    source = "try:\n    bytearray(10**9)\nexcept MemoryError:\n    x = 'survived'\nx"
    assert lab.run(source).unwrap() == "survived"


def test_a_result_that_is_too_large_is_refused(lab: Lab) -> None:
    with pytest.raises(LimitExceeded, match="result_bytes") as caught:
        lab.run("'a' * 200_000", limits=Limits(result_bytes=100_000))
    assert caught.value.limit == "result_bytes"
    with pytest.raises(LimitExceeded):
        lab.run("b'a' * 2_000_000", limits=Limits(result_bytes=1_000_000))


def test_no_thread_and_no_fork_unless_allowed(lab: Lab) -> None:
    assert lab.run("import os\nos.fork()").error.type_name == "PermissionError"
    started = "import threading\nt = threading.Thread(target=print, args=('in it',))\n"
    started += "t.start()\nt.join()"
    assert lab.run(started).error.type_name == "RuntimeError"
    assert lab.run(started, limits=Limits(processes=3)).stdout == "in it\n"


def test_forks_are_counted(lab: Lab) -> None:
    source = (
        "import os, time\ndone = 0\ntry:\n    for _ in range(50):\n        if not os.fork():\n"
        "            time.sleep(30)\n        done += 1\nexcept OSError: pass\ndone"
    )
    assert 0 < lab.run(source, limits=Limits(processes=5)).unwrap() < 5


def test_a_child_that_the_code_forked_does_not_answer_for_it(lab: Lab) -> None:
    source = "import os\nwho = 'parent' if os.fork() else 'child'\nif who == 'parent': os.wait()\nwho"
    for _ in range(3):
        assert lab.run(source, limits=Limits(processes=5)).unwrap() == "parent"


@pytest.mark.parametrize(
    "limits",
    [
        {"cpu_s": float("inf")},
        {"wall_s": float("nan")},
        {"wall_s": True},
        {"memory_bytes": 2**70},
        {"memory_bytes": 2.5},
        {"processes": 0},
        {"file_bytes": -1},
    ],
)
def test_limits_that_cannot_be_meant_are_errors(limits: Any) -> None:
    with pytest.raises(UsageError, match=next(iter(limits))):
        Limits(**limits)


def test_a_value_of_more_objects_than_its_bytes_allow_is_refused(lab: Lab) -> None:
    few = Limits(result_bytes=2**20)
    assert len(lab.run("[0] * 10_000", limits=few).unwrap()) == 10_000
    with pytest.raises(ValueRefused, match="more values than are allowed"):
        lab.run("[0] * 20_000", limits=few)


# ------------------------------------------------------------------ files


def test_no_file_is_there_unless_granted(lab: Lab) -> None:
    for source in ("open('/etc/passwd')", "open(__import__('sys').executable)"):
        assert lab.run(source).error.type_name in {"PermissionError", "FileNotFoundError"}


def test_granted_files_can_be_read_and_not_written(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = Path("/tmp") / f"granted-{tmp_path_factory.getbasetemp().name}"
    folder.mkdir(mode=0o755, exist_ok=True)
    (folder / "data.txt").write_text("granted")
    (folder / "mine.py").write_text("answer = 42")
    try:
        with opened(
            grants=[ReadOnly(folder), Scratch(2**20)], limits=Limits(file_bytes=2**19)
        ) as lab:
            values = {"folder": str(folder)}
            assert (
                lab.run("open(folder + '/data.txt').read()", values).unwrap() == "granted"
            )
            wrote = lab.run("open(folder + '/new', 'w')", values)
            assert wrote.error.type_name in {"PermissionError", "OSError"}
            source = "import sys\nsys.path.append(folder)\nimport mine\nmine.answer"
            assert lab.run(source, values).unwrap() == 42
            kept = "open('/scratch/a', 'w').write('x')\nopen('/scratch/a').read()"
            assert lab.run(kept).unwrap() == "x"
            assert lab.run("import os\nos.listdir('/scratch')").unwrap() == []
            too_long = lab.run("open('/scratch/a', 'wb').write(b'x' * 2**20)")
            assert too_long.error.type_name == "OSError"
    finally:
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()


# ------------------------------------------------------------------ opening and closing


def test_the_layers_in_force_are_known() -> None:
    async def story() -> Any:
        sandbox = Sandbox()
        with pytest.raises(UsageError, match="async with"):
            sandbox.info()
        async with sandbox:
            return sandbox.info()

    found = asyncio.run(story())
    assert found.available == ALL
    assert not found.missing


def test_a_missing_layer_is_an_error_that_names_it_unless_accepted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from anabranch.sandbox.isolate import keeper

    lacking = {
        "available": ["rlimits", "no_new_privs"],
        "missing": {"seccomp": "not built in"},
    }
    monkeypatch.setattr(keeper, "_known", {os.geteuid(): lacking | {"landlock_abi": 0}})
    with pytest.raises(IsolateUnavailable, match="seccomp: not built in") as caught:
        asyncio.run(Sandbox().start())
    assert caught.value.missing == ("seccomp",)

    async def story() -> Any:
        async with Sandbox(require="process") as sandbox:
            return (await sandbox.run("1 + 1")).unwrap(), sandbox.info().missing

    assert asyncio.run(story()) == (2, {"seccomp": "not built in"})


def test_where_there_is_no_linux_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    sandbox = Sandbox(require="process")
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(IsolateUnavailable, match="this is darwin"):
        asyncio.run(sandbox.start())


def test_an_import_that_is_not_there_is_an_error_that_names_it() -> None:
    with pytest.raises(UsageError, match="no_such_module_at_all"):
        asyncio.run(Sandbox(imports=["no_such_module_at_all"]).start())


@pytest.mark.parametrize(
    "options",
    [
        {"imports": "numpy"},
        {"require": "some"},
        {"standby": 0},
        {"zygotes": 0},
        {"grants": ["/tmp"]},
        {"grants": [ReadOnly("/no/such/place")]},
        {"grants": [ReadOnly("/")]},
        {"expose": {"not a name": print}},
        {"expose": {"class": print}},
        {"expose": {"f": 3}},
    ],
)
def test_arguments_that_cannot_be_meant_are_errors(options: Any) -> None:
    with pytest.raises(UsageError):
        Sandbox(**options)


def test_a_source_that_is_no_text_and_names_that_are_none_are_errors(lab: Lab) -> None:
    with pytest.raises(UsageError, match="text"):
        lab.run(b"1")
    with pytest.raises(UsageError, match="no name"):
        lab.run("1", {"a b": 1})


def test_it_starts_with_the_first_run_and_again_on_the_next_loop() -> None:
    sandbox = Sandbox()

    async def one() -> Any:
        return (await sandbox.run("1")).value

    before = descriptors()
    assert asyncio.run(one()) == 1
    assert asyncio.run(one()) == 1

    async def last() -> None:
        await sandbox.run("1")
        await sandbox.aclose()

    asyncio.run(last())
    assert descriptors() <= before


def test_two_loops_cannot_use_it_at_the_same_time(lab: Lab) -> None:
    with asyncio.Runner() as other, pytest.raises(LoopError, match="another event loop"):
        other.run(lab.sandbox.run("1"))


def test_closing_ends_what_runs_and_what_waits() -> None:
    async def story() -> Any:
        sandbox = Sandbox(standby=1)
        runs = [asyncio.create_task(sandbox.run("while True: pass")) for _ in range(3)]
        await sandbox.start()
        while not any(not peer.ended for peer in peers(sandbox)):
            await asyncio.sleep(0.001)
        await sandbox.aclose()
        return await asyncio.gather(*runs, return_exceptions=True)

    ends = asyncio.run(story())
    assert all(isinstance(end, SandboxError) for end in ends), ends


def test_closing_while_it_starts_is_an_error_of_who_waits_and_no_cancellation() -> None:
    async def story() -> None:
        sandbox = Sandbox()
        run = asyncio.create_task(sandbox.run("1"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await sandbox.aclose()
        with pytest.raises(SandboxError, match="closed before the code ran"):
            await run
        assert not run.cancelled()

    asyncio.run(story())


def test_a_forked_process_begins_a_sandbox_of_its_own(lab: Lab) -> None:
    lab.run("1")
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            with asyncio.Runner() as runner:
                found = runner.run(lab.sandbox.run("2 + 2")).value
                runner.run(lab.sandbox.aclose())
            status = 0 if found == 4 else 2
        finally:
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0
    assert lab.run("3").value == 3


def test_closing_leaves_no_process_no_descriptor_and_no_thread() -> None:
    async def story() -> Any:
        async with Sandbox() as sandbox:
            for _ in range(3):
                await sandbox.run("1")
            return zygote(sandbox)

    before, threads = descriptors(), threading.active_count()
    pid = asyncio.run(story())
    assert not Path(f"/proc/{pid}").exists()
    assert descriptors() <= before
    assert threading.active_count() == threads


def test_several_sandboxes_live_beside_each_other() -> None:
    async def story() -> Any:
        async with Sandbox() as one, Sandbox(zygotes=2) as other:
            runs = [box.run("x", {"x": n}) for n in range(10) for box in (one, other)]
            return [result.value for result in await asyncio.gather(*runs)]

    assert asyncio.run(story()) == [n for n in range(10) for _ in range(2)]


# ------------------------------------------------------------------ as an ordinary user

AS_ANYBODY = """
import asyncio, os
from anabranch.errors import LimitExceeded
from anabranch.sandbox.limits import Limits
from anabranch.sandbox.sandbox import Sandbox

async def main():
    async with Sandbox() as sandbox:
        assert not sandbox.info().missing, sandbox.info()
        print(os.getuid(), (await sandbox.run("x + 1", {"x": 1})).unwrap())
        print((await sandbox.run("open('/etc/passwd')")).error.type_name)
        print((await sandbox.run("import os; os.fork()")).error.type_name)
        for limits in (Limits(wall_s=0.2), Limits(cpu_s=1)):
            try:
                await sandbox.run("while True: pass", limits=limits)
            except LimitExceeded as error:
                print(error.limit)
        async with sandbox.session() as session:
            await session.run("x = 20")
            print((await session.run("len(b'a' * 500_000) + x")).unwrap())

asyncio.run(main())
"""
AS_ANYBODY_SAYS = "PermissionError\nPermissionError\nwall_s\ncpu_s\n500020\n"


def test_it_works_for_root_as_well_as_for_anybody() -> None:
    said = subprocess.run(
        [sys.executable, "-c", AS_ANYBODY], capture_output=True, text=True, timeout=60
    )
    assert said.stdout == f"{os.getuid()} 2\n" + AS_ANYBODY_SAYS, said.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="needs to be root, to become somebody else")
@pytest.mark.skipif(not shutil.which("setpriv"), reason="needs setpriv and unshare")
def test_it_works_for_an_ordinary_user() -> None:
    # The interpreter may lie where only root may go: it is mounted where anybody may.
    place = Path(tempfile.mkdtemp(prefix="anabranch-python-"))
    place.chmod(0o755)
    paths = [path for path in sys.path if path.startswith(str(Path(__file__).parents[2]))]
    python = place / Path(sys.executable).resolve().relative_to(sys.base_prefix)
    script = 'mount --bind "$1" "$2" && shift 2 && exec setpriv "$@"'
    command = ["unshare", "--mount", "sh", "-c", script, "sh", sys.base_prefix, str(place)]
    command += ["--reuid=65534", "--regid=65534", "--clear-groups", str(python)]
    try:
        said = subprocess.run(
            [*command, "-c", AS_ANYBODY],
            capture_output=True,
            text=True,
            timeout=60,
            env={
                "PYTHONPATH": os.pathsep.join(paths),
                "PATH": os.environ["PATH"],
                "LD_LIBRARY_PATH": str(place / "lib"),
            },
        )
    finally:
        place.rmdir()
    assert said.stdout == "65534 2\n" + AS_ANYBODY_SAYS, said.stderr


# ------------------------------------------------------------------ numpy and pandas


def test_tables_and_arrays_go_in_and_come_out() -> None:
    np, pd = pytest.importorskip("numpy"), pytest.importorskip("pandas")
    table = pd.DataFrame({"k": ["a", "b", "a"], "x": [1, 2, 3]})
    large = pd.DataFrame(np.arange(400_000.0).reshape(-1, 4), columns=list("abcd"))
    with opened(imports=["numpy", "pandas"]) as lab:
        sums = lab.run("t.groupby('k')['x'].sum()", {"t": table}).unwrap()
        pd.testing.assert_series_equal(sums, table.groupby("k")["x"].sum())
        doubled = lab.run("t * 2", {"t": large}).unwrap()
        pd.testing.assert_frame_equal(doubled, large * 2)
        changed = lab.run("a[0] = 7\na", {"a": np.zeros(100_000)}).unwrap()
        assert changed[0] == 7
        drawn = {
            lab.run("import numpy\nfloat(numpy.random.rand())").value for _ in range(4)
        }
        assert len(drawn) == 4
        merged = "import pandas as pd\nlen(t.merge(t, on='k')), str(t.describe())[:10]"
        assert lab.run(merged, {"t": table}).unwrap()[0] == 5
        del doubled, changed
        gc.collect()


# ------------------------------------------------------------------ growth


def _grow(runs: int) -> None:
    with opened() as lab:

        async def some(count: Any) -> None:
            for number in range(count):
                source = "x" if number % 10 else "import os\nos._exit(1)"
                try:
                    await lab.sandbox.run(
                        source, {"x": b"a" * (300_000 if number % 50 == 1 else 1)}
                    )
                except IsolateDied:
                    pass

        lab.do(some(60))
        pid = zygote(lab.sandbox)
        inner = min(descendants(pid))
        files, memory, inside = descriptors(), resident_bytes(), resident_bytes(inner)
        files_inside = len(list(Path(f"/proc/{inner}/fd").iterdir()))
        lab.do(some(runs))
        lab.do(until(lambda: len(descendants(pid)) <= 3))  # itself, and two that wait
        assert descriptors() <= files + 4
        assert len(list(Path(f"/proc/{inner}/fd").iterdir())) <= files_inside
        assert resident_bytes() < memory + 20 * 2**20
        assert resident_bytes(inner) < inside + 5 * 2**20
        assert zygote(lab.sandbox) == pid


def test_300_runs_leave_nothing_behind() -> None:
    _grow(300)


@pytest.mark.exhaustive
@pytest.mark.timeout(900)
def test_10_000_runs_leave_nothing_behind() -> None:
    _grow(10_000)
