"""What ``verbose=True`` prints."""

from __future__ import annotations

from anabranch.observe import Observer


class Printer(Observer):
    """Prints the beginning and end of every step."""

    def started(self, label: object) -> None:
        print(f"Running {label}")

    def retried(
        self, label: object, attempt: int, error: BaseException, delay_s: float
    ) -> None:
        print(f"{label} failed ({error}), attempt {attempt + 1} in {delay_s:g} s")

    def finished(self, label: object, error: BaseException | None) -> None:
        print(f"{label} ended" if error is None else f"{label} failed: {error}")
