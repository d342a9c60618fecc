"""Procedure: a conversational flowchart, with what its agent may know and what its customers vary in."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from subterra_api.v1alpha1.base import ApiModel, Condition, StatusModel

NodeId = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z][a-zA-Z0-9_-]*$", max_length=63)]
VariableName = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z][a-zA-Z0-9_]*$", max_length=63)]
Utterance = Annotated[str, StringConstraints(min_length=1, max_length=1000)]
Utterances = Annotated[tuple[Utterance, ...], Field(max_length=50)]
Value = Annotated[str, StringConstraints(min_length=1, max_length=200)]
WholeNumber = Annotated[int, Field(ge=-(10**12), le=10**12)]
IsoDate = Annotated[str, StringConstraints(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$")]

Role = Literal["agent", "user"]
Outcome = Literal["success", "abandonment", "escalation"]


class Guard(ApiModel):
    """An edge that is open only after an earlier decision: at ``hub`` one of ``took`` was taken last."""

    hub: NodeId
    """The id of the node that decided: one with several ways out."""
    took: Annotated[tuple[NodeId, ...], Field(min_length=1, max_length=20)]
    """The ids of the nodes to which the conversation may have gone from there."""


class Edge(ApiModel):
    """One way out of a node."""

    to: NodeId
    """The id of the node that follows."""
    when: Annotated[str, StringConstraints(min_length=1, max_length=500)] | None = None
    """What makes the conversation go this way. Needed where a node has several ways out."""
    weight: Annotated[int, Field(ge=1, le=1000)] = 1
    """How often this way is taken in training, relative to its siblings. Default: 1."""
    examples: Utterances = ()
    """What is said at a hub when this way is taken; used by the scripted teacher instead of the node's examples."""
    values: Annotated[tuple[Value, ...], Field(max_length=100)] = ()
    """Where a fact decides: the values that lead this way; none for all that no other edge names."""
    guards: Annotated[tuple[Guard, ...], Field(max_length=10)] = ()
    """Earlier decisions on which this way depends; all must hold. Without guards it is always open."""


class Node(ApiModel):
    """One utterance of the agent or of the customer."""

    id: NodeId
    """The node's name, unique within the procedure: other nodes go to it by this name."""
    role: Role
    """Who speaks here: agent, or user for the customer."""
    prompt: Annotated[str, StringConstraints(max_length=4000)] = ""
    """What the speaker should do here; `{{name}}` is replaced by the value of that variable. Needed for agents."""
    examples: Utterances = ()
    """Wordings of this utterance, used by the scripted teacher; `{{name}}` as in prompt."""
    outcome: Outcome | None = None
    """How the conversation ended; for nodes without a way out (terminals), and needed there."""
    max_visits: Annotated[int, Field(ge=1, le=10)] = 2
    """How often one conversation may come here, so that loops end. Default: 2."""
    decided_by: Literal["customer", "fact", "history"] = "customer"
    """For hubs: the customer's words, a fact, or what happened before, in which case the first open edge is taken."""
    fact: VariableName | None = None
    """Where a fact decides: the variable that holds it. Each edge says for which of its values it is taken."""
    next: Annotated[tuple[Edge, ...], Field(max_length=20)] = ()
    """The ways out; none for a terminal."""


