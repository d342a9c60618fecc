"""docs/reference/states.md: its pictures are what the decisions do, arrow by arrow, and nothing is left out."""

import copy
import re
from collections.abc import Callable

import pytest

from subterra_testkit.cluster import kubernetes_objects as make
from subterra_testkit.cluster.agent_lifecycle import AgentLifecycle

PAGE = (make.ROOT / "docs/reference/states.md").read_text()


def arrows(heading: str) -> dict[tuple[str, str], str]:
    """(state, event) → state, as drawn under a heading."""
    picture = PAGE.partition(f"## {heading}\n")[2].partition("```mermaid")[2].partition("```")[0]
    groups = {name: inner.split() for name, inner in re.findall(r"state (\w+) \{([^}]*)\}", picture)}
    drawn = re.findall(r"^ +(\S+) --> (\S+): (.+)$", picture, re.M)
    found = [(inner, target, event) for source, target, event in drawn for inner in groups.get(source, [source]) if inner != target]
    assert len({(source, event) for source, _, event in found}) == len(found)
    return {(source, event): target for source, target, event in found if source != "[*]"}


Event = Callable[[AgentLifecycle], None]
COMMON: dict[str, Event] = {
    "agent suspended": AgentLifecycle.suspend,
    "agent resumed": lambda life: life.suspend(False),
    "retry-at set": AgentLifecycle.retry,
}
RUN_EVENTS: dict[str, Event] = {
    **COMMON,
    "stage done": AgentLifecycle.stage,
    "stage fails for good": lambda life: life.stage(10, "bad input"),
    "stage fails in passing": AgentLifecycle.in_passing,
    "inputs edited": AgentLifecycle.edit,
    "inputs edited back": AgentLifecycle.edit_back,
    "Jobs deleted": AgentLifecycle.lose_jobs,
    "gate changed": lambda life: life.promote(gate={"minScore": 4.9}),
    "procedure deleted": AgentLifecycle.delete_procedure,
}
RUN_STATES: dict[str, tuple[Event, ...]] = {
    "Generating": (),
    "Training": (AgentLifecycle.stage,),
    "Evaluating": (AgentLifecycle.stage, AgentLifecycle.stage),
    "Succeeded": (AgentLifecycle.run,),
    "Failed": (AgentLifecycle.stage, lambda life: life.stage(10, "bad input")),
    "Suspended": (AgentLifecycle.stage, AgentLifecycle.suspend),
    "Superseded": (AgentLifecycle.stage, AgentLifecycle.edit),
}
AGENT_EVENTS: dict[str, Event] = {
    **COMMON,
    "run passes": AgentLifecycle.run,
    "run is rejected": lambda life: life.run(mean=2.0, failures=0.6),
    "run fails": lambda life: life.stage(10, "bad input"),
    "replicas ready": AgentLifecycle.ready,
    "replicas lost": lambda life: life.ready(0),
    "deadline passes": AgentLifecycle.deadline,
    "procedure edited": AgentLifecycle.edit,
    "procedure broken": AgentLifecycle.break_procedure,
    "procedure deleted": AgentLifecycle.delete_procedure,
    "pinned to the version before": lambda life: life.pin(0),
    "pinned to the newest": lambda life: life.pin(-1),
    "pin removed": lambda life: life.promote(pin=None),
}
AGENT_STATES: dict[str, tuple[Event, ...]] = {
    "Compiling": (),
    "Starting": (AgentLifecycle.run,),
    "Failed": (lambda life: life.stage(10, "bad input"),),
    "Serving": (AgentLifecycle.serve, AgentLifecycle.edit, AgentLifecycle.serve),
    "Recompiling": (AgentLifecycle.serve, AgentLifecycle.edit),
    "Promoting": (AgentLifecycle.serve, AgentLifecycle.edit, AgentLifecycle.run),
    "Rejected": (AgentLifecycle.serve, AgentLifecycle.edit, lambda life: life.run(mean=2.0, failures=0.6)),
    "Outdated": (AgentLifecycle.serve, AgentLifecycle.edit, lambda life: life.stage(10, "bad input")),
    "AwaitingApproval": (AgentLifecycle.serve, lambda life: life.promote(mode="Manual"), AgentLifecycle.edit, AgentLifecycle.run),
    "Pinned": (AgentLifecycle.serve, AgentLifecycle.edit, AgentLifecycle.serve, lambda life: life.pin(0)),
    "Suspended": (AgentLifecycle.suspend,),
    "Unavailable": (AgentLifecycle.serve, lambda life: life.ready(0)),
}


def lived(events: tuple[Event, ...]) -> AgentLifecycle:
    life = AgentLifecycle()
    for event in events:
        event(life)
    return life


def observed(kind: str, states: dict[str, tuple[Event, ...]], events: dict[str, Event]) -> dict[tuple[str, str], str]:
    """What every event does in every state, when it does something."""
    found = {}
    for state, way in states.items():
        before = lived(way)
        for name, event in events.items():
            life = copy.deepcopy(before)
            subject = life.first if kind == "CompileRun" else "travel"
            assert life.world.phase(kind, subject) == state
            event(life)
            if (after := life.world.phase(kind, subject)) != state:
                found[state, name] = after
    return found


@pytest.mark.parametrize(
    ("kind", "states", "events"),
    [("CompileRun", RUN_STATES, RUN_EVENTS), ("CompiledAgent", AGENT_STATES, AGENT_EVENTS)],
    ids=["CompileRun", "CompiledAgent"],
)
def test_the_picture_is_what_happens(kind: str, states: dict[str, tuple[Event, ...]], events: dict[str, Event]) -> None:
    assert observed(kind, states, events) == arrows(kind)
