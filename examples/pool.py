"""One service, several users: questions in bulk, and one from a person who is waiting.

All of them go through one `Pool`, so together they are never more at once than the service
bears. A bulk run has every place; the person's question waits for the next one that is
free, not for the end of the run. Half way through, the limit is raised.
"""

import asyncio

from anabranch import Pool

in_flight = most = 0


async def ask(question: str) -> str:
    """A service that takes a moment and must not be asked too much at once."""
    global in_flight, most
    in_flight += 1
    most = max(most, in_flight)
    try:
        await asyncio.sleep(0.02)
        return f"{question}: {len(question)} letters"
    finally:
        in_flight -= 1


async def ask_for_a_person(pool: Pool) -> None:
    before = pool.stats().done
    answer = await pool.submit(ask, "oxbow")
    others = pool.stats().done - before - 1
    print(f"the person has {answer!r}; {others} others were done meanwhile")


async def main() -> None:
    async with Pool(concurrency=4, retry=3, timeout=5) as pool:
        bulk = asyncio.create_task(pool.map(ask, [f"river {n}" for n in range(60)]))
        await asyncio.sleep(0.1)
        await ask_for_a_person(pool)
        print(f"at most {most} at once")
        assert most <= 4

        pool.limit = 12
        async with pool.stream(ask, (f"lake {n}" for n in range(60))) as answers:
            async for answer in answers:
                if answer.startswith("lake 30:"):
                    print(f"the stream came to {answer!r}, and is left there")
                    break
        print(f"{len(await bulk)} answers in bulk, at most {most} at once")
        assert most <= 12

        stats = pool.stats()
        print(f"{stats.done} done, {stats.in_flight} in flight")


asyncio.run(main())
