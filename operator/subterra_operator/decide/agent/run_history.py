"""An agent's runs other than the wanted one: suspended while unfinished, deleted when they are old and nobody needs them."""

from collections.abc import Iterable

from subterra_api.v1alpha1.compiledagent import CompiledAgentSpec, CompiledAgentStatus
from subterra_api.v1alpha1.compilerun import CompileRunStatus
from subterra_api.v1alpha1.conditions import Type
from subterra_operator.decide.decision import Write, find, patch
from subterra_operator.labels import RUN, SUPERSEDED_BY, annotations
from subterra_operator.resources import deleting
from subterra_operator.snapshot import AgentSnapshot, Seen


def status_of(run: Seen) -> CompileRunStatus:
    """What a run says of itself."""
    return CompileRunStatus.model_validate(run.get("status") or {})


def made(runs: Iterable[Seen], model: str) -> Seen | None:
    """The run that made and judged a model."""
    return next((run for run in runs if _made(status_of(run), model)), None)


def _made(status: CompileRunStatus, model: str) -> bool:
    return status.artifacts.model == model and status.artifacts.report is not None


def superseded(runs: Iterable[Seen], wanted: str) -> tuple[Write, ...]:
    """Suspends unfinished runs of older inputs; what they have done is kept."""
    mark = {"metadata": {"annotations": {SUPERSEDED_BY: wanted}}, "spec": {"execution": {"suspend": True}}}
    old = (run for run in runs if run["metadata"]["name"] != wanted and annotations(run).get(SUPERSEDED_BY) != wanted)
    return tuple(patch(run, mark) for run in old if not _ended(run))


def paused(runs: Iterable[Seen]) -> tuple[Write, ...]:
    """Suspends whatever is at work, because the agent is."""
    at_work = (run for run in runs if not (run["spec"].get("execution") or {}).get("suspend", False))
    return tuple(patch(run, {"spec": {"execution": {"suspend": True}}}) for run in at_work if not _ended(run))


def _ended(run: Seen) -> bool:
    succeeded = find(status_of(run).conditions, Type.SUCCEEDED)
    return succeeded is not None and succeeded.status != "Unknown"


def surplus(snapshot: AgentSnapshot, spec: CompiledAgentSpec, before: CompiledAgentStatus, wanted: str) -> tuple[Seen, ...]:
    """Runs beyond the history limit. Never the wanted one, nor one that serves, is warm, pinned, the anchor or in the history."""
    needed = {wanted} | {item.run for item in before.history} | {annotations(item).get(RUN) for item in snapshot.deployments}
    free = [run for run in snapshot.runs if run["metadata"]["name"] not in needed and not deleting(run)]
    chosen = {spec.promotion.pin, spec.promotion.anchor} - {None}
    others = [run for run in free if status_of(run).artifacts.model not in chosen]
    newest_first = sorted(others, key=lambda run: (run["metadata"]["creationTimestamp"], run["metadata"]["name"]), reverse=True)
    return tuple(newest_first[spec.promotion.history_limit :])
