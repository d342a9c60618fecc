"""The comparison as Markdown. Pure."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from bench.comparison.figures import Figures

from subterra_api.v1alpha1.scores import Proportion
from subterra_jobs.evaluate.analysis.statistics import share_interval

NONE = "–"
Value = Proportion | float | None
ABOUT_EQUAL = 1.05
"""Ratio of amounts below which neither is called better."""
_SHOWN_ERROR = 200


@dataclass(frozen=True)
class Measure:
    """A figure that arms are compared by."""

    name: str
    value: Callable[[Figures], Value]
    more_is_better: bool = False


def page(heading: Sequence[str], rows: Sequence[Figures], failures: Sequence[str], subject: str) -> str:
    """Heading, tables and remarks; the arm ``subject`` is compared with each of the others."""
    lines = [*heading, ""]
    if rows:
        lines += [*quality_table(rows), "", *cost_table(rows), "", *comparison_table(rows, subject), ""]
    lines += [
        *(f"- {remark}" for remark in remarks(rows)),
        *(f"- {failure.splitlines()[0][:_SHOWN_ERROR]}" for failure in failures),
    ]
    return "\n".join(lines).rstrip() + "\n"


def quality_table(rows: Sequence[Figures]) -> Iterator[str]:
    """What the arms did right, with Wilson 95 % intervals."""
    yield from _table(
        [
            {
                "arm": row.arm,
                "model": row.model,
                **{f"conformant, {block}": interval(found) for block, found in row.conformant.items()},
                "values kept exact": interval(row.exact),
                "values made up": interval(row.fabricated),
                "broken off": f"{row.broken_off.hits} of {row.broken_off.of}",
            }
            for row in rows
        ]
    )


def cost_table(rows: Sequence[Figures]) -> Iterator[str]:
    """What a conversation and an edit took."""
    yield from _table(
        [
            {
                "arm": row.arm,
                "agent's turns": _number(row.turns, 1),
                "tokens in": _number(row.tokens_in, 0),
                "tokens out": _number(row.tokens_out, 0),
                "waiting, s": _number(row.waiting_seconds, 1),
                "busy, s": _number(row.busy_seconds, 1),
                "USD": f"{row.usd:.6f}",
                "compile": duration(row.compile_seconds),
                "start": duration(row.start_seconds),
                "edit to served": duration(row.edit_seconds),
            }
            for row in rows
        ]
    )


def comparison_table(rows: Sequence[Figures], subject: str) -> Iterator[str]:
    """Where one arm is better and worse than each of the others; nothing when it was not measured."""
    first = next((row for row in rows if row.arm == subject), None)
    others = [row for row in rows if row.arm != subject]
    if first is None or not others:
        return
    yield from _table(
        [
            {f"{subject} against": measure.name, **{row.arm: compare(measure, first, row) for row in others}}
            for measure in measures(first)
        ]
    )


def measures(row: Figures) -> list[Measure]:
    """All measures, in the order of the tables."""
    return [
        *(Measure(f"conformant, {block}", _conformant(block), more_is_better=True) for block in row.conformant),
        Measure("values kept exact", lambda row: row.exact, more_is_better=True),
        Measure("values made up", lambda row: row.fabricated),
        Measure("tokens in", lambda row: row.tokens_in),
        Measure("tokens out", lambda row: row.tokens_out),
        Measure("waiting", lambda row: row.waiting_seconds),
        Measure("busy, USD", lambda row: row.busy_seconds),
        Measure("edit to served", lambda row: row.edit_seconds),
    ]


def _conformant(block: str) -> Callable[[Figures], Value]:
    return lambda row: row.conformant[block]


def compare(measure: Measure, row: Figures, other: Figures) -> str:
    """Whether ``row`` is better or worse than ``other``; shares differ when their 95 % intervals do not overlap."""
    mine, theirs = measure.value(row), measure.value(other)
    if isinstance(mine, Proportion) and isinstance(theirs, Proportion):
        return _compare_shares(mine, theirs, more_is_better=measure.more_is_better)
    if isinstance(mine, float | int) and isinstance(theirs, float | int):
        return _compare_amounts(mine, theirs)
    return NONE


def _compare_shares(mine: Proportion, theirs: Proportion, *, more_is_better: bool) -> str:
    if not mine.of or not theirs.of:
        return NONE
    a, b = share_interval(mine.hits, mine.of), share_interval(theirs.hits, theirs.of)
    if a.low <= b.high and b.low <= a.high:
        return "no clear difference"
    points = 100 * abs(a.mean - b.mean)
    return f"{'better' if (a.mean > b.mean) == more_is_better else 'worse'}, by {points:.0f} points"


def _compare_amounts(mine: float, theirs: float) -> str:
    """Less is better."""
    low, high = sorted((mine, theirs))
    if high < ABOUT_EQUAL * low or low == high:
        return "about equal"
    word = "better" if mine < theirs else "worse"
    return f"{word}, {high / low:.1f} ×" if low > 0 else f"{word}, {duration(high)} against 0 s"


def remarks(rows: Sequence[Figures]) -> Iterator[str]:
    """Why conversations broke off."""
    for row in rows:
        if row.broken_off.hits:
            why = _one_line(row.why_broken_off)[:_SHOWN_ERROR]
            yield f"{row.arm}: {row.broken_off.hits} of {row.broken_off.of} conversations broke off, most often because: {why}"


def interval(found: Proportion) -> str:
    """A share with its Wilson 95 % interval and the number that it is of."""
    if not found.of:
        return f"{NONE} of 0"
    share = share_interval(found.hits, found.of)
    return f"{share.mean:.1%} ({100 * share.low:.1f} to {100 * share.high:.1f}) of {found.of:,}"


def duration(seconds: float | None) -> str:
    """Seconds, or minutes and seconds."""
    if seconds is None:
        return "unknown"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _number(value: float | None, digits: int) -> str:
    return NONE if value is None else f"{value:,.{digits}f}"


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _table(rows: Sequence[Mapping[str, str]]) -> Iterator[str]:
    yield "| " + " | ".join(rows[0]) + " |"
    yield "|" + "---|" * len(rows[0])
    yield from ("| " + " | ".join(row.values()) + " |" for row in rows)
