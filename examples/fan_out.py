"""Many calls at once, some of which fail: every result, or the reason why there is none.

`amap` with ``errors="return"`` gives an `Outcome` for each item, in the order of the
items. What failed is asked a second time, and what fails for good is listed.
"""

import asyncio

from anabranch import Outcome, amap

WORDS = ["river", "delta", "", "estuary", "ford", "lagoon", "weir", "oxbow"]
asked: dict[str, int] = {}


async def define(word: str) -> str:
    """A service that refuses what it does not know and is busy now and then."""
    asked[word] = asked.get(word, 0) + 1
    await asyncio.sleep(0.02)
    if not word:
        raise ValueError("there is no word to define")
    if word in ("ford", "weir") and asked[word] == 1:
        raise ConnectionError("the service is busy")
    return f"{word}: {len(word)} letters"


def can_be_tried_again(outcome: Outcome[str, str]) -> bool:
    return isinstance(outcome.error, ConnectionError)


async def main() -> None:
    outcomes = await amap(define, WORDS, concurrency=4, errors="return")
    good = sum(outcome.ok for outcome in outcomes)
    print(f"first round: {good} of {len(outcomes)} answered")

    busy = [outcome for outcome in outcomes if can_be_tried_again(outcome)]
    again = await amap(define, [outcome.item for outcome in busy], errors="return")
    for before, now in zip(busy, again, strict=True):
        outcomes[before.index] = now
    print(f"second round: {sum(outcome.ok for outcome in again)} of {len(again)} answered")

    for index, outcome in enumerate(outcomes):
        print(f"  {index} {outcome.value if outcome.ok else repr(outcome.error)}")


asyncio.run(main())
