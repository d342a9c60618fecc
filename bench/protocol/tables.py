"""The tables printed at the end."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from bench.protocol.checks import Outcome
from bench.protocol.plan import Json

from subterra_jobs.evaluate.judge.results import CRITERIA, NATURAL, TASK


@dataclass(frozen=True)
class Measured:
    """A finished protocol. ``seconds``: from the agent's new spec to the verdict."""

    protocol: str
    run: str
    outcome: Outcome
    seconds: float
    playing: float
    """Seconds from the first call to the last."""
    calls: int

    def figures(self) -> Json:
        """The figures of a table row, also printed as JSON."""
        report, status = self.outcome.report, self.outcome.status
        return {
            "protocol": self.protocol,
            "scenarios": self.outcome.scenarios,
            "planned": self.outcome.planned,
            "conditions": len(report["arms"]),
            "conversations": sum(arm["conversations"] for arm in report["arms"].values()),
            "seconds": round(self.seconds),
            "calling_seconds": round(self.playing),
            "calls": self.calls,
            "calls_per_minute": round(60 * self.calls / self.playing) if self.playing else 0,
            "usd_booked": status["usd"],
            "verdict": status["verdict"]["result"],
        }


def lines(measured: Sequence[Measured]) -> Iterator[str]:
    """The lines of all tables."""
    yield from table([each.figures() for each in measured])
    for each in measured:
        yield from (
            "",
            f"{each.protocol}, run {each.run}:",
            *(f"- {reason}" for reason in each.outcome.status["verdict"]["reasons"]),
            "",
        )
        yield from table([_arm(name, arm) for name, arm in each.outcome.report["arms"].items()])
        yield ""
        yield from table([_against(one) for one in each.outcome.report["against"]])
        yield from ("", *_trust(each.outcome.report), each.outcome.report["provenance"].get("price of the evaluation", ""))


def table(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """``rows`` with equal keys as a Markdown table."""
    yield "| " + " | ".join(rows[0]) + " |"
    yield "|" + "---|" * len(rows[0])
    yield from ("| " + " | ".join(map(str, row.values())) + " |" for row in rows)


def _arm(name: str, arm: Json) -> dict[str, Any]:
    usd = arm["takes"]["usd"]
    return {
        "condition": name,
        "conversations": arm["conversations"],
        "not playable": arm["unplayed"],
        "conformance": _share(arm["conformance"]),
        "failures": _share(arm["failureRate"]),
        **{criterion: f"{arm['criteria'][criterion]['mean']:.2f}" for criterion in CRITERIA},
        "turns": arm["takes"]["turns"],
        "s a reply": arm["takes"]["secondsPerReply"],
        "USD": "–" if usd is None else usd,
    }


def _against(one: Json) -> dict[str, Any]:
    """Comparison on task success and naturalness, the first and last of five criteria."""
    return {
        "candidate against": one["against"],
        "compared": one["compared"],
        **{f"{name}: difference, p, d": _difference(one["criteria"][name]) for name in (TASK, NATURAL)},
        "only candidate failed": one["failures"]["onlyCandidate"],
        "only the other": one["failures"]["onlyOther"],
    }


def _difference(found: Json) -> str:
    mean, d = found["difference"], found["dz"]
    return f"{mean['mean']:.2f} ({mean['low']:.2f} to {mean['high']:.2f}), {found['p']:.2g}, {'–' if d is None else f'{d:.2f}'}"


def _trust(report: Json) -> Iterator[str]:
    for name, kappa in report["agreement"]["kappa"].items():
        yield f"kappa of {name}: {kappa['mean']:.2f} ({kappa['low']:.2f} to {kappa['high']:.2f})"
    for judge in report["agreement"]["judges"]:
        yield f"judge {judge['name']}: {judge['twice']} judged twice, standard deviation {judge['repeatSd']:.2f}"
    for part, tally in report["labeller"]["accuracy"].items():
        yield f"labeller, {part}: {tally['hits']} of {tally['of']}"


def _share(found: Json) -> str:
    return f"{found['mean']:.1%} ({found['low']:.1%} to {found['high']:.1%})"
