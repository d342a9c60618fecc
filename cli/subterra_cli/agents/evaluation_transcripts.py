"""Judged conversations of a finished evaluation, as the evaluate stage left them in the report's folder."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from subterra_cli.errors import CommandError
from subterra_core.judge_certification.certificate import FAILURE
from subterra_jobs.evaluate.judge.results import TASK

FILE, REPORT = "transcripts.jsonl", "report.json"


class TranscriptsError(CommandError):
    """There is no evaluation at this place, or nothing in it that people could score."""


@dataclass(frozen=True)
class JudgedConversation:
    """One conversation with the scores of all judges."""

    arm: str
    scenario: str
    challenged: bool
    values: dict[str, str]
    turns: tuple[tuple[str, str], ...]
    """Speaker (`customer` or `agent`) and text."""
    judges: tuple[dict[str, float], ...]

    @property
    def flagged(self) -> bool:
        """Whether any judge calls it a failure."""
        return any(scores[TASK] <= FAILURE for scores in self.judges)


@dataclass(frozen=True)
class Transcripts:
    """Conversations that count, equal ones once, and the judges' names in the order of their scores."""

    conversations: tuple[JudgedConversation, ...]
    judges: tuple[str, ...]
    fingerprints: tuple[str, ...]
    left_out: int
    """Conversations that failed for technical reasons, do not count in the evaluation, or lack a judge's scores."""


def read_transcripts(location: Path) -> Transcripts:
    """The conversations of a report's folder, or of the folder of one of its files. Raises TranscriptsError."""
    folder = location if location.is_dir() else location.parent
    try:
        lines = (folder / FILE).read_bytes().splitlines()
        every = [json.loads(line) for line in lines]
        # Robustness customers are not judged, and further trials would count their customers several times.
        rows = [row for row in every if "judgements" in row and "trial" not in row]
        kept = [row for row in rows if row["error"] is None and not row["leftOut"] and None not in row["judgements"]]
        found = {(str(one.turns), str(one.values)): one for one in reversed([*map(_conversation, kept)])}
        prints = tuple(given["judge"] for given in kept[0]["judgements"]) if kept else ()
        names = _judge_names(folder, prints)
    except OSError as error:
        raise TranscriptsError(
            f"{folder / FILE} cannot be read: {error.strerror}; pass the folder of a finished evaluation's report, copied from the "
            "store: kubectl cp POD:/store/REPORTPATH report/"
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise TranscriptsError(f"{folder / FILE} is not what an evaluation writes ({error!r}); copy it again") from None
    if not found:
        raise TranscriptsError(f"{folder / FILE} has no conversation that every judge scored; evaluate again")
    return Transcripts(tuple(reversed(found.values())), names, prints, len(rows) - len(kept))


def _conversation(row: dict[str, Any]) -> JudgedConversation:
    speakers = {"user": "customer", "assistant": "agent"}
    return JudgedConversation(
        row["arm"],
        row["id"],
        bool(row["challenged"]),
        dict(row["values"]),
        tuple((speakers[turn["role"]], str(turn["text"])) for turn in row["turns"]),
        tuple({name: float(score) for name, score in given["scores"].items()} for given in row["judgements"]),
    )


def _judge_names(folder: Path, fingerprints: tuple[str, ...]) -> tuple[str, ...]:
    """Names from the report, or the fingerprints where it is missing."""
    report = folder / REPORT
    names: Iterator[str] = (
        (str(judge["name"]) for judge in json.loads(report.read_text())["agreement"]["judges"]) if report.is_file() else iter(())
    )
    return tuple(next(names, fingerprint) for fingerprint in fingerprints)
