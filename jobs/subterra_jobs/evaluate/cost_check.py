"""Tells what the evaluation will cost before anybody is paid, and refuses what the caps will not let come to its end."""

import asyncio
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path

from subterra_api.job_contract.environment import PRICES_VARIABLE
from subterra_core.pricing import prices_from
from subterra_core.procedure.graph import Graph
from subterra_jobs.errors import BudgetExceededError, InfrastructureError
from subterra_jobs.evaluate.cost_estimate import JUDGES, LABELLER, forecast
from subterra_jobs.evaluate.judge.llm_labeller import CHECKED
from subterra_jobs.evaluate.scenarios.scenario import Scenario
from subterra_jobs.evaluate.simulate.simulation import Library
from subterra_jobs.llm.client_pool import ClientPool
from subterra_jobs.llm.cost_estimate import Forecast, span
from subterra_jobs.stage.runner import StageContext

log = logging.getLogger("subterra")
_USES = {name: f"judge-{place}" for place, name in enumerate(JUDGES)} | {LABELLER: "labeller"}
"""Under which the answers of those who read conversations are kept. A player's are no use once the conversation is finished."""


@dataclass(frozen=True)
class Expected:
    """What the stage will have paid in the end, attempts before this one included."""

    paid: Decimal
    """Before this attempt, in dollars."""
    ahead: Forecast

    def __str__(self) -> str:
        """Such as ``forecast $21 to $46``."""
        return f"forecast {span(self.paid + self.ahead.low.usd, self.paid + self.ahead.high.usd)}"

    def beside(self, usd: Decimal) -> dict[str, str]:
        """For the report: what was expected and what was paid."""
        return {"price of the evaluation": f"{self}, paid ${usd:,.2f}"}


async def expect(
    context: StageContext, graph: Graph, listed: Sequence[Scenario], libraries: Sequence[Library], dataset: Path | None, desk: ClientPool,
) -> Expected | None:  # fmt: skip
    """None when the evaluation pays nobody. Raises BudgetExceededError when the caps leave less than the least it will cost.

    ``libraries`` has the finished conversations of each condition. An evaluation that has begun to pay goes on until a cap stops
    it: of conversations under way nobody knows what they lack.
    """
    if (figures := await desk.figures()) is None:
        return None
    ahead = await asyncio.to_thread(_ahead, context, graph, listed, libraries, CHECKED if dataset else 0, desk)
    expected = Expected(figures.usd, ahead)
    parts = ", ".join(f"{part.name} {span(part.low.usd, part.high.usd)}" for part in ahead.parts)
    log.info("the evaluation will cost about %s: %s", ahead, parts)
    context.progress.say(str(expected))
    refusal = None if figures.usd else await desk.refusal(ahead.low.usd)
    if refusal is not None:
        raise BudgetExceededError(
            f"the evaluation will cost about {ahead} ({parts}), and {refusal.told}; nothing of it is paid yet; {refusal.cure}, or "
            "make it cheaper: fewer evaluation.scenarios, no evaluation.baselines, cheaper models as simulator and judges"
        )
    return expected


def _ahead(
    context: StageContext, graph: Graph, listed: Sequence[Scenario], libraries: Sequence[Library], checked: int, desk: ClientPool
) -> Forecast:
    """Without conversations that are finished and answers of judges that are kept."""
    to_play = [[scenario for scenario in listed if library.get(scenario.id) is None] for library in libraries]
    prices = prices_from(os.environ.get(PRICES_VARIABLE, ""))
    found = forecast(graph, context.input.evaluation, prices, listed, to_play, checked)
    try:
        parts = [part.less(desk.cached_responses(_USES[part.name])) if part.name in _USES else part for part in found.parts]
    except OSError as error:
        raise InfrastructureError(f"paid answers cannot be read ({error}); see to the artifact store") from None
    return replace(found, parts=tuple(parts))
