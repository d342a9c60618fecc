"""What a compile will pay, before anything is applied or asked."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from rich.table import Table

from subterra_api.job_contract.defaults import evaluation_of, generation_of
from subterra_cli.errors import CommandError
from subterra_cli.manifests import Cap, Compile
from subterra_core.pricing import TokenPrice, UnknownModelError
from subterra_core.procedure.graph import Graph
from subterra_core.provider_rules import refusals
from subterra_jobs.errors import InvalidInputError
from subterra_jobs.evaluate import cost_estimate as evaluation
from subterra_jobs.evaluate.scenarios import build
from subterra_jobs.generate import cost_estimate as generation
from subterra_jobs.llm.cost_estimate import Bill, Forecast, Part, span

COLUMNS = ("PART", "MODEL", "CALLS", "TOKENS IN", "TOKENS OUT", "US DOLLARS")


@dataclass(frozen=True)
class Plan:
    """What both stages that pay somebody will pay."""

    name: str
    conversations: int
    scenarios: int
    conditions: int
    """How many play each scenario: the candidate, finished models and baselines."""
    free: tuple[str, ...]
    """Parts that are scripted."""
    generation: Forecast
    evaluation: Forecast
    caps: tuple[Cap, ...]

    @property
    def whole(self) -> Forecast:
        return Forecast((*self.generation.parts, *self.evaluation.parts))

    @property
    def covered(self) -> bool:
        """Whether every cap leaves at least the least that it will cost."""
        return all(self.whole.low.usd <= cap.usd for cap in self.caps)


def planned(asked: Compile, prices: Mapping[str, TokenPrice]) -> Plan:
    """The forecast for a store that has nothing of it yet. Raises CommandError."""
    if wrong := refusals(asked.inputs):
        raise CommandError("\n".join(f"{asked.name}: {each}" for each in wrong))
    scratch = asked.inputs.base_model.uri == "scratch"
    writing, judging = generation_of(asked.inputs.generation, scratch), evaluation_of(asked.inputs.evaluation)
    graph, conditions = Graph(asked.procedure), 1 + asked.references + len(judging.baselines)
    try:
        listed = build.build(graph, judging)
        written = generation.forecast(graph, writing, prices)
        judged = evaluation.forecast(graph, judging, prices, listed, [listed] * conditions)
    except UnknownModelError as error:
        raise CommandError(f"{asked.name}: {error}; here, --prices FILE has it") from None
    except InvalidInputError as error:
        raise CommandError(f"{asked.name}: {error}") from None
    roles = {"teacher": writing.teacher, "customers": judging.simulator, "judge": judging.judge}
    free = tuple(name for name, provider in roles.items() if provider.name == "scripted")
    count = writing.conversations * len(writing.seeds)
    return Plan(asked.name, count, judging.scenarios, conditions, free, written, judged, asked.caps)


def table(found: Plan) -> Table:
    """A row for each part."""
    drawn = Table(box=None, padding=(0, 2, 0, 0), show_edge=False)
    for place, title in enumerate(COLUMNS):
        drawn.add_column(title, justify="left" if place < 2 else "right", no_wrap=True)
    for part in found.whole.parts:
        counts = (f"{_many(low)} to {_many(high)}" for low, high in _counts(part.low, part.high))
        drawn.add_row(part.name, part.model, *counts, span(part.low.usd, part.high.usd))
    for name in found.free:
        drawn.add_row(name, "scripted", "", "", "", "nothing")
    return drawn


def lines(found: Plan) -> Iterator[str]:
    """What stands below the table."""
    beside = f" and {found.conditions - 1} beside it" if found.conditions > 1 else ""
    yield f"{found.conversations:,} conversations are written, {found.scenarios:,} scenarios played with the candidate{beside}"
    if not found.whole.parts:
        yield "no provider is paid anything"
        return
    yield f"in all {found.whole} without hardware: writing {found.generation}, evaluation {found.evaluation}"
    yield from map(_verdict, [found.whole] * len(found.caps), found.caps)
    if not found.caps:
        yield "no cap is set; spec.budget.maxUSDPerRun of an agent is one"


def _verdict(whole: Forecast, cap: Cap) -> str:
    told = f"{cap.field} of ${cap.usd.normalize():f}"
    if cap.usd < whole.low.usd:
        return f"{told} does not cover even the least; raise it, or have fewer scenarios, no baselines or cheaper models"
    if cap.usd < whole.high.usd:
        return f"{told} covers the least, and not the most: the run may stop at it, and what is paid by then is kept"
    return f"{told} covers it"


def data(found: Plan) -> dict[str, Any]:
    """The plan for scripts."""
    return {
        "name": found.name,
        "conversations": found.conversations,
        "scenarios": found.scenarios,
        "conditions": found.conditions,
        "scripted": list(found.free),
        "generation": _forecast(found.generation),
        "evaluation": _forecast(found.evaluation),
        "usd": _dollars(found.whole.low, found.whole.high),
        "caps": [{"field": cap.field, "usd": float(cap.usd), "covers": _covers(found.whole, cap.usd)} for cap in found.caps],
    }


def _covers(whole: Forecast, cap: Decimal) -> str:
    return "nothing" if cap < whole.low.usd else "least" if cap < whole.high.usd else "all"


def _forecast(found: Forecast) -> dict[str, Any]:
    return {"usd": _dollars(found.low, found.high), "parts": [_part(part) for part in found.parts]}


def _part(part: Part) -> dict[str, Any]:
    counts = zip(("calls", "inputTokens", "outputTokens"), _counts(part.low, part.high), strict=True)
    counted = {name: {"low": low, "high": high} for name, (low, high) in counts}
    return {"part": part.name, "model": part.model, **counted, "usd": _dollars(part.low, part.high)}


def _counts(low: Bill, high: Bill) -> tuple[tuple[int, int], ...]:
    return (low.calls, high.calls), (low.input, high.input), (low.output, high.output)


def _dollars(low: Bill, high: Bill) -> dict[str, float]:
    return {"low": round(float(low.usd), 4), "high": round(float(high.usd), 4)}


def _many(count: int) -> str:
    """Such as ``2.1 M``."""
    return f"{count / 1e6:.1f} M" if count >= 1e6 else f"{count / 1e3:.0f} k" if count >= 1e4 else f"{count:,}"
