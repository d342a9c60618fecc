"""Estimates the API cost of a compile run from its manifests, before anything is applied."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from typing import Any

from rich.table import Table

from subterra_api.job_contract.defaults import evaluation_of, generation_of
from subterra_api.v1alpha1.judging import CALL_BY_CALL, JudgingSettings
from subterra_cli.errors import CommandError
from subterra_cli.files.gate_outlook import gate_outlook
from subterra_cli.files.manifests import CompileRequest, SpendingCap
from subterra_core.model_retirements import lifetimes, retired_models, retiring_models
from subterra_core.pricing import TokenPrice, UnknownModelError
from subterra_core.procedure.graph import Graph
from subterra_core.provider_rules import provider_conflicts, tool_conflicts
from subterra_jobs.errors import InvalidInputError
from subterra_jobs.evaluate import cost_estimate as evaluation
from subterra_jobs.evaluate.scenarios.build import build_scenarios
from subterra_jobs.evaluate.scenarios.repeated_trials import plan_trials
from subterra_jobs.generate import cost_estimate as generation
from subterra_jobs.generate.plan.coverage import Coverage, measure_coverage
from subterra_jobs.generate.plan.plan import plan_conversations
from subterra_jobs.llm.cost_estimate import Cost, CostEstimate, CostItem, usd_range

NO_STYLE = (
    "the procedure has no style: turns have one to three sentences, and open variables mostly made-up values (Hbnvo); `style: {}` "
    "gives real places and names and longer turns, and rewrites every conversation, so set it before the first compile"
)
COLUMNS = ("PART", "MODEL", "CALLS", "TOKENS IN", "TOKENS OUT", "US DOLLARS")


@dataclass(frozen=True)
class CostPlan:
    """Estimated API cost of the two stages that call models."""

    name: str
    conversations: int
    scenarios: int
    arms: int
    """Arms that play each scenario: the candidate, finished models and baselines."""
    scripted: tuple[str, ...]
    """Roles that are scripted and cost nothing."""
    generation: CostEstimate
    evaluation: CostEstimate
    caps: tuple[SpendingCap, ...]
    coverage: Coverage
    retiring: tuple[str, ...] = ()
    """Hosted models whose requests fail soon, each with field, date and replacement."""
    lifetimes: tuple[str, ...] = ()
    """When the other hosted models retire, as far as that is known."""
    is_plain: bool = False
    """Whether a model writes for a procedure without a `style`."""
    judging: JudgingSettings = CALL_BY_CALL
    gate: tuple[str, ...] = ()
    """What the gate will be able to decide with this evaluation."""

    @property
    def total(self) -> CostEstimate:
        return CostEstimate((*self.generation.parts, *self.evaluation.parts))

    @property
    def is_covered(self) -> bool:
        """Whether every cap covers at least the minimum cost."""
        return all(self.total.low.usd <= cap.usd for cap in self.caps)


def estimate(request: CompileRequest, prices: Mapping[str, TokenPrice], today: date) -> CostPlan:
    """The cost with an empty store, where no response is cached. Raises CommandError."""
    if conflicts := (
        *provider_conflicts(request.inputs),
        *tool_conflicts(request.inputs, has_tools=bool(request.procedure.tools)),
        *retired_models(request.inputs, today),
    ):
        raise CommandError("\n".join(f"{request.name}: {conflict}" for conflict in conflicts))
    write = generation_of(request.inputs.generation, request.inputs.base_model.kind)
    judge = evaluation_of(request.inputs.evaluation)
    graph, arms = Graph(request.procedure), 1 + request.references + len(judge.baselines)
    try:
        scenarios = build_scenarios(graph, judge)
        specs = plan_conversations(graph.spec, write)
        written = generation.estimate_cost(graph, write, prices, specs)
        batched = request.judging.mode == "Batch"
        further = plan_trials(graph, judge, scenarios).scenarios
        played = [[*scenarios, *further], *[scenarios] * (arms - 1)]
        judged = evaluation.estimate_cost(graph, judge, prices, scenarios, played, more=len(further), batched=batched)
    except UnknownModelError as error:
        raise CommandError(f"{request.name}: {error}; here, pass it with --prices FILE") from None
    except InvalidInputError as error:
        raise CommandError(f"{request.name}: {error}") from None
    roles = {"teacher": write.teacher, "customers": judge.simulator, "judge": judge.judge}
    scripted = tuple(name for name, provider in roles.items() if provider.name == "scripted")
    count = write.conversations * len(write.seeds)
    coverage = measure_coverage(graph, specs)
    retiring = retiring_models(request.inputs, today)
    plan = CostPlan(request.name, count, judge.scenarios, arms, scripted, written, judged, request.caps, coverage, retiring)
    plain = graph.spec.style is None and write.teacher.name != "scripted"
    outlook = tuple(gate_outlook(request))
    return replace(plan, judging=request.judging, lifetimes=lifetimes(request.inputs, today), is_plain=plain, gate=outlook)


def table(plan: CostPlan) -> Table:
    """A row for each item of cost."""
    result = Table(box=None, padding=(0, 2, 0, 0), show_edge=False)
    for index, title in enumerate(COLUMNS):
        result.add_column(title, justify="left" if index < 2 else "right", no_wrap=True)
    for part in plan.total.parts:
        counts = (f"{_abbreviate(low)} to {_abbreviate(high)}" for low, high in _counts(part.low, part.high))
        result.add_row(part.name, part.model, *counts, usd_range(part.low.usd, part.high.usd))
    for name in plan.scripted:
        result.add_row(name, "scripted", "", "", "", "free")
    return result


def lines(plan: CostPlan) -> Iterator[str]:
    """The text below the table: counts, totals and caps."""
    others = plan.arms - 1
    arms = f"the candidate and {others} other {'arm' if others == 1 else 'arms'}" if others else "the candidate"
    yield f"{plan.conversations:,} conversations to write, {plan.scenarios:,} scenarios to evaluate with {arms}"
    if gaps := plan.coverage.gaps:
        yield gaps
    yield from plan.gate
    if not plan.total.parts:
        yield "no paid API calls"
        return
    yield f"total {plan.total}, hardware excluded: generation {plan.generation}, evaluation {plan.evaluation}"
    yield from plan.total.assumptions
    yield from _batch_lines(plan)
    yield from (_cap_line(plan.total, cap) for cap in plan.caps)
    yield from (f"warning: {each}" for each in plan.retiring)
    yield from plan.lifetimes
    if plan.is_plain:
        yield NO_STYLE
    if not plan.caps:
        yield "no cap is set; spec.budget.maxUSDPerRun of an agent sets one"


def _batch_lines(plan: CostPlan) -> Iterator[str]:
    """What is asked in batches, or why nothing is although the manifest says so."""
    if plan.judging.mode != "Batch":
        return
    cheaper = plan.evaluation.in_batches
    for factor in sorted({item.batch_factor for item in cheaper}):
        names = ", ".join(item.name for item in cheaper if item.batch_factor == factor)
        yield (
            f"in batches, at {(factor * Decimal(100)).normalize():f}% of the price of single calls: {names}; what is not answered "
            f"within {plan.judging.wait_minutes} minutes is asked call by call at the full price"
        )
    if single := [part.name for part in plan.evaluation.parts if part.name in evaluation.READERS and part not in cheaper]:
        yield f"call by call, because the provider has no batches for the model: {', '.join(single)}"


def _cap_line(total: CostEstimate, cap: SpendingCap) -> str:
    name = f"{cap.field} of ${cap.usd.normalize():f}"
    if cap.usd < total.low.usd:
        return f"{name} does not cover the minimum; raise it, or use fewer scenarios, no baselines or cheaper models"
    if cap.usd < total.high.usd:
        return f"{name} covers the minimum but not the maximum: the run may stop at the cap, and paid responses are kept"
    return f"{name} covers the maximum"


def data(plan: CostPlan) -> dict[str, Any]:
    """The plan as JSON data."""
    return {
        "name": plan.name,
        "conversations": plan.conversations,
        "scenarios": plan.scenarios,
        "conditions": plan.arms,
        "scripted": list(plan.scripted),
        "generation": _estimate_data(plan.generation),
        "evaluation": _estimate_data(plan.evaluation),
        "gate": list(plan.gate),
        "retiring": list(plan.retiring),
        "lifetimes": list(plan.lifetimes),
        "untrained": [{"nodes": ngram, "why": why} for ngram, why in plan.coverage.untrained.items()],
        **({"rareQuestions": plan.coverage.rare_questions} if plan.coverage.questions else {}),
        "usd": _dollars(plan.total.low, plan.total.high),
        "caps": [{"field": cap.field, "usd": float(cap.usd), "covers": _covers(plan.total, cap.usd)} for cap in plan.caps],
    }


def _covers(total: CostEstimate, cap: Decimal) -> str:
    return "nothing" if cap < total.low.usd else "least" if cap < total.high.usd else "all"


def _estimate_data(estimate: CostEstimate) -> dict[str, Any]:
    return {"usd": _dollars(estimate.low, estimate.high), "parts": [_item_data(item) for item in estimate.parts]}


def _item_data(item: CostItem) -> dict[str, Any]:
    counts = zip(("calls", "inputTokens", "outputTokens"), _counts(item.low, item.high), strict=True)
    counted = {name: {"low": low, "high": high} for name, (low, high) in counts}
    batch = {"batchFactor": float(item.batch_factor)} if item.batch_factor < 1 else {}
    return {"part": item.name, "model": item.model, **counted, "usd": _dollars(item.low, item.high), **batch}


def _counts(low: Cost, high: Cost) -> tuple[tuple[int, int], ...]:
    return (low.calls, high.calls), (low.input, high.input), (low.output, high.output)


def _dollars(low: Cost, high: Cost) -> dict[str, float]:
    return {"low": round(float(low.usd), 4), "high": round(float(high.usd), 4)}


def _abbreviate(count: int) -> str:
    """A count such as ``2.1 M``."""
    return f"{count / 1e6:.1f} M" if count >= 1e6 else f"{count / 1e3:.0f} k" if count >= 1e4 else f"{count:,}"
