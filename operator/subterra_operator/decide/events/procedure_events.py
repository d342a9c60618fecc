"""Events of a Procedure: accepted, or rejected with its errors."""

from collections.abc import Iterator

from subterra_api.digest import short
from subterra_api.v1alpha1.conditions import Reason, Type
from subterra_api.v1alpha1.procedure import ProcedureStatus
from subterra_operator.decide.decision import find_condition
from subterra_operator.decide.events.event import Event, normal, warning

ACTION = "Check"


def procedure_events(old: ProcedureStatus, new: ProcedureStatus) -> Iterator[Event]:
    """Events of one change of a Procedure's status. An edit that changes no meaning is silent."""
    before, after = (find_condition(status.conditions, Type.ACCEPTED) for status in (old, new))
    if after is None:
        return
    verdict_changed = before is None or before.status != after.status
    if after.status == "True" and (verdict_changed or old.digest != new.digest):
        yield normal(Reason.VALID, ACTION, f"accepted: {after.message}, digest {short(new.digest or '')}{_warnings(new)}")
    elif after.status == "False" and (verdict_changed or (before and before.message != after.message)):
        yield warning(after.reason, ACTION, f"rejected: {after.message}")


def _warnings(status: ProcedureStatus) -> str:
    count = len(status.warnings)
    return f"; status.warnings has {count} warning{'s' if count > 1 else ''}" if count else ""
