"""Cost forecast before the first paid call; refuses an evaluation that the caps would not let finish."""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from subterra_core.procedure.graph import Graph
from subterra_jobs.errors import BudgetExceededError, InfrastructureError
from subterra_jobs.evaluate.cost_estimate import JUDGES, LABELLER, estimate_cost
from subterra_jobs.evaluate.scenarios.scenario import Scenario
from subterra_jobs.evaluate.simulate.conversation_cache import ConversationCache
from subterra_jobs.llm.client_pool import ClientPool
from subterra_jobs.llm.cost_estimate import CostEstimate, usd_range
from subterra_jobs.stage.runner import StageContext

log = logging.getLogger("subterra")
_RESPONSE_USES = {name: f"judge-{index}" for index, name in enumerate(JUDGES)} | {LABELLER: "labeller"}
"""Response caches by cost item, of roles that read conversations. Those of agents and users end with a conversation."""


@dataclass(frozen=True)
class CostForecast:
    """Total cost of the stage, including earlier attempts."""

    paid: Decimal
    """USD paid before this attempt."""
    remaining: CostEstimate

    def __str__(self) -> str:
        """For example `forecast $21 to $46`."""
        return f"forecast {usd_range(self.paid + self.remaining.low.usd, self.paid + self.remaining.high.usd)}"

    def summary(self, usd: Decimal, cached_share: float | None = None) -> dict[str, str]:
        """Forecast, actual cost and what the providers' caches did for it, for the report's provenance."""
        cached = {} if cached_share is None else {"input read from providers' caches": f"{cached_share:.0%}"}
        return {"price of the evaluation": f"{self}, paid ${usd:,.2f}"} | cached


@dataclass(frozen=True)
class PlannedWork:
    """What an evaluation has to simulate and judge, and what is already finished."""

    graph: Graph
    scenarios: Sequence[Scenario]
    caches: Sequence[ConversationCache]
    """Finished conversations of each arm, served models first."""
    gold_conversations: int
    """Conversations of the dataset that the labeller's accuracy is measured on."""


async def check_cost(context: StageContext, planned: PlannedWork, pool: ClientPool) -> CostForecast | None:
    """The forecast, or `None` when no provider is paid. Raises BudgetExceededError when the caps leave less than its low end.

    An evaluation that has already paid continues until a cap stops it, because the remaining cost of unfinished conversations is
    unknown.
    """
    if (figures := await pool.stats()) is None:
        return None
    remaining = await asyncio.to_thread(_remaining_cost, context, planned, pool)
    forecast = CostForecast(figures.usd, remaining)
    parts = ", ".join(f"{part.name} {usd_range(part.low.usd, part.high.usd)}" for part in remaining.parts)
    log.info("the evaluation will cost about %s: %s", remaining, parts)
    context.progress.set_message(str(forecast))
    exceeded = None if figures.usd else await pool.cap_exceeded(remaining.low.usd)
    if exceeded is not None:
        raise BudgetExceededError(
            f"the evaluation will cost about {remaining} ({parts}), and {exceeded.summary}; "
            f"nothing has been paid yet; {exceeded.fix}, or reduce the cost: fewer evaluation.scenarios, "
            "no evaluation.baselines, cheaper models as simulator and judges"
        )
    return forecast


def _remaining_cost(context: StageContext, planned: PlannedWork, pool: ClientPool) -> CostEstimate:
    """Cost without finished conversations and cached responses of judges."""
    unfinished = [[scenario for scenario in planned.scenarios if cache.get(scenario.id) is None] for cache in planned.caches]
    prices, settings = context.environment.prices, context.input.evaluation
    batched = context.environment.judging.mode == "Batch"
    forecast = estimate_cost(
        planned.graph, settings, prices, planned.scenarios, unfinished, planned.gold_conversations, batched=batched
    )
    try:
        parts = [
            part.minus_cached(pool.cached_responses(_RESPONSE_USES[part.name])) if part.name in _RESPONSE_USES else part
            for part in forecast.parts
        ]
    except OSError as error:
        raise InfrastructureError(f"cannot read cached responses: {error}; check the artifact store") from None
    return replace(forecast, parts=tuple(parts))
