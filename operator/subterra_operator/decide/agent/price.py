"""The agent's price, combined from its pods' measurements, and which of them its status reports."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from pydantic import ValidationError

from subterra_api.job_contract.messages import PodPrice, ServedWork
from subterra_api.v1alpha1.compiledagent import CompiledAgentSpec, CostSettings, Price
from subterra_api.v1alpha1.compilerun import CompileRunStatus
from subterra_api.v1alpha1.conditions import timestamp
from subterra_core.node_pools import Pools, serving_usd_per_hour
from subterra_core.pricing import TokenPrice, UnknownModelError, price_of
from subterra_core.serving_costs.comparators import Workload
from subterra_core.serving_costs.conversation_costs import Compared, ConversationCosts, compare_hosted, compare_own, workload_of
from subterra_core.serving_costs.serving_price import measured_token_price, price_of_work, total_work
from subterra_operator.decide.decision import seconds_since
from subterra_operator.labels import RUN_ANNOTATION, VERSION_LABEL, annotations_of, labels_of
from subterra_operator.snapshot import AgentSnapshot

REPORT_SECONDS = 3600.0
"""Least time between two prices in the status: it is for people and `kubectl get`, the metrics have every measurement."""


def price_to_report(before: Price | None, current: Price | None, now: datetime) -> tuple[Price | None, float | None]:
    """The price for the status, and the seconds until a newer one may be written, if there is one.

    The price with idle time changes with every second, so it alone is no reason to write: an agent at rest keeps its status.
    """
    if before is None or current is None:
        return _measured(current, now), None
    if current.conversations is None:  # no pod has answered yet
        return before.model_copy(update={"compile_usd": current.compile_usd}), None
    if not has_moved(before, current):
        return before, None
    left = REPORT_SECONDS - seconds_since(before.measured_at, now)
    is_first = before.usd_per_conversation is None and current.usd_per_conversation is not None
    if is_first or left <= 0 or _terms(before) != _terms(current):
        return _measured(current, now), None
    return before, left


def has_moved(before: Price, current: Price) -> bool:
    """Whether there were conversations since, or the terms have changed."""
    measured = (before.conversations, before.usd_per_conversation) != (current.conversations, current.usd_per_conversation)
    return measured or _terms(before) != _terms(current)


def _terms(price: Price) -> tuple[str | None, str | None]:
    """What people decide, so that its change shows at once."""
    return price.usd_per_hour, price.compile_usd


def _measured(price: Price | None, now: datetime) -> Price | None:
    return price.model_copy(update={"measured_at": timestamp(now)}) if price else None


def combine_prices(prices: Sequence[PodPrice], usd_per_hour: str, compile_usd: str | None) -> Price | None:
    """One price for all pods at the current hourly price: their dollars over their conversations, idle pods included."""
    if not prices and compile_usd is None:
        return None
    work = total_work(_work_of(price) for price in prices)
    idle = [price.idle_percent for price in prices if price.idle_percent is not None]
    combined = price_of_work(work, Decimal(usd_per_hour))
    update = {
        "usd_per_hour": usd_per_hour,
        "conversations": combined.conversations if prices else None,
        "idle_percent": combined.idle_percent if work.seconds else round(sum(idle) / len(idle)) if idle else None,
        "compile_usd": compile_usd,
    }
    return combined.model_copy(update=update)


def _work_of(price: PodPrice) -> ServedWork:
    """A pod's work; for an exporter of an earlier release what its rounded figures say."""
    hourly = Decimal(price.usd_per_hour or 0)
    if price.work is not None or not price.conversations or not hourly:
        return price.work or ServedWork(conversations=float(price.conversations or 0))
    per_dollar = price.conversations * 3600 / hourly
    busy = Decimal(price.usd_per_conversation or 0) * per_dollar
    total = Decimal(price.usd_per_conversation_with_idle or price.usd_per_conversation or 0) * per_dollar
    return ServedWork(busy_seconds=float(busy), seconds=float(total), conversations=float(price.conversations))


@dataclass(frozen=True, slots=True)
class CostTerms:
    """What the costs of an agent's conversations depend on, save for its pods' work. They change only when an object does."""

    version: str
    """The version with traffic."""
    usd_per_hour: Decimal
    compile_usd: Decimal | None = None
    hosted: tuple[Compared, ...] = ()
    """Prices of a conversation with hosted models."""
    workload: Workload | None = None
    """The mean conversation of the evaluation, by which the compiled model's own price is compared."""


def cost_terms(snapshot: AgentSnapshot, given: Mapping[str, TokenPrice], pools: Pools) -> CostTerms | None:
    """The terms of the version with traffic; `None` without traffic or if the agent's cost is invalid.

    ``given`` are the administrator's prices of hosted models, ``pools`` of nodes.
    """
    try:
        settings = CostSettings.model_validate(snapshot.agent["spec"].get("cost") or {})
    except ValidationError:
        return None
    if snapshot.active_version is None:
        return None
    serving = [each for each in snapshot.deployments if labels_of(each).get(VERSION_LABEL) == snapshot.active_version]
    run = snapshot.run(annotations_of(serving[0]).get(RUN_ANNOTATION)) if serving else None
    status = CompileRunStatus.model_validate((run or {}).get("status") or {})
    hosted: tuple[Compared, ...] = ()
    workload: Workload | None = None
    if status.scores is not None:
        with suppress(UnknownModelError):
            hosted = tuple(compare_hosted(status.scores, settings.comparator, price_of(settings.comparator, given)))
            workload = workload_of(status.scores)
    paid = Decimal(status.usd) if status.usd is not None else None
    hourly = usd_per_hour_of(snapshot.agent, settings, pools)
    return CostTerms(snapshot.active_version, hourly, paid, hosted, workload)


def conversation_costs(prices: Sequence[PodPrice], terms: CostTerms) -> ConversationCosts | None:
    """Exact costs of a version's conversations, for metrics; `None` before a pod has reported. ``prices`` are its pods'."""
    if not prices:
        return None
    work = total_work(_work_of(price) for price in prices)
    own = compare_own(terms.workload, measured_token_price(work, terms.usd_per_hour))
    return ConversationCosts(work, terms.usd_per_hour, terms.compile_usd, (*terms.hosted, *own))


def usd_per_hour_of(agent: Mapping[str, Any], own: CostSettings, pools: Pools) -> Decimal:
    """Price of a replica per hour, also of an agent whose spec has become invalid."""
    if not agent["spec"].get("serving", {}).get("pool"):
        return Decimal(own.usd_per_hour)
    try:
        return Decimal(serving_usd_per_hour(CompiledAgentSpec.model_validate(agent["spec"]), pools))
    except ValidationError:
        return Decimal(own.usd_per_hour)
