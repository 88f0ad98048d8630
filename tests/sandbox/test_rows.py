"""A stranger's expression over many rows."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from anabranch import amap, astream, jobs
from anabranch.errors import (
    CodeFailed,
    IsolateDied,
    SourceRefused,
    TimeLimitExceeded,
    UsageError,
    ValueRefused,
)
from anabranch.jobs import Outcome, Pool
from anabranch.sandbox import Limits, Sandbox


def outcomes(
    source: str, rows: Sequence[object], **sandbox: Any
) -> list[Outcome[Any, Any]]:
    async def main() -> list[Outcome[Any, Any]]:
        async with Sandbox(**sandbox) as box:
            return await amap(source, rows, executor=box, errors="return")

    return asyncio.run(main())


def kinds(of: Sequence[Outcome[Any, Any]]) -> list[Any]:
    return [type(one.error) if one.error else one.value for one in of]


def test_an_expression_sees_the_row_and_the_fields_of_a_dict_by_name() -> None:
    rows = [{"price": i, "count": 2} for i in range(1_000)]

    async def main() -> list[Any]:
        async with Sandbox() as box:
            return await amap(
                "price * count + len(row)", rows, executor=box, concurrency=512
            )

    assert asyncio.run(main()) == [2 * i + 2 for i in range(1_000)]


def test_an_expression_has_the_modules_and_functions_of_the_sandbox() -> None:
    async def double(x: int) -> int:
        return 2 * x

    found = outcomes(
        "[math.floor(row), double(row)]",
        [1.5, 2.5],
        imports=["math"],
        expose={"double": double},
    )
    assert kinds(found) == [[1, 3.0], [2, 5.0]]


def test_a_row_may_hide_a_function_and_fields_are_seen_in_inner_scopes() -> None:
    rows = [{"sum": 3, "few": [1, 2]}]
    assert kinds(outcomes("[sum + x for x in few]", rows)) == [[4, 5]]


def test_what_the_expression_raises_is_the_error_of_its_row() -> None:
    found = outcomes("1 / row", [1, 0, 2])
    assert kinds(found) == [1.0, CodeFailed, 0.5]
    assert str(found[1].error) == "ZeroDivisionError: division by zero"


def test_a_row_that_takes_too_long_takes_no_other_with_it() -> None:
    source = "[x for x in iter(int, 1)] if row == 2 else row"
    found = outcomes(source, range(5), limits=Limits(wall_s=0.5))
    assert kinds(found) == [0, 1, TimeLimitExceeded, 3, 4]


def test_a_row_that_kills_its_process_takes_no_other_with_it() -> None:
    found = outcomes("__import__('os')._exit(3) if row == 2 else row", range(5))
    assert kinds(found) == [0, 1, IsolateDied, 3, 4]


def test_a_row_or_a_value_that_is_not_plain_is_refused_alone() -> None:
    found = outcomes("row", [1, object(), 3])
    assert kinds(found) == [1, ValueRefused, 3]
    assert str(found[1].error).startswith("row: a value of object")
    found = outcomes("(lambda: 0) if row == 2 else row", [1, 2, 3])
    assert kinds(found) == [1, ValueRefused, 3]
    assert str(found[1].error).startswith("value: a value of function")


def test_a_row_that_forges_replies_takes_no_other_with_it() -> None:
    rows = "[x for x in __import__('gc').get_objects() if type(x) is list and 'b' in x]"
    forge = f"[x.append(0) for x in {rows} if len(x) < 5]"
    assert kinds(outcomes(f"{forge} if row == 'b' else row", ["a", "b", "c"])) == [
        "a",
        IsolateDied,
        "c",
    ]


@pytest.mark.parametrize(
    "source", ["x = 1", "1 +", "", "for x in y: pass", "(yield 1)", "await f()"]
)
def test_what_is_no_expression_is_refused_at_the_call(source: str) -> None:
    with pytest.raises(SyntaxError):
        outcomes(source, [1])


def test_an_import_statement_is_refused_with_a_sentence() -> None:
    with pytest.raises(SourceRefused, match="import statement"):
        outcomes("import os", [1])


def test_a_source_without_a_sandbox_and_a_function_with_one_are_refused() -> None:
    async def source() -> None:
        await amap("row", [1])

    async def function() -> None:
        async with Sandbox() as box:
            await amap(len, [[1]], executor=box)

    with pytest.raises(TypeError, match=r"executor=anabranch\.sandbox\.Sandbox"):
        asyncio.run(source())
    with pytest.raises(UsageError, match="runs source text, not functions such as len"):
        asyncio.run(function())


def test_a_stream_a_pool_and_the_synchronous_forms_take_a_source_too() -> None:
    async def main() -> list[list[int]]:
        async with Sandbox() as box:
            streamed = [x async for x in astream("row + 1", range(3), executor=box)]
            async with Pool(executor=box) as pool:
                mapped = await pool.map("row + 1", range(3))
                pooled = [x async for x in pool.stream("row + 1", range(3))]
        return [sorted(streamed), mapped, sorted(pooled)]

    assert asyncio.run(main()) == [[1, 2, 3]] * 3
    box = Sandbox()
    assert jobs.map("row + 1", range(3), executor=box) == [1, 2, 3]
    assert sorted(jobs.stream("row + 1", range(3), executor=box)) == [1, 2, 3]
    jobs.asyncio_run(box.aclose())


def test_a_journal_finds_the_results_of_a_source_by_its_text(tmp_path: Path) -> None:
    calls: list[int] = []

    def note(row: int) -> int:
        calls.append(row)
        return row

    async def main(source: str) -> list[int]:
        async with Sandbox(expose={"note": note}) as box:
            return await amap(source, [1, 2], executor=box, journal=tmp_path / "j")

    assert asyncio.run(main("note(row)")) == [1, 2]
    assert asyncio.run(main("note(row)")) == [1, 2]
    assert sorted(calls) == [1, 2]
    assert asyncio.run(main("note(row) + 1")) == [2, 3]
    assert sorted(calls) == [1, 1, 2, 2]
