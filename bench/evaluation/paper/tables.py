"""The paper's tables of a report as Markdown. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from subterra_jobs.evaluate.analysis.paper_tables.failure_modes import MODES
from subterra_jobs.evaluate.judge.results import CRITERIA

Json = Mapping[str, Any]
NONE = "–"


def lines(report: Json, other: Json | None, runs: Json | None) -> Iterator[str]:
    """All tables. `other` names the report of another run and `runs` compares the candidates, if there is one."""
    paper = report["paper"]
    yield from _titled("Means by judge, and percent of the in-context arm", _judge_rows(paper))
    yield from _titled("Effect sizes, candidate against each arm", _effect_rows(paper))
    if runs is not None and other is not None:
        yield from _titled(f"Candidate against that of {other['agent']} in another evaluation (unpaired)", _run_rows(runs))
    yield from _titled("Causes of failures (conversations with the mode)", _failure_rows(paper))
    yield from _titled("Accuracy at decision hubs", _hub_rows(paper))
    yield from _titled("Effort and price of a conversation (* own hardware, at the paper's rates)", _effort_rows(paper))


def _titled(title: str, rows: Sequence[Mapping[str, object]]) -> Iterator[str]:
    yield from ("", f"**{title}**", "", *table(rows))


def table(rows: Sequence[Mapping[str, object]]) -> Iterator[str]:
    """Rows with equal keys as a Markdown table."""
    if rows:
        yield "| " + " | ".join(rows[0]) + " |"
        yield "|" + "---|" * len(rows[0])
        yield from ("| " + " | ".join(map(str, row.values())) + " |" for row in rows)


def _judge_rows(paper: Json) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for arm, judged in paper["byJudge"].items():
        rows += [{"arm": arm, "judge": each["judge"], "n": each["n"]} | _means(each["criteria"]) for each in judged]
        percent = paper["percentOfInContext"].get(arm)
        if percent:
            shares = {name: _number(percent.get(name), 1) for name in CRITERIA}
            rows.append({"arm": arm, "judge": "% of in-context", "n": ""} | shares)
    return rows


def _means(criteria: Json) -> dict[str, object]:
    return {name: _interval(criteria[name]) if name in criteria else NONE for name in CRITERIA}


def _effect_rows(paper: Json) -> list[dict[str, object]]:
    return [
        {
            "against": arm,
            "criterion": name,
            "n": row["n"],
            "difference": f"{row['difference']:+.2f}",
            "pooled d": _number(row["pooledD"]),
            "d_z": _number(row["dz"]),
            "p, Wilcoxon": _number(row["wilcoxonP"], 3),
            "U": _number(row["mannWhitneyU"], 1),
            "p, Mann-Whitney": _number(row["mannWhitneyP"], 3),
        }
        for arm, rows in paper["effects"].items()
        for name, row in rows.items()
    ]


def _run_rows(runs: Json) -> list[dict[str, object]]:
    return [
        {
            "criterion": name,
            "n": f"{row['n']} and {row['otherN']}",
            "difference": f"{row['difference']:+.2f}",
            "pooled d": _number(row["pooledD"]),
            "U": _number(row["mannWhitneyU"], 1),
            "p, Mann-Whitney": _number(row["mannWhitneyP"], 3),
        }
        for name, row in runs.items()
    ]


def _failure_rows(paper: Json) -> list[dict[str, object]]:
    arms = paper["failures"]
    rows: list[dict[str, object]] = [
        {"mode": mode} | {arm: f"{found['causes'].get(mode, 0)} ({found['occurring'].get(mode, 0)})" for arm, found in arms.items()}
        for mode in MODES
    ]
    totals = {arm: f"{found['failures']} of {found['conversations']}" for arm, found in arms.items()}
    return [*rows, {"mode": "failures of"} | totals]


def _hub_rows(paper: Json) -> list[dict[str, object]]:
    return [
        {"arm": arm, "by replies": _share(found["replies"]), "by router": _share(found["router"])}
        for arm, found in paper["hubs"].items()
    ]


def _share(found: Json | None) -> str:
    if not found or not found["share"]:
        return NONE
    share = found["share"]
    return f"{found['hits']} of {found['of']}: {share['mean']:.1%} ({share['low']:.1%} to {share['high']:.1%})"


def _effort_rows(paper: Json) -> list[dict[str, object]]:
    return [
        {
            "arm": arm,
            **{name: _number(row[name], 1) for name in ("turns", "words", "questions", "calls")},
            "s": f"{_number(row['seconds'])} ({_times(row['secondsRatio'])})",
            "tokens in": f"{_number(row['tokensIn'], 0)} ({_times(row['tokensInRatio'])})",
            "cached": _number(row["cacheRead"], 0),
            "tokens out": f"{_number(row['tokensOut'], 0)} ({_times(row['tokensOutRatio'])})",
            "USD": f"{_number(row['usd'], 6)}{'*' if row['ownHardware'] else ''}",
            "USD ÷ candidate": _number(row["timesCandidateUsd"], 1),
        }
        for arm, row in paper["effort"].items()
    ]


def _times(value: float | None) -> str:
    return NONE if value is None else f"{value:.2f} ×"


def _interval(found: Json) -> str:
    return f"{found['mean']:.2f} ({found['low']:.2f} to {found['high']:.2f})"


def _number(value: float | None, digits: int = 2) -> str:
    return NONE if value is None else f"{value:,.{digits}f}"
