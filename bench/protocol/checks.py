"""Checks that an evaluation's report is complete. Pure."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from bench.protocol.plan import SERVED, Json, Protocol

from subterra_jobs.evaluate.judge.results import CRITERIA

REFUSED = "the server answered 4"
"""Prefix of the error when the model itself ended a conversation by filling its context."""


@dataclass(frozen=True)
class Outcome:
    """Result of a finished run: its status, the report's files, and the number of its calls in the ledger."""

    status: Json
    report: Json
    page: str
    transcripts: list[Json]
    booked: int

    @property
    def scenarios(self) -> int:
        """Number played: fewer than planned if the evaluation was stopped for futility."""
        return int(self.report["scores"]["scenarios"])

    @property
    def planned(self) -> int:
        """Number planned."""
        return int(self.report["scores"].get("planned", self.scenarios))


def problems(protocol: Protocol, found: Outcome, paid: int) -> list[str]:
    """What is missing or inconsistent, one line each; ``paid``: number of answered calls."""
    return [*_counts(protocol, found, paid), *_statistics(protocol, found)]


def _counts(protocol: Protocol, found: Outcome, paid: int) -> Iterator[str]:
    played, arms = found.scenarios, found.report["arms"]
    if found.planned != protocol.scenarios:
        yield f"{found.planned} scenarios were planned instead of {protocol.scenarios}"
    if tuple(arms) != protocol.arms:
        yield f"conditions are {', '.join(arms)} instead of {', '.join(protocol.arms)}"
    transcripts = Counter(each["arm"] for each in found.transcripts)
    for name, arm in arms.items():
        if (arm["conversations"], transcripts[name]) != (played, played):
            yield f"{name}: {arm['conversations']} conversations and {transcripts[name]} transcripts of {played}"
        if arm["unjudged"]:
            yield f"{name}: {arm['unjudged']} conversations were not judged"
    for each in found.transcripts:
        if each["error"] and (each["arm"] not in SERVED or not each["error"].startswith(REFUSED)):
            yield f"{each['arm']}, scenario {each['id']}: lost ({each['error']})"
    if found.booked != paid:
        yield f"{paid} calls were answered, and the ledger has {found.booked}"
    if found.status.get("scores", {}).get("scenarios") != played or not found.status.get("verdict", {}).get("reasons"):
        yield "the run's status lacks the report's scores or a verdict with reasons"
    if "</html>" not in found.page:
        yield "report.html is incomplete"


def _statistics(protocol: Protocol, found: Outcome) -> Iterator[str]:
    report, others = found.report, protocol.arms[1:]
    for name, arm in report["arms"].items():
        yield from _lacking(arm["criteria"], f"{name}: mean and bootstrap interval", ("mean", "low", "high"))
        yield from _absent(arm["takes"], f"{name}: what a conversation takes", ("turns", "words", "oneQuestion", "secondsPerReply"))
    if [each["against"] for each in report["against"]] != [*others]:
        yield f"the candidate is not compared with each of {', '.join(others)}"
    for each in report["against"]:
        yield from _lacking(each["criteria"], f"against {each['against']}: Wilcoxon's p by Holm", ("p", "n"))
        intervals = {name: one["difference"] for name, one in each["criteria"].items()}
        yield from _lacking(intervals, f"against {each['against']}: bootstrap interval of the difference", ("mean", "low", "high"))
        undefined = [name for name, one in each["criteria"].items() if one["dz"] is None and not _constant(one)]
        yield from (f"against {each['against']}: no d of {name}" for name in undefined)
    yield from _trust(report)
    decides = (report["scores"].get("statistics") or {}).get("comparisons", [])
    if [(each["against"], each["failures"]["of"], len(each["criteria"])) for each in decides] != [
        ("serving", found.scenarios, len(CRITERIA))
    ]:
        yield "the gate's statistics lack a full comparison with the serving version"


def _trust(report: Json) -> Iterator[str]:
    """Problems with the reliability figures of judges and labeller."""
    yield from _lacking(report["agreement"]["kappa"], "agreement of the judges (kappa)", ("mean", "low", "high"))
    judges = report["agreement"]["judges"]
    if len(judges) != 2:
        yield f"{len(judges)} judges instead of two"
    yield from (f"judge {each['name']}: no variance of repeated judgements" for each in judges if each["repeatSd"] is None)
    accuracy = report["labeller"]["accuracy"] or {}
    for part in ("agentTurns", "customerTurns", "conversations"):
        if not accuracy.get(part, {}).get("of"):
            yield f"accuracy of the labeller: {part} was not measured"


def _lacking(criteria: Json, what: str, fields: tuple[str, ...]) -> Iterator[str]:
    """A line for each criterion that lacks one of ``fields``."""
    for name in CRITERIA:
        yield from _absent(criteria.get(name, {}), f"{what} of {name}", fields)


def _absent(figures: Json, what: str, fields: tuple[str, ...]) -> Iterator[str]:
    missing = [field for field in fields if figures.get(field) is None]
    if missing:
        yield f"{what}: {', '.join(missing)} missing"


def _constant(one: dict[str, Any]) -> bool:
    """Whether all differences are equal, so that there is no standard deviation."""
    return bool(one["difference"]["low"] == one["difference"]["high"])
