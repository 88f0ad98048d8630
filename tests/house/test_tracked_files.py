"""No file of the repository says where it was written, or holds a secret."""

from __future__ import annotations

import re
import tomllib
from typing import TYPE_CHECKING

import pytest

from tests.house.repository import ROOT, files

if TYPE_CHECKING:
    from pathlib import Path

# Each pattern is written so that it does not match itself.
FORBIDDEN = {
    "the address of a package registry": re.compile(
        r"(?:pypi|pythonhosted|test\.pypi|npmjs|yarnpkg|crates|rubygems)[.](?:org|io|com)"
        r"|proxy[.]golang|(?:deb|ftp|security)[.](?:debian|ubuntu)[.]"
        r"|download[.]pytorch|anaconda[.]org"
        r"|(?:index-url|find-links|trusted-host)\s*[= ]\s*(?:\w+:)?//?",
        re.IGNORECASE,
    ),
    "a path of somebody's machine": re.compile(
        r"(?<![\w.$}\]*-])/(?:work|root|tmp|home|Users)/[\w.]"
    ),
    "a credential": re.compile(
        r"-----BEGIN [A-Z ]*PRIVATE[ ]KEY-----"
        r"|\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"
        r"|\bgh[pousr]_\w{36}|\bgithub_pat_\w{22}"
        r"|\b(?:sk|pk|rk)[-_](?:ant|proj|live)[-_]\w{16}"
        r"|\bhf_[A-Za-z]{34}\b|\bxox[abp]-\d{6}"
        r"|\w+://[^\s/:@'\"{}<]+:[^\s/:@'\"{}<]+@"
    ),
}


@pytest.mark.parametrize("what", FORBIDDEN)
def test_no_file_holds(what: str) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}"
        for path in files()
        for number, line in enumerate(text(path).splitlines(), 1)
        if FORBIDDEN[what].search(line)
    ]
    assert not found, f"{what}:\n" + "\n".join(found)


@pytest.mark.parametrize(
    ("what", "line"),
    [
        ("the address of a package registry", "https://" + "pypi" + ".org/simple"),
        ("a path of somebody's machine", "open('" + "/ro" + "ot/data.txt')"),
        ("a credential", "gh" + "p_" + "a" * 36),
    ],
)
def test_the_patterns_bite(what: str, line: str) -> None:
    assert FORBIDDEN[what].search(line)


def test_pins_are_names_and_versions_only() -> None:
    pin = re.compile(r"[a-z0-9][a-z0-9-]*==[0-9][\w.+!]*( ; [\w .'\"<>=!()]+)?")
    for path in (ROOT / "constraints").glob("*.txt"):
        for line in path.read_text().splitlines():
            assert pin.fullmatch(line), f"{path.name}: {line}"


def test_the_version_is_the_same_everywhere() -> None:
    import anabranch

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert anabranch.__version__ == project["version"]


def text(path: Path) -> str:
    """The file's text, or nothing if it is not a text."""
    data = path.read_bytes()
    return "" if b"\0" in data[:8192] else data.decode(errors="replace")
