"""Procedure: a conversational flowchart, with what its agent may know and what its customers vary in."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from subterra_api.v1alpha1.base import ApiModel, Condition, StatusModel

NodeId = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z][a-zA-Z0-9_-]*$", max_length=63)]
VariableName = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z][a-zA-Z0-9_]*$", max_length=63)]
Utterance = Annotated[str, StringConstraints(min_length=1, max_length=1000)]
Utterances = Annotated[tuple[Utterance, ...], Field(max_length=50)]
Value = Annotated[str, StringConstraints(min_length=1, max_length=200)]
IsoDate = Annotated[str, StringConstraints(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$")]

Role = Literal["agent", "user"]
Outcome = Literal["success", "abandonment", "escalation"]


class Guard(ApiModel):
    """An edge that is open only after an earlier decision: at ``hub`` one of ``took`` was taken last."""

    hub: NodeId
    """The hub that decided."""
    took: Annotated[tuple[NodeId, ...], Field(min_length=1, max_length=20)]
    """The targets that open this edge."""


class Edge(ApiModel):
    """One way out of a node."""

    to: NodeId
    """The node that follows."""
    when: Annotated[str, StringConstraints(min_length=1, max_length=500)] | None = None
    """What makes the conversation go this way. Needed where a node has several ways out."""
    weight: Annotated[int, Field(ge=1, le=1000)] = 1
    """How often this way is taken, relative to its siblings."""
    examples: Utterances = ()
    """What is said at a hub when this way is taken; used by the scripted teacher instead of the node's examples."""
    values: Annotated[tuple[Value, ...], Field(max_length=100)] = ()
    """Where a fact decides: the values that lead this way; none for all that no other edge names."""
    guards: Annotated[tuple[Guard, ...], Field(max_length=10)] = ()
    """Earlier decisions that this edge depends on; all must hold."""


class Node(ApiModel):
    """One utterance of the agent or of the customer."""

    id: NodeId
    """Unique name within the procedure."""
    role: Role
    """Who speaks here."""
    prompt: Annotated[str, StringConstraints(max_length=4000)] = ""
    """What the speaker should do here; `{{variable}}` is replaced by the scenario's value."""
    examples: Utterances = ()
    """Wordings of this utterance, used by the scripted teacher; `{{variable}}` as in prompt."""
    outcome: Outcome | None = None
    """For terminal nodes: how the conversation ended."""
    max_visits: Annotated[int, Field(ge=1, le=10)] = 2
    """How often one conversation may come here; bounds loops."""
    decided_by: Literal["customer", "fact", "history"] = "customer"
    """For hubs: the customer's words, a fact, or what happened before, in which case the first open edge is taken."""
    fact: VariableName | None = None
    """Where a fact decides: the variable that holds it. Each edge says for which of its values it is taken."""
    next: Annotated[tuple[Edge, ...], Field(max_length=20)] = ()
    """The ways out; none for a terminal."""


class Variable(ApiModel):
    """Something that differs from conversation to conversation."""

    name: VariableName
    description: Annotated[str, StringConstraints(max_length=500)] = ""
    type: Literal["string", "integer", "dateRange"] = "string"
    values: Annotated[tuple[Value, ...], Field(max_length=500)] = ()
    """For strings: the values, or examples of them when `open`."""
    open: bool = False
    """Any other value may come too: training mixes in made-up ones, so that the model copies instead of remembering."""
    minimum: int | None = None
    """For integers: the smallest value."""
    maximum: int | None = None
    """For integers: the largest value."""
    step: Annotated[int, Field(ge=1)] = 1
    """For integers: the distance between values."""
    from_: Annotated[IsoDate | None, Field(alias="from")] = None
    """For date ranges: the first day on which one may start."""
    to: IsoDate | None = None
    """For date ranges: the last day on which one may start."""
    min_days: Annotated[int, Field(ge=0, le=366)] = 1
    """For date ranges: the shortest length in days."""
    max_days: Annotated[int, Field(ge=0, le=366)] = 14
    """For date ranges: the longest length in days."""
    formats: Annotated[tuple[Value, ...], Field(max_length=20)] = ()
    """How a value is written: `{value}` or `{value:,}` for integers, `{start:%-d %B}` and `{end:%-d %B}` for date ranges."""
    visibility: Literal["customer", "context", "hidden"] = "customer"
    """Who knows it: the customer says it, or a line of the system message tells the agent, or only the writer sees it."""


class Persona(ApiModel):
    """A kind of customer."""

    name: NodeId
    description: Annotated[str, StringConstraints(max_length=500)] = ""
    weight: Annotated[int, Field(ge=1, le=1000)] = 1


class Knowledge(ApiModel):
    """A fact that the agent may use."""

    id: NodeId
    text: Annotated[str, StringConstraints(min_length=1, max_length=2000)]


class ProcedureSpec(ApiModel):
    """The flowchart and everything that gives it meaning."""

    system_prompt: Annotated[str, StringConstraints(min_length=1, max_length=2000)]
    """The minimal system prompt of the compiled agent; the server applies it."""
    start: NodeId
    """The id of the first node."""
    nodes: Annotated[tuple[Node, ...], Field(min_length=2, max_length=500)]
    """The flowchart."""
    variables: Annotated[tuple[Variable, ...], Field(max_length=100)] = ()
    """What differs between conversations."""
    openers: Annotated[tuple[Utterance, ...], Field(max_length=50)] = ("Hi", "Hello", "Hi there", "Hello, can you help me?")
    """What a customer may say before the agent's first turn: chat clients let the user speak first."""
    personas: Annotated[tuple[Persona, ...], Field(max_length=50)] = ()
    """Kinds of customers."""
    knowledge: Annotated[tuple[Knowledge, ...], Field(max_length=200)] = ()
    """Facts the agent may use."""


class ProcedureStatus(StatusModel):
    """What the operator found out about the procedure."""

    observed_generation: int = 0
    conditions: Annotated[tuple[Condition, ...], Field(max_length=8)] = ()
    phase: str | None = None
    digest: str | None = None
    """Digest of the procedure's meaning; a new one starts a new run."""
    nodes: int | None = None
    edges: int | None = None
    hubs: int | None = None
    terminals: int | None = None
    paths: str | None = None
    """Number of bounded paths, or "more than N"."""
    min_turns: int | None = None
    max_turns: int | None = None
    warnings: Annotated[tuple[str, ...], Field(max_length=20)] = ()