class Variable(ApiModel):
    """Something that differs from conversation to conversation."""

    name: VariableName
    """The name by which prompts and examples mention it, as in `{{destination}}`."""
    description: Annotated[str, StringConstraints(max_length=500)] = ""
    """What it means, for the teacher that writes the conversations."""
    type: Literal["string", "integer", "dateRange"] = "string"
    """What it holds: `string` with values, `integer` with minimum and maximum, `dateRange` with from and to. Default: string."""
    values: Annotated[tuple[Value, ...], Field(max_length=500)] = ()
    """For strings: the values, or examples of them when `open`."""
    open: bool = False
    """Any other value may come too: training mixes in made-up ones, so that the model copies instead of remembering."""
    minimum: WholeNumber | None = None
    """For integers: the smallest value."""
    maximum: WholeNumber | None = None
    """For integers: the largest value."""
    step: Annotated[int, Field(ge=1, le=10**12)] = 1
    """For integers: the distance between values. Default: 1."""
    from_: Annotated[IsoDate | None, Field(alias="from")] = None
    """For date ranges: the first day on which one may start."""
    to: IsoDate | None = None
    """For date ranges: the last day on which one may start."""
    min_days: Annotated[int, Field(ge=0, le=366)] = 1
    """For date ranges: the shortest length in days. Default: 1."""
    max_days: Annotated[int, Field(ge=0, le=366)] = 14
    """For date ranges: the longest length in days. Default: 14."""
    formats: Annotated[tuple[Value, ...], Field(max_length=20)] = ()
    """How a value is written: `{value}` or `{value:,}` for integers, `{start:%-d %B}` and `{end:%-d %B}` for date ranges."""
    visibility: Literal["customer", "context", "hidden"] = "customer"
    """Who knows it: the customer says it, or a line of the system message tells the agent, or only the writer sees it."""


class Persona(ApiModel):
    """A kind of customer."""

    name: NodeId
    """A name, unique within the procedure."""
    description: Annotated[str, StringConstraints(max_length=500)] = ""
    """How such a customer behaves, for the teacher that writes the conversations."""
    weight: Annotated[int, Field(ge=1, le=1000)] = 1
    """How often such a customer comes, relative to the other personas. Default: 1."""


class Knowledge(ApiModel):
    """A fact that the agent may use."""

    id: NodeId
    """A name, unique within the procedure."""
    text: Annotated[str, StringConstraints(min_length=1, max_length=2000)]
    """The fact, in a sentence or two."""


class ProcedureSpec(ApiModel):
    """The flowchart and everything that gives it meaning."""

    system_prompt: Annotated[str, StringConstraints(min_length=1, max_length=2000)]
    """The minimal system prompt of the compiled agent; the server applies it."""
    start: NodeId
    """The id of the node with which a conversation begins."""
    nodes: Annotated[tuple[Node, ...], Field(min_length=2, max_length=500)]
    """The flowchart: one node per utterance of the agent or the customer, with the ways that lead on from it."""
    variables: Annotated[tuple[Variable, ...], Field(max_length=100)] = ()
    """What differs from conversation to conversation: names, amounts, dates."""
    openers: Annotated[tuple[Utterance, ...], Field(max_length=50)] = ("Hi", "Hello", "Hi there", "Hello, can you help me?")
    """What a customer may say before the agent's first turn: chat clients let the user speak first."""
    personas: Annotated[tuple[Persona, ...], Field(max_length=50)] = ()
    """Kinds of customers."""
    knowledge: Annotated[tuple[Knowledge, ...], Field(max_length=200)] = ()
    """Facts the agent may use."""


class ProcedureStatus(StatusModel):
    """What the operator found out about the procedure."""

    observed_generation: int = 0
    """The metadata.generation that this status is about; -1 before the operator has looked."""
    conditions: Annotated[tuple[Condition, ...], Field(max_length=8)] = ()
    """Accepted and Ready: fit to be compiled, else the message names every error with its cure. Stalled: the author is needed."""
    phase: str | None = None
    """Accepted or Invalid: a summary of the conditions."""
    digest: str | None = None
    """Digest of the procedure's meaning; a new one starts a new run."""
    nodes: int | None = None
    """Number of nodes."""
    edges: int | None = None
    """Number of ways from node to node."""
    hubs: int | None = None
    """Number of nodes with several ways out."""
    terminals: int | None = None
    """Number of nodes without a way out."""
    paths: str | None = None
    """Number of different ways from the start to a terminal, or "more than N"."""
    min_turns: int | None = None
    """Turns of the shortest conversation, both speakers counted."""
    max_turns: int | None = None
    """Turns of the longest conversation; absent when there are too many paths to count."""
    warnings: Annotated[tuple[str, ...], Field(max_length=20)] = ()
    """What is probably not meant so; it does not keep the procedure from being compiled."""
