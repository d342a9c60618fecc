"""The new version's share of a gateway's traffic: the next step, an abort, or all of it. Pure; time and counts are passed in."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from subterra_api.job_contract.messages import ServedWork
from subterra_api.v1alpha1.conditions import timestamp
from subterra_api.v1alpha1.gateway import Canary, CanarySettings, GatewayReference
from subterra_operator.decide.decision import seconds_since
from subterra_operator.snapshot import Observed

NO_ROUTES = (
    "spec.promotion.canary needs HTTPRoutes, and this cluster has none (httproutes.gateway.networking.k8s.io), or does not let the "
    "operator see them; install the Gateway API (https://gateway-api.sigs.k8s.io) and this chart's roles, or remove the setting"
)


@dataclass(frozen=True)
class Share:
    """What the new version gets now: ``canary``, or with `moves` all traffic; ``message`` says so, or why it gets none any more."""

    outcome: Literal["goes on", "moves", "aborted"]
    canary: Canary | None
    message: str = ""
    recheck_after: float | None = None


def begin(settings: CanarySettings, version: str, work: ServedWork, now: datetime) -> Share:
    """The first step of ``version``, whose pods did ``work`` so far."""
    return _step(settings, version, 1, work, now)


def go_on(settings: CanarySettings, before: Canary, work: ServedWork, now: datetime, *, broken: str, ready: bool) -> Share:
    """What follows ``before``. ``broken`` is why the version cannot serve, if so; ``ready``: all its replicas are."""
    number = min(before.step, len(settings.steps))
    step, requests, errors = settings.steps[number - 1], *_since(before, work)
    canary = before.model_copy(update={"step": number, "weight": step.weight, "requests": requests, "errors": errors})
    if problem := broken or _too_many_errors(settings, requests, errors):
        when = f"in step {number} of {len(settings.steps)}, with {step.weight} % of the gateway's requests"
        return Share("aborted", None, f"its canary was aborted {when}: {problem}")
    left = step.seconds - seconds_since(before.since, now)
    if left > 0:
        return Share("goes on", canary, _progress_text(settings, canary), left)
    if waits := _waits_for(settings, ready, requests):
        return Share("goes on", canary, f"{_progress_text(settings, canary)}; the step is over as soon as {waits}")
    if number < len(settings.steps):
        return _step(settings, before.version, number + 1, work, now)
    return Share("moves", canary)


def gateway_problem(route: Observed | None, gateway: GatewayReference) -> str:
    """Why no gateway sends requests by a route yet, and what to do; empty if one does."""
    if route is None:
        return "its HTTPRoute is being made"
    name, where = route["metadata"]["name"], gateway.namespace or route["metadata"]["namespace"]
    fix = f"check that Gateway {where}/{gateway.name} exists, and that a listener allows routes from this namespace"
    said = ""
    for parent in route.get("status", {}).get("parents") or ():
        accepted = [found for found in parent.get("conditions") or () if found["type"] == "Accepted"]
        if any(found["status"] == "True" for found in accepted):
            return ""
        said = "".join(f" ({found['reason']}: {found['message']})" for found in accepted) or said
    return f"no gateway has accepted HTTPRoute {name}{said}; {fix}"


def _step(settings: CanarySettings, version: str, number: int, work: ServedWork, now: datetime) -> Share:
    step = settings.steps[number - 1]
    counts = {"requests_before": round(work.requests), "errors_before": round(work.failed_requests)}
    canary = Canary(version=version, step=number, weight=step.weight, since=timestamp(now), **counts)
    return Share("goes on", canary, _progress_text(settings, canary), float(step.seconds))


def _since(before: Canary, work: ServedWork) -> tuple[int, int]:
    """Requests and errors since the step began; all that are known, if a new operator knows fewer than the last one did then."""
    requests, errors = round(work.requests), round(work.failed_requests)
    if requests < before.requests_before:
        return requests, errors
    return requests - before.requests_before, max(0, errors - before.errors_before)


def _too_many_errors(settings: CanarySettings, requests: int, errors: int) -> str:
    if not errors or requests < settings.min_requests or errors <= settings.max_error_rate * requests:
        return ""
    found = f"{errors} of {requests} requests failed with a status of 500 or above"
    return f"{found}, and spec.promotion.canary.maxErrorRate is {settings.max_error_rate:g}; find the cause in its pods' logs"


def _waits_for(settings: CanarySettings, ready: bool, requests: int) -> str:
    if not ready:
        return "all its replicas are ready"
    if requests >= settings.min_requests:
        return ""
    return f"it has answered {settings.min_requests} requests (spec.promotion.canary.minRequests)"


def _progress_text(settings: CanarySettings, canary: Canary) -> str:
    of = f"step {canary.step} of {len(settings.steps)}"
    return f"version {canary.version} has had {canary.weight} % of the gateway's requests since {canary.since} ({of})"
