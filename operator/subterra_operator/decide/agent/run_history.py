"""An agent's runs: the wanted one follows its wishes, others are suspended while unfinished, deleted once old and unused."""

from collections.abc import Iterable

from subterra_api.v1alpha1 import RETRY_AT
from subterra_api.v1alpha1.compiledagent import CompiledAgentSpec, CompiledAgentStatus
from subterra_api.v1alpha1.compilerun import CompileRunStatus
from subterra_api.v1alpha1.conditions import Type
from subterra_operator.decide.decision import Write, find_condition, patch
from subterra_operator.decide.retry import RetryRequest
from subterra_operator.labels import RUN_ANNOTATION, SUPERSEDED_BY, annotation, annotation_patch, annotations_of
from subterra_operator.resources import Object, is_deleting
from subterra_operator.snapshot import AgentSnapshot, Observed


def status_of(run: Observed) -> CompileRunStatus:
    """A run's status."""
    return CompileRunStatus.model_validate(run.get("status") or {})


def run_that_made(runs: Iterable[Observed], model: str) -> Observed | None:
    """The run that made a model and evaluated it, by the model's digest."""
    return next((run for run in runs if _made_and_evaluated(status_of(run), model)), None)


def _made_and_evaluated(status: CompileRunStatus, model: str) -> bool:
    return status.artifacts.model == model and status.artifacts.report is not None


def first_served(before: CompiledAgentStatus) -> str | None:
    """Digest of the first model that the agent served; of agents that never recorded it, the oldest in the history."""
    oldest = next((version for version in (*before.history[::-1], before.serving) if version and version.run), None)
    return before.anchor or (oldest.model_digest if oldest else None)


def follow_requests(run: Observed, retry: RetryRequest, *, suspend: bool) -> tuple[Write, ...]:
    """Passes an agent's suspension and its retry on to a run that it wants."""
    change: Object = {}
    annotations = annotation_patch(run, SUPERSEDED_BY, None)
    if retry.new is not None and annotation(run, RETRY_AT) != retry.new:
        annotations |= annotation_patch(run, RETRY_AT, retry.new)
    if annotations:
        change |= {"metadata": {"annotations": annotations}}
    if bool((run["spec"].get("execution") or {}).get("suspend", False)) != suspend:
        change |= {"spec": {"execution": {"suspend": suspend}}}
    return (patch(run, change),) if change else ()


def supersede(runs: Iterable[Observed], wanted: str) -> tuple[Write, ...]:
    """Suspends unfinished runs of older inputs and marks them as replaced by ``wanted``; their finished work is kept."""
    old = (run for run in runs if run["metadata"]["name"] != wanted and annotation(run, SUPERSEDED_BY) != wanted)
    return tuple(_superseded(run, wanted) for run in old if not _ended(run))


def _superseded(run: Observed, wanted: str) -> Write:
    annotations = annotation_patch(run, SUPERSEDED_BY, wanted)
    return patch(run, {"metadata": {"annotations": annotations}, "spec": {"execution": {"suspend": True}}})


def suspend_all(runs: Iterable[Observed]) -> tuple[Write, ...]:
    """Suspends all unfinished runs, because the agent is suspended."""
    active = (run for run in runs if not (run["spec"].get("execution") or {}).get("suspend", False))
    return tuple(patch(run, {"spec": {"execution": {"suspend": True}}}) for run in active if not _ended(run))


def _ended(run: Observed) -> bool:
    succeeded = find_condition(status_of(run).conditions, Type.SUCCEEDED)
    return succeeded is not None and succeeded.status != "Unknown"


def runs_to_prune(
    snapshot: AgentSnapshot, spec: CompiledAgentSpec, before: CompiledAgentStatus, wanted: str
) -> tuple[Observed, ...]:
    """Runs beyond the history limit.

    Never the wanted run, nor one whose model serves, is warm, pinned, the anchor or in the history.
    """
    deployed = {annotations_of(deployment).get(RUN_ANNOTATION) for deployment in snapshot.deployments}
    needed = {wanted} | {version.run for version in before.history} | deployed
    free = [run for run in snapshot.runs if run["metadata"]["name"] not in needed and not is_deleting(run)]
    chosen = {spec.promotion.pin, spec.promotion.anchor, first_served(before)} - {None}
    others = [run for run in free if status_of(run).artifacts.model not in chosen]
    newest_first = sorted(others, key=lambda run: (run["metadata"]["creationTimestamp"], run["metadata"]["name"]), reverse=True)
    return tuple(newest_first[spec.promotion.history_limit :])
