"""PDF, made by hand: the format's own bytes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from anabranch.errors import SourceError
from anabranch.rag.readers import documents
from anabranch.rag.types import Content

pytest.importorskip("pypdfium2")


def pdf(*pages: str, title: str = "") -> bytes:
    """A PDF with a line of text on each page."""
    kids = " ".join(f"{4 + 2 * n} 0 R" for n in range(len(pages)))
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    fonts = "/Resources << /Font << /F1 3 0 R >> >> /MediaBox [0 0 612 792]"
    for number, text in enumerate(pages):
        drawn = f"BT /F1 12 Tf 72 720 Td ({text}) Tj ET" if text else ""
        stream = 5 + 2 * number
        objects += [
            f"<< /Type /Page /Parent 2 0 R {fonts} /Contents {stream} 0 R >>",
            f"<< /Length {len(drawn)} >>\nstream\n{drawn}\nendstream",
        ]
    objects.append(f"<< /Title ({title}) >>")
    out, offsets = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, 1):
        offsets.append(len(out))
        out += f"{number} 0 obj\n{body}\nendobj\n".encode()
    rows = "".join(f"{offset:010} 00000 n \n" for offset in offsets)
    size = len(objects) + 1
    return (
        out
        + (
            f"xref\n0 {size}\n0000000000 65535 f \n{rows}trailer\n"
            f"<< /Size {size} /Root 1 0 R /Info {len(objects)} 0 R >>\n"
            f"startxref\n{len(out)}\n%%EOF"
        ).encode()
    )


def content(data: bytes) -> Content:
    return Content(uri="u", media_type="application/pdf", digest="", data=data)


def test_each_page_with_text_is_a_document():
    found = list(documents(content(pdf("Hello there", "", "Third", title="A Title"))))
    assert [(d.id, d.text, d.metadata) for d in found] == [
        ("u#page=1", "Hello there", {"title": "A Title", "page": 1}),
        ("u#page=3", "Third", {"title": "A Title", "page": 3}),
    ]


def test_pages_of_pictures_are_explained():
    with pytest.raises(SourceError, match=r"holds no text.*ocrmypdf"):
        list(documents(content(pdf("", ""))))


@pytest.mark.parametrize("data", [b"", b"not a pdf", pdf("x")[:40]])
def test_a_broken_file_is_an_error(data: bytes):
    with pytest.raises(SourceError, match="is not a PDF that can be read"):
        list(documents(content(data)))


def test_an_encrypted_file_is_an_error():
    locked = pdf("x").replace(
        b"/Info",
        b"/ID [<00112233445566778899aabbccddeeff> <00112233445566778899aabbccddeeff>] "
        b"/Encrypt << /Filter /Standard /V 1 /R 2 /Length 40 /P -4 /O <"
        + b"11" * 32
        + b"> /U <"
        + b"22" * 32
        + b"> >> /Info",
    )
    with pytest.raises(SourceError, match="is encrypted: save a copy without a password"):
        list(documents(content(locked)))


def test_many_at_once_in_threads():
    data = content(pdf(*(f"page {n}" for n in range(20))))
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda _: [d.text for d in documents(data)], range(32)))
    assert results == [[f"page {n}" for n in range(20)]] * 32


def test_a_reading_given_up_leaves_the_next_one_free():
    first = documents(content(pdf("a", "b")))
    assert next(first).text == "a"
    assert [d.text for d in documents(content(pdf("c")))] == ["c"]
    first.close()  # type: ignore[attr-defined]
    assert [d.text for d in documents(content(pdf("d")))] == ["d"]
