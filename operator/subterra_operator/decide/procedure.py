"""Can a procedure be compiled? Its status says what is wrong, where, and how to fix it."""

from datetime import datetime

from subterra_api.v1alpha1.conditions import Type
from subterra_api.v1alpha1.procedure import ProcedureStatus
from subterra_operator.decide.decision import ConditionBuilder, Decision, to_json
from subterra_operator.decide.procedure_check import checked
from subterra_operator.snapshot import ProcedureSnapshot


def decide_procedure(snapshot: ProcedureSnapshot, now: datetime) -> Decision:
    """The status: accepted, or all errors with their fixes; digest and counts."""
    procedure = snapshot.procedure
    before = ProcedureStatus.model_validate(procedure.get("status") or {})
    check, generation = checked(procedure["spec"]), procedure["metadata"].get("generation", 0)
    build, accepted = ConditionBuilder(before.conditions, generation, now), not check.errors
    both = tuple(build(kind, accepted, check.reason, check.errors or check.summary) for kind in (Type.ACCEPTED, Type.READY))
    conditions = (*both, build(Type.STALLED, not accepted, check.reason, check.errors))
    update = {"observed_generation": generation, "conditions": conditions, "phase": "Accepted" if accepted else "Invalid"}
    return Decision(status=to_json(check.counts.model_copy(update=update)))
