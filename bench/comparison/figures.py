"""Figures of one arm. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from bench.comparison.arms import ArmPlan
from bench.comparison.examining import Examined
from bench.comparison.playing import Played

from subterra_api.v1alpha1.scores import Proportion
from subterra_core.pricing import usd_per_conversation
from subterra_jobs.evaluate.analysis.arms import cost_per_conversation
from subterra_jobs.evaluate.judge.fabrication import count_fabricated
from subterra_jobs.evaluate.judge.results import Result


@dataclass(frozen=True)
class Figures:
    """What an arm did and took. Tokens, turns and waiting are means over finished conversations, `None` if there are none."""

    arm: str
    model: str
    conformant: Mapping[str, Proportion]
    """By block; a conversation that broke off is not conformant."""
    fabricated: Proportion
    """Asserted values that nobody gave."""
    exact: Proportion
    """Repeated values that are the customer's."""
    broken_off: Proportion
    why_broken_off: str
    """The most frequent reason; empty without one."""
    turns: float | None
    tokens_in: float | None
    tokens_out: float | None
    waiting_seconds: float | None
    """What a customer waits for replies in a conversation."""
    busy_seconds: float
    """Seconds of the machine for a conversation."""
    usd: Decimal
    compile_seconds: float | None
    start_seconds: float
    edit_seconds: float | None
    """From an edit of the procedure to an agent that follows it; `None` when unknown."""


def figures_of(plan: ArmPlan, played: Played, examined: Examined, usd_per_hour: Decimal) -> Figures:
    """The arm's figures over both blocks; conformance for each."""
    results = [result for block in examined.values() for result in block]
    cost = cost_per_conversation(results)
    errors = Counter(result.conversation.error for result in results if result.conversation.error is not None)
    return Figures(
        arm=plan.name,
        model=plan.description,
        conformant={block: _share([result.conformant for result in found]) for block, found in examined.items()},
        fabricated=count_fabricated([result.assertions for result in results]),
        exact=_exact(results),
        broken_off=Proportion(hits=errors.total(), of=len(results)),
        why_broken_off=next((str(error) for error, _ in errors.most_common(1)), ""),
        turns=cost["turns"],
        tokens_in=cost["promptTokens"],
        tokens_out=cost["completionTokens"],
        waiting_seconds=cost["seconds"],
        busy_seconds=played.busy_seconds / len(results),
        usd=usd_per_conversation(usd_per_hour, played.busy_seconds, len(results)) or Decimal(0),
        compile_seconds=plan.compile_seconds,
        start_seconds=played.start_seconds,
        edit_seconds=_edit_seconds(plan, played.start_seconds),
    )


def _edit_seconds(plan: ArmPlan, start_seconds: float) -> float | None:
    if plan.compile_seconds is None:
        return None
    return plan.compile_seconds + (start_seconds if plan.restarts else 0.0)


def _exact(results: Sequence[Result]) -> Proportion:
    return _share([mention.exact for result in results for mention in result.replay.mentions])


def _share(hits: Sequence[bool]) -> Proportion:
    return Proportion(hits=sum(hits), of=len(hits))
