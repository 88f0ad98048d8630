"""What anabranch asks for, as its own installed metadata tells."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import metadata

_REQUIREMENT = re.compile(r"(?P<name>[\w.-]+)\s*(?:\[[^]]*\])?\s*(?P<version>[^;]*)")
_EXTRA = re.compile(r"""extra\s*==\s*['"](?P<extra>[^'"]+)['"]""")
_EVERYTHING = "all"
_CLAUSE = re.compile(r"(?P<sign>>=|==)\s*(?P<version>[\w.]+)")


@dataclass(frozen=True, slots=True)
class Requirement:
    """One package that is asked for.

    Attributes:
        name: As it is installed by.
        wanted: The versions that will do, such as ``>=2.0``.
        extra: Which extra asks for it; empty if it is required.
    """

    name: str
    wanted: str
    extra: str

    @property
    def installed(self) -> str | None:
        """Its installed version."""
        try:
            return metadata.version(self.name)
        except metadata.PackageNotFoundError:
            return None

    @property
    def is_met(self) -> bool:
        version = self.installed
        return version is not None and all(
            _meets(version, clause) for clause in self._clauses
        )

    @property
    def _clauses(self) -> Iterator[re.Match[str]]:
        return _CLAUSE.finditer(self.wanted)


@cache
def requirements() -> Sequence[Requirement]:
    """Everything that anabranch asks for; ``all``, which repeats others, is left out."""
    found: list[Requirement] = []
    for line in metadata.requires("anabranch") or ():
        asked, _, marker = line.partition(";")
        match = _REQUIREMENT.match(asked)
        if match and _canonical(match["name"]) != "anabranch":
            name, wanted = match["name"], match["version"].strip()
            extra = extra_match["extra"] if (extra_match := _EXTRA.search(marker)) else ""
            if extra != _EVERYTHING:
                found.append(Requirement(name, wanted, extra))
    return found


def extra_with(module: str) -> str | None:
    """The first extra that brings a module; ours are all named as their packages are."""
    return next(
        (
            r.extra
            for r in requirements()
            if r.extra and _canonical(r.name) == _canonical(module)
        ),
        None,
    )


def _meets(version: str, clause: re.Match[str]) -> bool:
    if clause["sign"] == "==":
        return version == clause["version"]
    return _release(version) >= _release(clause["version"])


def _release(version: str) -> tuple[int, ...]:
    # Enough for "at least", which is all that our own metadata asks beside "exactly".
    return tuple(int(part) for part in re.findall(r"\d+", version.partition("+")[0]))


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
