"""Which Events does a change of a status call for? A pure function of the two statuses, so that a restart repeats none."""

from collections.abc import Iterable, Mapping
from typing import Any

from subterra_api.v1alpha1.compiledagent import CompiledAgentStatus
from subterra_api.v1alpha1.compilerun import CompileRunStatus
from subterra_api.v1alpha1.procedure import ProcedureStatus
from subterra_operator.decide.events.agent_events import agent_events
from subterra_operator.decide.events.event import Event
from subterra_operator.decide.events.procedure_events import procedure_events
from subterra_operator.decide.events.run_events import run_events


def transition_events(kind: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[Event, ...]:
    """The Events of a resource whose status changed from ``old`` (empty for none yet) to ``new``, each once, in order."""
    return tuple(dict.fromkeys(_events(kind, dict(old), dict(new))))


def _events(kind: str, old: dict[str, Any], new: dict[str, Any]) -> Iterable[Event]:
    if old == new:
        return ()
    if kind == "Procedure":
        return procedure_events(ProcedureStatus.model_validate(old), ProcedureStatus.model_validate(new))
    if kind == "CompileRun":
        return run_events(CompileRunStatus.model_validate(old), CompileRunStatus.model_validate(new))
    if kind == "CompiledAgent":
        return agent_events(CompiledAgentStatus.model_validate(old), CompiledAgentStatus.model_validate(new))
    return ()
