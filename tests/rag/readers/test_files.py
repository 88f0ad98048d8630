"""Finding files and reading them."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from hashlib import blake2b
from pathlib import Path

import pytest

from anabranch.errors import SourceError, UsageError
from anabranch.rag.readers import FileReader, Walk, documents, find
from anabranch.rag.types import Content

MIB = 1 << 20


def read(path: Path | str, max_bytes: int = 64 * MIB) -> Content:
    return asyncio.run(FileReader(max_bytes).read(str(path)))


def refusal(path: Path | str, **options: int) -> str:
    with pytest.raises(SourceError) as caught:
        read(path, **options)
    return caught.value.reason


def lay(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("text")


def names(walk: Walk, root: Path) -> list[str]:
    return [os.path.relpath(uri, root) for uri in walk if isinstance(uri, str)]


def errors(walk: Walk) -> list[SourceError]:
    return [found for found in walk if isinstance(found, SourceError)]


def test_a_folder_gives_its_readable_files_by_name_and_counts_the_others(tmp_path: Path):
    lay(
        tmp_path,
        "b.md",
        "a/z.txt",
        "a/y.HTML",
        "c.pdf",
        "d.png",
        "e",
        ".hidden.md",
        ".git/x.md",
    )
    walk = find([tmp_path])
    assert names(walk, tmp_path) == ["a/y.HTML", "a/z.txt", "b.md", "c.pdf"]
    assert walk.skipped == 2


def test_only_the_kinds_asked_for_are_found(tmp_path: Path):
    lay(tmp_path, "a.md", "b.py", "c.txt")
    walk = find([tmp_path], kinds=["python"])
    assert names(walk, tmp_path) == ["b.py"]
    assert walk.skipped == 2
    with pytest.raises(UsageError, match=r"'picture'.*choose from text"):
        find([tmp_path], kinds=["picture"])


def test_a_named_file_is_taken_whatever_its_suffix_and_only_once(tmp_path: Path):
    lay(tmp_path, "Makefile", "a.md", ".profile")
    named = [tmp_path / "Makefile", tmp_path / "Makefile", tmp_path / ".profile"]
    walk = find([*named, tmp_path, tmp_path, tmp_path / "a.md"])
    assert names(walk, tmp_path) == ["Makefile", ".profile", "a.md"]


def test_uris_are_absolute_and_links_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    lay(tmp_path, "real/a.md")
    (tmp_path / "link").symlink_to("real")
    monkeypatch.chdir(tmp_path)
    assert list(find(["./link/../link/a.md"])) == [str(tmp_path / "link/a.md")]


def test_loops_of_links_end_and_no_folder_is_walked_twice(tmp_path: Path):
    lay(tmp_path, "a/x.md", "b/y.md")
    (tmp_path / "a/loop").symlink_to(tmp_path)
    (tmp_path / "b/again").symlink_to(tmp_path / "a")
    assert names(find([tmp_path]), tmp_path) == ["a/x.md", "b/y.md"]


def test_links_that_lead_out_of_the_folder_are_followed_only_if_asked(tmp_path: Path):
    lay(tmp_path, "in/a.md", "in/sub/b.md", "out/c.md", "out/d.txt", "in-like/e.md")
    inside = tmp_path / "in"
    (inside / "secret.md").symlink_to(tmp_path / "out/c.md")
    (inside / "folder").symlink_to(tmp_path / "out")
    (inside / "sub/alike.md").symlink_to(tmp_path / "in-like/e.md")
    (inside / "sub/up.md").symlink_to("../a.md")
    (inside / "twice.md").symlink_to("secret.md")
    walk = find([inside])
    assert names(walk, inside) == ["a.md", "sub/b.md", "sub/up.md"]
    assert walk.skipped == 4
    assert names(find([inside], follow_links=True), inside) == [
        "a.md", "folder/c.md", "folder/d.txt", "secret.md", "sub/alike.md", "sub/b.md",
        "sub/up.md", "twice.md",
    ]  # fmt: skip


@pytest.mark.parametrize("first", [True, False])
def test_links_that_are_named_are_followed_wherever_they_lead(tmp_path: Path, first: bool):
    lay(tmp_path, "in/a.md", "out/c.md", "out/more/d.md")
    inside = tmp_path / "in"
    (inside / "one.md").symlink_to(tmp_path / "out/c.md")
    (inside / "all").symlink_to(tmp_path / "out")
    named = [inside / "one.md", inside / "all"]
    found = names(find([*named, inside] if first else [inside, *named]), inside)
    assert sorted(found) == ["a.md", "all/c.md", "all/more/d.md", "one.md"]


def test_a_folder_that_is_a_link_itself_holds_what_is_in_it(tmp_path: Path):
    lay(tmp_path, "real/a.md", "real/b/c.md")
    (tmp_path / "real/d.md").symlink_to(tmp_path / "real/b/c.md")
    (tmp_path / "link").symlink_to("real")
    root = tmp_path / "link"
    assert names(find([root]), root) == ["a.md", "b/c.md", "d.md"]


def test_a_missing_path_and_a_broken_link_are_values_and_the_walk_goes_on(tmp_path: Path):
    lay(tmp_path, "tree/a.md")
    (tmp_path / "tree/broken.md").symlink_to("nowhere")
    found = list(find([tmp_path / "gone", tmp_path / "tree"]))
    assert [str(item) for item in found] == [
        f"{tmp_path}/gone: there is no such file or folder: check the path",
        f"{tmp_path}/tree/a.md",
        f"{tmp_path}/tree/broken.md: there is no such file or folder: check the path",
    ]


@pytest.mark.skipif(os.name == "nt", reason="folders have no such permissions")
def test_a_folder_that_cannot_be_listed_is_an_error_and_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    lay(tmp_path, "closed/a.md", "open/b.md")
    scandir = os.scandir

    def refuse(path: str):  # Permissions do not bind root, who runs many test machines.
        if path.endswith("closed"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    walk = find([tmp_path])
    found = list(walk)
    assert "cannot be listed: permission denied" in str(found[0])
    assert found[1:] == [str(tmp_path / "open/b.md")]
    assert walk.unlisted == [str(tmp_path / "closed")]


def test_a_walk_is_lazy(tmp_path: Path):
    lay(tmp_path, "a/x.md", "b/y.md")
    walk = iter(find([tmp_path]))
    assert next(walk) == str(tmp_path / "a/x.md")
    lay(tmp_path, "b/z.md")
    assert list(walk) == [str(tmp_path / "b/y.md"), str(tmp_path / "b/z.md")]


def test_a_tree_deeper_than_pythons_recursion_limit_is_walked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    depth = sys.getrecursionlimit() + 100
    monkeypatch.chdir(tmp_path)
    for _ in range(depth):
        Path("d").mkdir()
        os.chdir("d")
    Path("a.md").touch()
    try:
        assert names(find([tmp_path]), tmp_path) == ["d/" * depth + "a.md"]
    finally:  # Pytest's own removal of old folders would recurse.
        Path("a.md").unlink()
        for _ in range(depth):
            os.chdir("..")
            Path("d").rmdir()


@pytest.mark.skipif(os.name == "nt", reason="names are not bytes there")
def test_a_name_that_is_not_utf8_is_an_error_that_can_be_printed(tmp_path: Path):
    try:
        Path(os.fsdecode(bytes(tmp_path) + b"/\xff.md")).write_text("text")
    except OSError:
        pytest.skip("this file system wants UTF-8")
    (error,) = errors(find([tmp_path]))
    assert str(error).isascii()
    assert "\\xff.md: its name is not valid UTF-8" in str(error)


def test_pipes_and_sockets_in_a_folder_are_not_files(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe.md")
    walk = find([tmp_path])
    assert list(walk) == []
    assert walk.skipped == 1


@pytest.mark.parametrize(
    ("name", "media_type"),
    [
        ("a.txt", "text/plain"),
        ("a.MD", "text/markdown"),
        ("a.rst", "text/x-rst"),
        ("a.htm", "text/html"),
        ("a.pdf", "application/pdf"),
        ("a.py", "text/x-python"),
        ("LICENSE", "text/plain"),
    ],
)
def test_reading_gives_bytes_type_and_digest(tmp_path: Path, name: str, media_type: str):
    path = tmp_path / name
    path.write_bytes(b"some bytes")
    content = read(path)
    assert content == Content(
        uri=str(path),
        media_type=media_type,
        digest=blake2b(b"some bytes", digest_size=16).hexdigest(),
        data=b"some bytes",
    )


def test_what_cannot_be_read_is_said_in_a_sentence(tmp_path: Path):
    assert refusal(tmp_path / "gone.md").startswith("there is no such file")
    assert refusal(tmp_path).startswith("is a folder, not a file")
    lay(tmp_path, "file.md")
    assert "a part of the path is a file" in refusal(tmp_path / "file.md/x.md")
    assert "NUL" in refusal("a\0b")
    assert refusal("/" + "x" * 300 + ".md") == "cannot be read: file name too long"


def test_permission_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    lay(tmp_path, "a.md")

    def refuse(*_: object):  # Permissions do not bind root.
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    assert refusal(tmp_path / "a.md").startswith("permission denied: make it readable")


@pytest.mark.skipif(os.name == "nt", reason="there are no such files")
def test_pipes_sockets_and_devices_are_refused_without_waiting(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe.txt")
    assert refusal(tmp_path / "pipe.txt").startswith("is a pipe, not a file")
    assert refusal("/dev/zero").startswith("is a device, not a file")
    with socket.socket(socket.AF_UNIX) as server:
        try:
            server.bind(str(tmp_path / "s"))
        except OSError:
            return  # The folder's path is too long for a socket.
        assert refusal(tmp_path / "s").startswith("is a socket, not a file")


@pytest.mark.parametrize("name", ["a.html", "a.pdf", "a.docx", "a.json"])
def test_too_large_a_file_is_refused_with_size_limit_and_remedy(tmp_path: Path, name: str):
    (tmp_path / name).write_bytes(bytes(2 * MIB + 1))
    assert read(tmp_path / name, max_bytes=2 * MIB + 1).data == bytes(2 * MIB + 1)
    assert refusal(tmp_path / name, max_bytes=2 * MIB) == (
        "is 2.0 MiB, above the limit of 2.0 MiB: split it, or raise max_bytes"
    )
    with pytest.raises(UsageError):
        FileReader(max_bytes=0)


@pytest.mark.parametrize("name", ["a.txt", "a.md", "a.rst", "a.log"])
def test_a_large_text_is_read_in_parts_that_join_to_it(tmp_path: Path, name: str):
    text = "".join(f"Paragraph {n}\r\nof two lines é.\r\n\r\n" for n in range(300_000))
    path = tmp_path / name
    path.write_bytes(text.encode())
    content = read(path, max_bytes=MIB)
    assert content.data == path
    assert content.digest == blake2b(text.encode(), digest_size=16).hexdigest()
    parts = list(documents(content))
    plain = text.replace("\r\n", "\n")
    assert "".join(part.text for part in parts) == plain
    assert [part.id for part in parts] == [f"{path}#{n}" for n in range(len(parts))]
    assert all(len(part.text) <= 256 * 1024 for part in parts)
    assert all(part.text == plain[part.start :][: len(part.text)] for part in parts)
    assert all(part.text.endswith("\n\n") for part in parts)


def test_a_large_text_that_changes_meanwhile_says_so_at_the_end(tmp_path: Path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"a line\n" * (2 * MIB))
    content = read(path)
    path.write_bytes(b"b line\n" * (2 * MIB))
    parts = documents(content)
    assert next(parts).text.startswith("b line\n")
    with pytest.raises(SourceError, match="changed while it was being read"):
        list(parts)


@pytest.mark.parametrize(
    "start", [b"", b"\xef\xbb\xbf", b"\xff\xfe"], ids=["none", "8", "16"]
)
def test_a_large_text_in_any_encoding(tmp_path: Path, start: bytes):
    line = "naïve “text” – ∑\n"
    encoding = {b"": "utf-8", b"\xef\xbb\xbf": "utf-8", b"\xff\xfe": "utf-16-le"}[start]
    path = tmp_path / "a.txt"
    path.write_bytes(start + line.encode(encoding) * 600_000)
    text = "".join(part.text for part in documents(read(path)))
    assert text == line * 600_000


def test_a_large_text_that_is_not_utf8_somewhere_is_windows_1252(tmp_path: Path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"plain line\n" * MIB + b"caf\xe9 \x93quoted\x94\n")
    *_, last = documents(read(path))
    assert last.text.endswith("café “quoted”\n")


def test_a_large_binary_file_is_no_text_and_gives_no_part(tmp_path: Path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"text\n" * (2 * MIB) + b"\0")
    with pytest.raises(SourceError, match="is not text: it holds a NUL at byte 10,485,760"):
        next(documents(read(path)))


def test_a_large_text_without_line_ends_is_cut_all_the_same(tmp_path: Path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"x" * (9 * MIB))
    parts = list(documents(read(path)))
    assert [len(part.text) for part in parts] == [256 * 1024] * 36
