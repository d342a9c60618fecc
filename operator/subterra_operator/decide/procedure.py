"""Can a procedure be compiled? Its status says what is wrong, where, and how to fix it."""

from datetime import datetime

from subterra_api.v1alpha1.conditions import Reason, Type
from subterra_api.v1alpha1.procedure import ProcedureStatus
from subterra_operator.decide.decision import ConditionBuilder, Decision, seconds_since, to_json
from subterra_operator.decide.procedure_check import checked
from subterra_operator.snapshot import ProcedureSnapshot

_PHASES = {True: "Accepted", False: "Invalid", None: "Pending"}

CALLED_GRACE_SECONDS = 60.0
"""How long after its creation a procedure waits for those that it calls: the files of one commit are applied in any order."""


def decide_procedure(snapshot: ProcedureSnapshot, now: datetime) -> Decision:
    """The status: accepted, or all errors with their fixes; digest and counts."""
    metadata, spec = snapshot.procedure["metadata"], snapshot.procedure["spec"]
    before = ProcedureStatus.model_validate(snapshot.procedure.get("status") or {})
    check, generation = checked(spec, snapshot.called, metadata["name"]), metadata.get("generation", 0)
    left = CALLED_GRACE_SECONDS - seconds_since(metadata.get("creationTimestamp"), now)
    waits = check.reason == Reason.PROCEDURE_NOT_FOUND and left > 0
    build, accepted = ConditionBuilder(before.conditions, generation, now), None if waits else not check.errors
    both = tuple(build(kind, accepted, check.reason, check.errors or check.summary) for kind in (Type.ACCEPTED, Type.READY))
    conditions = (*both, build(Type.STALLED, accepted is False, check.reason, check.errors))
    update = {"observed_generation": generation, "conditions": conditions, "phase": _PHASES[accepted]}
    return Decision(status=to_json(check.counts.model_copy(update=update)), recheck_after=left if waits else None)
