"""Real HTML pages to index: the documentation that Debian ships as packages.

A package is downloaded once, by its name, through apt; its pages are then kept in a cache
folder: ``pages/PACKAGE/...``. A sample is always the same files for the same package
versions, and a smaller sample is the beginning of a larger one.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path

PACKAGES = (
    "cppreference-doc-en-html",
    "linux-doc-6.1",
    "openjdk-17-doc",
    "postgresql-doc-15",
    "python3.11-doc",
)
DEFAULT_FOLDER = Path("~/.cache/anabranch-bench").expanduser()

# More than half of all pages are Java's: without this they would be most of a sample.
MAX_PAGES_A_PACKAGE = 4_500

# The two dozen pages above this (the uses of Java's String: 6 MB) are left out: whether one
# of them falls into a sample would decide its peak memory more than the number of pages.
MAX_PAGE_BYTES = 1_000_000


class CorpusError(Exception):
    """The pages cannot be had; the sentence says what to do."""


def sample(count: int, folder: Path = DEFAULT_FOLDER) -> list[Path]:
    """The first ``count`` pages in the corpus' fixed order, fetched first if need be.

    Raises:
        CorpusError: If a package cannot be had, or holds too few pages.
    """
    places: list[tuple[float, Path]] = []
    for package in PACKAGES:
        pages = [
            page
            for page in fetch(package, folder).rglob("*.html")
            if page.stat().st_size <= MAX_PAGE_BYTES
        ]
        pages.sort(key=lambda page: _order(page.relative_to(folder)))
        kept = pages[:MAX_PAGES_A_PACKAGE]
        # Spread evenly over 0..1, so that every beginning holds the packages in proportion.
        places += [((rank + 0.5) / len(kept), page) for rank, page in enumerate(kept)]
    if len(places) < count:
        raise CorpusError(
            f"the corpus has {len(places):,} pages, not {count:,}; ask for fewer"
        )
    return [page for _, page in sorted(places)[:count]]


def fetch(package: str, folder: Path) -> Path:
    """The folder of a package's pages, whole or not at all."""
    pages = folder / "pages" / package
    if pages.is_dir():
        return pages
    pages.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        archive = _download(package, Path(scratch))
        unpacked = Path(scratch, "pages")
        _unpack(archive, unpacked)
        (unpacked / "VERSION").write_text(archive.name.split("_")[1] + "\n")
        unpacked.rename(pages)
    return pages


def facts(pages: Sequence[Path], folder: Path = DEFAULT_FOLDER) -> dict[str, object]:
    """What tells one sample from another: versions, and a digest of names and sizes."""
    digest = hashlib.blake2b(digest_size=8)
    total = largest = 0
    for page in pages:
        size = page.stat().st_size
        digest.update(f"{page.relative_to(folder)} {size}\n".encode())
        total += size
        largest = max(largest, size)
    versions = {
        package: (folder / "pages" / package / "VERSION").read_text().strip()
        for package in PACKAGES
    }
    return {
        "documents": len(pages),
        "html_bytes": total,
        "largest_bytes": largest,
        "digest": digest.hexdigest(),
        "packages": versions,
    }


def _order(name: Path) -> bytes:
    return hashlib.blake2b(name.as_posix().encode(), digest_size=8).digest()


def _download(package: str, scratch: Path) -> Path:
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise CorpusError(
            f"the pages come from Debian's package {package}, and here is no apt-get or no"
            " dpkg-deb; run this on Debian 12, or copy the cache folder from one and"
            " name it with --corpus"
        )
    # As root, apt would fetch as the user _apt, who may not write here.
    command = ["apt-get", "download", "-q", "-o", "APT::Sandbox::User=root", package]
    done = subprocess.run(command, cwd=scratch, capture_output=True, text=True, check=False)
    found = sorted(scratch.glob("*.deb"))
    if done.returncode or not found:
        reason = done.stderr.strip() or "apt-get gave no file"
        raise CorpusError(
            f"cannot download {package}: {reason}; run apt-get update, or use Debian 12"
        )
    return found[0]


def _unpack(archive: Path, target: Path) -> None:
    """Only the pages: the pictures and PDFs beside them are ten times as large."""
    command = ["dpkg-deb", "--fsys-tarfile", str(archive)]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE) as unpacking,
        tarfile.open(fileobj=unpacking.stdout, mode="r|") as members,
    ):
        for member in members:
            if member.isfile() and member.name.endswith(".html"):
                members.extract(member, target, filter="data")
    if unpacking.returncode:
        raise CorpusError(
            f"dpkg-deb cannot read {archive.name}; remove it and run this again"
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Lists a sample's files, one a line."""
    parser = argparse.ArgumentParser(prog="benchmarks/run corpus", description=main.__doc__)
    parser.add_argument("-n", "--documents", type=int, default=2_000, metavar="N")
    parser.add_argument("--corpus", type=Path, default=DEFAULT_FOLDER, metavar="DIR")
    options = parser.parse_args(arguments)
    try:
        pages = sample(options.documents, options.corpus.resolve())
    except CorpusError as error:
        print(f"corpus: {error}", file=sys.stderr)
        return 1
    print(*pages, sep="\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
