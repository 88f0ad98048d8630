"""The main job, small: index a folder, change it, index it again, and ask.

It uses the static model, which needs the extra ``static`` beside ``rag``, and no network.
The second run reads everything and embeds only what is new.
"""

import asyncio
import tempfile
from pathlib import Path

from anabranch import amap
from anabranch.rag import Report, index, open_index

NOTES = {
    "rivers.md": "# Rivers\n\nAn anabranch leaves the main stream and joins it again.\n\n"
    "A tributary flows into a larger river and ends there.",
    "lakes.md": "# Lakes\n\nAn oxbow lake is a bend that the river has cut off.",
    "broken.pdf": "this is no PDF file",
}
QUESTIONS = ["Which stream joins the river again?", "How is a bend cut off from a river?"]


def told(report: Report) -> str:
    return (
        f"{report.sources} sources: {report.new} new, {report.changed} changed, "
        f"{report.unchanged} unchanged, {len(report.broken)} broken; "
        f"{report.embedded} passages embedded"
    )


async def main(folder: Path) -> None:
    notes, into = folder / "notes", folder / "my-index"
    notes.mkdir()
    for name, text in NOTES.items():
        (notes / name).write_text(text)

    report = await index([notes], into=into, model="static", chunk_tokens=32)
    print("first run: ", told(report))
    for error in report.broken:
        print(f"  {Path(error.uri).name}: {error.reason}")

    (notes / "broken.pdf").unlink()
    (notes / "weirs.txt").write_text("A weir is a low dam that raises the water.")
    report = await index([notes], into=into, chunk_tokens=32, prune=True)
    print("second run:", told(report))

    async with open_index(into) as retriever:
        answers = await amap(retriever.retrieve, QUESTIONS)
    for question, hits in zip(QUESTIONS, answers, strict=True):
        best = hits[0]
        print(f"\n? {question}\n  {Path(best.source).name}: {best.text!r}")
        print("  found by", ", ".join(f"{name} #{n}" for name, n in best.ranks.items()))


with tempfile.TemporaryDirectory() as folder:
    asyncio.run(main(Path(folder)))
