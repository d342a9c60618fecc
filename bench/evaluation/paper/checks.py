"""Whether the table of failures finds the flaws that the stand-ins made. Pure."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bench.evaluation.paper.stand_ins import KnownFlaws, Line

Json = Mapping[str, Any]


def made_flaws(report: Json, transcripts: Sequence[Json], known: KnownFlaws) -> dict[str, Counter[str]]:
    """Conversations of each arm with a flaw that a stand-in made, by kind; only those that count in the arm's scores."""
    scenarios = {row["id"] for row in report["scenarios"]}
    found: dict[str, Counter[str]] = {arm: Counter() for arm in report["arms"]}
    for row in transcripts:
        if row["id"] in scenarios and "trial" not in row and not row.get("leftOut"):
            mode = "noReply" if row["error"] else known.first(_lines(row))
            found[row["arm"]].update([mode] if mode else [])
    return found


def _lines(row: Json) -> list[Line]:
    return [("Agent" if turn["role"] == "assistant" else "Customer", turn["text"]) for turn in row["turns"]]


def problems(report: Json, made: Mapping[str, Counter[str]]) -> Iterator[str]:
    """A line for each arm and kind of flaw whose count in the table of failures is not the number of flaws made."""
    for arm, counts in made.items():
        causes = Counter(report["paper"]["failures"][arm]["causes"])
        for mode in sorted({*counts, *causes}):
            if counts[mode] != causes[mode]:
                yield f"{arm}: {causes[mode]} failures by {mode} in the table, {counts[mode]} made"
