"""What the host of a case gives to the code: objects with something private in them."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

# A value in the memory of the host. No case says it; a result that holds it was read out.
HOST_SECRET = f"host-{secrets.token_hex(12)}"


class Account:
    """An object of the host: a few public things, and a private one."""

    kind = "savings"

    def __init__(self, owner: str, balance: int) -> None:
        self.owner = owner
        self.balance = balance
        self.history: list[int] = [balance]
        self._pin = HOST_SECRET

    def deposit(self, amount: int) -> int:
        self.balance += amount
        self.history.append(amount)
        return self.balance

    def statement(self) -> Iterator[str]:
        """Lines of a statement; the frame of the generator belongs to the host."""
        for amount in self.history:
            yield f"{self.owner}: {amount}"

    async def refresh(self) -> int:
        return self.balance

    async def pages(self) -> AsyncIterator[int]:
        for amount in self.history:
            yield amount


def double(number: float) -> float:
    """A function of the host. Its globals hold `HOST_SECRET`."""
    return number * 2


def shout(text: str, *, mark: str = "!") -> str:
    return text.upper() + mark


def keep(function: object) -> str:
    """Keeps what it is given and calls it once the code is done, as a host may."""
    KEPT.append(function)
    return "kept"


def _closure() -> object:
    pin = HOST_SECRET

    def check(guess: str) -> bool:
        return guess == pin

    return check


KEPT: list[object] = []
FUNCTIONS: dict[str, object] = {
    "double": double,
    "shout": shout,
    "keep": keep,
    "check": _closure(),
}


def account() -> Account:
    return Account("Ada", 100)
