"""Decisions about a run, and the objects that they are about: its Jobs, and statuses in the middle."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from subterra_api.v1alpha1.compilerun import ExecutionSettings
from subterra_operator.decide.decision import Decision
from subterra_operator.decide.run.run import decide_run
from subterra_operator.resources import Object
from subterra_operator.settings import Settings
from subterra_operator.snapshot import RunSnapshot
from subterra_operator.specs.stage_job import Attempt, stage_job
from subterra_testkit.cluster import kubernetes_objects as make

SETTINGS = Settings()
DONE = {"state": "Succeeded", "attempt": 1, "percent": 100}


def decide(run: Object, later: float = 0, **parts: Any) -> Decision:
    """The decision about a run `later` seconds after `NOW`; `parts` are those of its snapshot."""
    parts.setdefault("procedure", make.procedure())
    return decide_run(RunSnapshot(run, **parts), SETTINGS, make.NOW + timedelta(seconds=later))


def job(run: Object, stage: Any, number: int = 1, attach: bool = False, **status: Any) -> Object:
    """The Job of an attempt at a stage, as the API server stores it."""
    execution = ExecutionSettings.model_validate(run["spec"]["execution"])
    return make.stored(stage_job(run, execution, Attempt(stage, number, attach), SETTINGS), **status)


def created(decision: Decision, kind: str = "Job") -> list[str]:
    """Names of the objects of a kind that a decision creates."""
    return [write.object["metadata"]["name"] for write in decision.writes if write.key.kind == kind and write.verb == "create"]


def stage(decision: Decision, name: str) -> Mapping[str, Any]:
    """A stage's status."""
    assert decision.status
    return next(item for item in decision.status["stages"] if item["name"] == name)


def started(name: str = "generate", **about: Any) -> dict[str, Any]:
    """A status in which a stage runs and those before it are done."""
    names = ["generate", "train", "evaluate"]
    before = [{"name": other, **DONE} for other in names[: names.index(name)]]
    return {"stages": [*before, {"name": name, "state": "Running", "attempt": 1, **about}]}


def finished(mean: float = 4.6, gate: Mapping[str, Any] | None = None) -> Decision:
    """A run whose evaluation is recorded."""
    stages = [{"name": name, **DONE} for name in ("generate", "train", "evaluate")]
    status = {"stages": stages, "scores": make.scores(mean).dump()}
    run = make.run(status, {"gate": dict(gate or {})})
    return decide(run, input=make.frozen(run))
