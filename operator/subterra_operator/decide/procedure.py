"""Can a procedure be compiled? Its status says what is wrong, where, and how to fix it."""

from datetime import datetime
from functools import lru_cache
from itertools import islice
from typing import Any

from pydantic import ValidationError

from subterra_api.digest import procedure_digest
from subterra_api.v1alpha1.conditions import Reason, Type
from subterra_api.v1alpha1.procedure import ProcedureSpec, ProcedureStatus
from subterra_core.procedure.lint.analyse import analyse
from subterra_core.procedure.lint.findings import Analysis
from subterra_core.procedure.schema_errors import findings_of
from subterra_operator.decide.decision import ConditionBuilder, Decision, to_json
from subterra_operator.snapshot import Observed, ProcedureSnapshot

MAX_SCHEMA_ERRORS = 10
"""Schema errors in one condition; the others appear once these are fixed."""
MAX_WARNINGS = 20
cached_analysis = lru_cache(maxsize=128)(analyse)
"""Counting paths takes up to a second, and a procedure is reconciled more often than it is edited."""


def decide_procedure(snapshot: ProcedureSnapshot, now: datetime) -> Decision:
    """The status: accepted, or all errors with their fixes; digest and counts."""
    procedure = snapshot.procedure
    before = ProcedureStatus.model_validate(procedure.get("status") or {})
    try:
        spec = ProcedureSpec.model_validate(procedure["spec"])
    except ValidationError as error:
        return Decision(status=to_json(_status(procedure, before, now, None, describe_errors(error))))
    digest, analysis = procedure_digest(spec), cached_analysis(spec)
    status = _status(procedure, before, now, analysis, "; ".join(str(finding) for finding in analysis.errors))
    return Decision(status=to_json(status.model_copy(update={"digest": digest})))


def _status(procedure: Observed, before: ProcedureStatus, now: datetime, analysis: Analysis | None, errors: str) -> ProcedureStatus:
    generation = procedure["metadata"].get("generation", 0)
    conditions = ConditionBuilder(before.conditions, generation, now)
    reason = Reason.INVALID_PROCEDURE if errors else Reason.VALID
    message = errors or (_counts_message(analysis) if analysis else "")
    both = tuple(conditions(kind, not errors, reason, message) for kind in (Type.ACCEPTED, Type.READY))
    stalled = conditions(Type.STALLED, bool(errors), reason, errors)
    counts = _counts(analysis) if analysis else {}
    return ProcedureStatus(observed_generation=generation, conditions=(*both, stalled), phase=_phase(errors), **counts)


def _phase(errors: str) -> str:
    return "Invalid" if errors else "Accepted"


def _counts_message(analysis: Analysis) -> str:
    return f"{analysis.nodes} nodes, {analysis.hubs} hubs, {analysis.path_count} paths"


def _counts(analysis: Analysis) -> dict[str, Any]:
    counts: dict[str, Any] = {
        "nodes": analysis.nodes,
        "edges": analysis.edges,
        "hubs": analysis.hubs,
        "terminals": analysis.terminals,
        "warnings": tuple(str(finding) for finding in analysis.warnings[:MAX_WARNINGS]),
    }
    if not analysis.errors:
        counts |= {"paths": analysis.path_count, "min_turns": analysis.min_turns, "max_turns": analysis.max_turns}
    return counts


def describe_errors(error: ValidationError) -> str:
    """The errors of a spec that the API server accepted, with their fixes."""
    return "; ".join(str(finding) for finding in islice(findings_of(error), MAX_SCHEMA_ERRORS))
