"""Indexing real HTML pages, beside LlamaIndex's ``IngestionPipeline``.

    benchmarks/run rag                          every benchmark, as a table
    benchmarks/run rag index --out              one, its JSON and plot to docs/benchmarks
    benchmarks/run rag index --only llamaindex  one side alone

Each side reads the same files, makes them text, splits them into chunks of at most 256
tokens of the model's, embeds these with the same model, and stores them.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from benchmarks import corpus, harness, show
from benchmarks.harness import Case, Measure, Work

# What MiniLM reads of a text is 256 tokens, two of them its own.
CHUNK_TOKENS = {"static": 256, "minilm": 254}

Medians: TypeAlias = Mapping[str, Measure]

OURS = "anabranch"
ARUN, RUN = "llamaindex arun", "llamaindex run"
_PREPARE = {
    ARUN: "benchmarks.llamaindex:aingest",
    RUN: "benchmarks.llamaindex:ingest",
    OURS: "benchmarks.rag:ingest",
}


def ingest(
    files: Sequence[str], *, model: str, chunk_tokens: int
) -> Callable[[], Awaitable[Work]]:
    """Our side: into an index on disk, whole and durable."""
    try:
        from anabranch.rag import index
    except ImportError as error:
        raise ImportError(
            f"anabranch cannot be measured ({error}); --only llamaindex runs the other side"
        ) from error
    paths = [Path(file) for file in files]
    folder = Path(tempfile.mkdtemp()) / "index"  # removed with the case's own folder

    async def work() -> Work:
        report = await index(paths, into=folder, model=model, chunk_tokens=chunk_tokens)
        if report.broken:
            raise RuntimeError(
                f"{len(report.broken)} pages were not indexed: {report.broken[:3]}"
            )
        return Work(documents=report.documents, chunks=report.chunks)

    return work


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """A table, a JSON file and a plot.

    Attributes:
        title: With ``documents`` to be filled in.
        rows: Label, side and number of documents, ours last.
        goals: What must hold of the medians, by the sentence that says so.
    """

    title: str
    model: str
    rows: Sequence[tuple[str, str, int]]
    goals: Mapping[str, Callable[[Medians], bool]]


BENCHMARKS = {
    "index": Benchmark(
        title="Indexing {documents:,} HTML pages, static model",
        model="static",
        rows=[(side, side, 2_000) for side in _PREPARE],
        goals={
            "at least 3 x the documents a CPU second": lambda found: all(
                found[OURS].documents_per_cpu_s >= 3 * found[peer].documents_per_cpu_s
                for peer in (ARUN, RUN)
            ),
            "under a quarter of the peak memory": lambda found: all(
                found[OURS].peak_mb < found[peer].peak_mb / 4 for peer in (ARUN, RUN)
            ),
            "event loop never stalled for more than 20 ms": lambda found: (
                (found[OURS].stall_ms or 0) <= 20
            ),
        },
    ),
    "memory": Benchmark(
        title="Four times the pages, static model",
        model="static",
        rows=[(f"{OURS} {count:,}", OURS, count) for count in (2_000, 8_000)],
        goals={
            "peak memory within 20 %": lambda found: (
                found[f"{OURS} 8,000"].peak_mb <= 1.2 * found[f"{OURS} 2,000"].peak_mb
            ),
        },
    ),
    "default-model": Benchmark(
        title="Indexing {documents:,} HTML pages, all-MiniLM-L6-v2 int8",
        model="minilm",
        rows=[(side, side, 200) for side in _PREPARE],
        goals={},
    ),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs benchmarks; 0 when all ran and every goal was met, else 1."""
    options = _options(arguments)
    try:
        return max([_run(name, options) for name in options.benchmarks or BENCHMARKS])
    except corpus.CorpusError as error:
        print(f"rag: {error}", file=sys.stderr)
        return 1


def _run(name: str, options: argparse.Namespace) -> int:
    benchmark = BENCHMARKS[name]
    folder = options.corpus.expanduser().resolve()
    counts = {label: options.documents or count for label, _, count in benchmark.rows}
    pages = corpus.sample(max(counts.values()), folder)
    files = [str(page) for page in pages]
    cases = [
        Case(
            label=label,
            prepare=_PREPARE[side],
            files=files[: counts[label]],
            options={
                "model": benchmark.model,
                "chunk_tokens": CHUNK_TOKENS[benchmark.model],
            },
        )
        for label, side, _ in benchmark.rows
        if not options.only or side.split()[0] in options.only
    ]
    if not cases:
        print(
            f"{name}: nothing to run with --only {' '.join(options.only)}", file=sys.stderr
        )
        return 0
    title = benchmark.title.format(documents=len(pages))
    print(f"{name}: {title}", file=sys.stderr)
    runs, failures = harness.run_all(cases, repeats=options.repeats, say=_say)
    found = {label: harness.medians(measures) for label, measures in runs.items()}
    if found:
        print(f"\n{show.table(found)}\n")
    for label, reason in failures.items():
        print(f"{label} failed: {reason}")
    missed = 0
    # A goal is about the benchmark as it stands here, so only a whole one is judged.
    if len(found) == len(benchmark.rows) and not options.documents:
        for goal, is_met in benchmark.goals.items():
            met = is_met(found)
            missed += not met
            print(f"{'met' if met else 'MISSED'}: {goal}")
    if options.out and found and not failures:
        facts = {"repeats": options.repeats, "corpus": corpus.facts(pages, folder)}
        for path in show.write(
            options.out, f"rag-{name}", title=title, runs=runs, facts=facts
        ):
            print(f"wrote {path.name}")
    return 1 if failures or missed else 0


def _say(line: str) -> None:
    print(line, file=sys.stderr)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="benchmarks/run rag",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "benchmarks",
        nargs="*",
        metavar="BENCHMARK",
        help=f"{', '.join(BENCHMARKS)}; default: all",
    )
    parser.add_argument(
        "--only",
        action="append",
        choices=["anabranch", "llamaindex"],
        help="run one side alone",
    )
    parser.add_argument(
        "--documents",
        type=int,
        metavar="N",
        help="another number of pages, for a quick look",
    )
    parser.add_argument(
        "--repeats", type=int, default=3, metavar="N", help="runs a row; medians are shown"
    )
    parser.add_argument(
        "--corpus",
        type=Path,
        default=corpus.DEFAULT_FOLDER,
        metavar="DIR",
        help="where the pages are kept (default: %(default)s)",
    )
    show.add_out(parser)
    options = parser.parse_args(arguments)
    for name in options.benchmarks:
        if name not in BENCHMARKS:
            parser.error(f"no benchmark {name!r}; there are {', '.join(BENCHMARKS)}")
    if options.repeats < 1 or (options.documents is not None and options.documents < 1):
        parser.error("--repeats and --documents are at least 1")
    return options


if __name__ == "__main__":
    raise SystemExit(main())
