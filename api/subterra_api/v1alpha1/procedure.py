"""Procedure: a conversational flowchart, what its agent may know, and how its customers vary."""

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, StringConstraints, WithJsonSchema, model_validator
from pydantic_core import PydanticKnownError

from subterra_api.unicode_forms import composed
from subterra_api.v1alpha1.base import ApiModel, Condition, Name, StatusModel

NodeId = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z][a-zA-Z0-9_-]*$", max_length=63)]
VariableName = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z][a-zA-Z0-9_]*$", max_length=63)]
Utterance = Annotated[str, StringConstraints(min_length=1, max_length=1000)]
Utterances = Annotated[tuple[Utterance, ...], Field(max_length=50)]
Value = Annotated[str, StringConstraints(min_length=1, max_length=200)]
WholeNumber = Annotated[int, Field(ge=-(10**12), le=10**12)]
VariableReference = Annotated[str, StringConstraints(pattern=r"^\{\{ *[a-zA-Z][a-zA-Z0-9_]* *\}\}$", max_length=80)]
"""Another variable, as in `{{limit}}`."""
IsoDate = Annotated[str, StringConstraints(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$")]

Role = Literal["agent", "user"]
"""Who speaks."""
NodeRole = Literal["agent", "user", "tool", "call", "collect"]
ROLE_SPELLINGS = {
    "agent": "agent",
    "user": "user",
    "customer": "user",
    "tool": "tool",
    "call": "call",
    "collect": "collect",
}
"""What authors may write for a role. Programs see only a `NodeRole`, so both spellings of a procedure have one digest."""


def _role(value: Any) -> Any:
    if value not in list(ROLE_SPELLINGS):
        raise PydanticKnownError("literal_error", {"expected": "'agent', 'customer', 'user', 'tool', 'call' or 'collect'"})
    return ROLE_SPELLINGS[value]


RoleField = Annotated[NodeRole, BeforeValidator(_role), WithJsonSchema({"type": "string", "enum": list(ROLE_SPELLINGS)})]
Outcome = Literal["success", "abandonment", "escalation"]


class Guard(ApiModel):
    """Opens an edge only after an earlier decision: the last branch taken at `hub` must be one of `took`."""

    hub: NodeId
    """Id of the node that decided: one with several edges."""
    took: Annotated[tuple[NodeId, ...], Field(min_length=1, max_length=20)]
    """Ids of the nodes to which the conversation may have gone from there."""


class Edge(ApiModel):
    """An edge from one node to the next."""

    to: NodeId
    """Id of the node that follows."""
    when: Annotated[str, StringConstraints(min_length=1, max_length=500)] | None = None
    """Condition under which the conversation takes this edge. Required where the customer decides between several edges."""
    weight: Annotated[int, Field(ge=1, le=1000)] = 1
    """How often this edge is taken in training, relative to its siblings. Default: 1."""
    examples: Utterances = ()
    """Utterances at a hub when this edge is taken; the scripted teacher uses them instead of the node's examples."""
    values: Annotated[tuple[Value, ...], Field(max_length=100)] = ()
    """Where a fact decides: the values that take this edge. Without values, all those that no other edge names."""
    guards: Annotated[tuple[Guard, ...], Field(max_length=10)] = ()
    """Earlier decisions on which this edge depends; all must hold. Without guards it is always open."""
    outcome: NodeId | None = None
    """At a `call` node: the ending of the called procedure after which this edge is taken, which is an outcome or the id of a
    terminal; the id goes before the outcome. Without it, all endings that no other edge names."""


class ToolArgument(ApiModel):
    """The value of one parameter of a call."""

    name: VariableName
    """Name of the tool's parameter."""
    value: Annotated[str, StringConstraints(min_length=1, max_length=500)]
    """A variable, as in `{{order}}`, whose value the agent knows by then, or a fixed text."""


class CallInput(ApiModel):
    """What a variable of the called procedure stands for."""

    name: VariableName
    """Name of a variable of the called procedure."""
    value: Annotated[str, StringConstraints(min_length=1, max_length=500)]
    """A variable of this procedure, as in `{{order}}`, or a fixed text."""


class CallOutput(ApiModel):
    """A variable of the called procedure under a name in this one."""

    name: VariableName
    """Name in this procedure, which does not declare it."""
    value: VariableReference
    """The variable of the called procedure, as in `{{code}}`."""


class Slot(ApiModel):
    """A variable that a `collect` node asks for."""

    variable: VariableName
    """Name of a variable of visibility `customer`."""
    ask: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    """What the agent asks for, in a few words, as in "the day of departure"."""
    examples: Utterances = ()
    """How the customer says it within a sentence, as in "on {{day}}"; required by the scripted teacher."""


class Node(ApiModel):
    """One utterance of the agent or of the customer, one tool call of the agent, or a call of another procedure."""

    id: NodeId
    """Id of the node, unique within the procedure; edges refer to it."""
    role: RoleField
    """Who speaks here: `agent` or `customer`; `user` means the same as `customer`. At a `tool` node the agent calls a tool and says
    nothing. A `call` node stands for all nodes of another procedure. At a `collect` node the agent asks for several variables until
    the customer has said all."""
    prompt: Annotated[str, StringConstraints(max_length=4000)] = ""
    """What the speaker should do here; `{{name}}` is replaced by the value of that variable. Required for agents."""
    examples: Utterances = ()
    """Phrasings of this utterance, used by the scripted teacher; `{{name}}` as in prompt."""
    outcome: Outcome | None = None
    """How the conversation ended. Required for terminals (nodes without edges), and only allowed there."""
    max_visits: Annotated[int, Field(ge=1, le=10)] = 2
    """Maximum number of visits to this node in one conversation, so that loops end. Default: 2."""
    decided_by: Literal["customer", "fact", "history"] = "customer"
    """What decides at a hub: the customer's words, a fact, or the history, which takes the first open edge. Default: customer."""
    fact: VariableName | None = None
    """Where a fact decides: the variable that holds it. Each edge lists the values for which it is taken."""
    next: Annotated[tuple[Edge, ...], Field(max_length=20)] = ()
    """Edges to the nodes that may follow; empty for a terminal."""
    tool: NodeId | None = None
    """Where the role is `tool`: the tool that is called, one of `spec.tools`."""
    arguments: Annotated[tuple[ToolArgument, ...], Field(max_length=20)] = ()
    """Where the role is `tool`: what the tool is called with."""
    procedure: Name | None = None
    """Where the role is `call`: the metadata.name of the called Procedure, in the same namespace."""
    inputs: Annotated[tuple[CallInput, ...], Field(max_length=20)] = ()
    """Where the role is `call`: variables of the called procedure that are variables of this one, or fixed texts. Its other
    variables of the customer are its own."""
    outputs: Annotated[tuple[CallOutput, ...], Field(max_length=20)] = ()
    """Where the role is `call`: variables of the called procedure that this one uses afterwards."""
    collects: Annotated[tuple[Slot, ...], Field(max_length=4)] = ()
    """Where the role is `collect`: the variables that the customer says, in any order; the agent asks only for those that are
    missing. `{{missing}}` in its examples is what it asks for."""

    @property
    def speaker(self) -> Role:
        """Whose turn the node belongs to: a tool call is a step of the agent."""
        return "user" if self.role == "user" else "agent"


class ToolParameter(ApiModel):
    """A parameter of a tool."""

    name: VariableName
    """Name of the parameter."""
    type: Literal["string", "integer", "number", "boolean"] = "string"
    """JSON type of its value. Default: string."""
    description: Annotated[str, StringConstraints(max_length=500)] = ""
    """What it means, for the model."""
    enum: Annotated[tuple[Value, ...], Field(max_length=100)] = ()
    """For strings: the only values that the tool accepts. Default: any."""
    optional: bool = False
    """Whether calls may leave it out. Default: false."""


class Tool(ApiModel):
    """A function that the agent calls: a look-up or an action of the program that serves the customer."""

    name: NodeId
    """Name of the function."""
    description: Annotated[str, StringConstraints(max_length=1000)] = ""
    """What it does, for the model."""
    parameters: Annotated[tuple[ToolParameter, ...], Field(max_length=20)] = ()
    """Its parameters, in the order in which calls have them."""
    results: Annotated[tuple[VariableName, ...], Field(max_length=20)] = ()
    """Variables of visibility `result` that it returns, as the fields of a JSON object."""
    outcome: VariableName | None = None
    """Variable of visibility `result` that says how a call ends: its value `ok` is success, each other value an error that is
    returned instead of the results. Without it every call succeeds."""


class AnywhereEdge(ApiModel):
    """An edge that the customer may take wherever the customer speaks, instead of doing what the node there says."""

    to: NodeId
    """Id of the agent's node with which the conversation goes on."""
    when: Annotated[str, StringConstraints(min_length=1, max_length=500)]
    """What the customer does to take this edge, as in "The customer asks for a person."."""
    examples: Utterances = ()
    """What the customer says then; required by the scripted teacher."""
    except_: Annotated[tuple[NodeId, ...], Field(alias="except", max_length=500)] = ()
    """Ids of the customer's nodes at which this edge is closed. Default: it is open at every node of the customer."""
    percent: Annotated[int, Field(ge=1, le=50)] = 5
    """Percent of the conversations, in training and evaluation, in which the customer takes this edge. Default: 5."""


class Question(ApiModel):
    """A question that the customer may ask at any turn. The agent answers and asks again what it had asked."""

    id: NodeId | None = None
    """Name of the question in plans and reports. Default: the first words of `question`."""
    question: Annotated[str, StringConstraints(min_length=1, max_length=500)]
    """What the customer wants to know, as in "Whether the shop ships abroad."."""
    examples: Utterances = ()
    """What the customer says, as in "Do you ship abroad?"; required by the scripted teacher."""
    answer: Annotated[str, StringConstraints(max_length=1000)]
    """What the agent answers, word for word."""
    except_: Annotated[tuple[NodeId, ...], Field(alias="except", max_length=500)] = ()
    """Ids of the customer's nodes at which nobody asks this. Default: it may be asked at every node of the customer."""
    percent: Annotated[int, Field(ge=1, le=50)] = 4
    """Percent of the conversations, in training, in which the customer asks this. Default: 4."""


class Variable(ApiModel):
    """A value that varies between conversations."""

    name: VariableName
    """Name used in prompts and examples, as in `{{destination}}`."""
    description: Annotated[str, StringConstraints(max_length=500)] = ""
    """What it means, for the teacher that writes the conversations."""
    type: Literal["string", "integer", "dateRange"] = "string"
    """Type of value: `string` with values, `integer` with minimum and maximum, or `dateRange` with from and to. Default: string."""
    values: Annotated[tuple[Value, ...], Field(max_length=500)] = ()
    """For strings: the values, or examples of them when `open`."""
    open: bool = False
    """Whether other values may occur too: training mixes in invented ones, so that the model learns to copy. If not, the agent
    answers a value that is not listed with one of `otherwise.unknownValue`. Default: false."""
    minimum: WholeNumber | None = None
    """For integers: the smallest value."""
    maximum: WholeNumber | None = None
    """For integers: the largest value."""
    step: Annotated[int, Field(ge=1, le=10**12)] = 1
    """For integers: the distance between values. Default: 1."""
    min: VariableReference | None = None
    """For integers: another integer variable, as in `{{offer}}`, whose value this one is never below; `minimum` holds as well."""
    max: VariableReference | None = None
    """For integers: another integer variable, as in `{{bill}}`, whose value this one is never above; `maximum` holds as well."""
    from_: Annotated[IsoDate | None, Field(alias="from")] = None
    """For date ranges: the earliest first day."""
    to: IsoDate | None = None
    """For date ranges: the latest first day."""
    after: VariableReference | None = None
    """For date ranges: another one, as in `{{arrival}}`, that is over before this one begins; `from` and `to` hold as well."""
    min_days: Annotated[int, Field(ge=0, le=366)] = 1
    """For date ranges: the shortest length in days. Default: 1."""
    max_days: Annotated[int, Field(ge=0, le=366)] = 14
    """For date ranges: the longest length in days. Default: 14."""
    formats: Annotated[tuple[Value, ...], Field(max_length=20)] = ()
    """How a value is written: `{value}` or `{value:,}` for integers, `{start:%-d %B}` and `{end:%-d %B}` for date ranges."""
    visibility: Literal["customer", "context", "hidden", "result"] = "customer"
    """Who knows it: the customer, who says it; the agent, from a line of the system message (`context`) or from a tool that returns
    it (`result`); or only the teacher (`hidden`). Default: customer."""


class Persona(ApiModel):
    """A kind of customer."""

    name: NodeId
    """Name, unique within the procedure."""
    description: Annotated[str, StringConstraints(max_length=500)] = ""
    """How such a customer behaves, for the teacher that writes the conversations."""
    weight: Annotated[int, Field(ge=1, le=1000)] = 1
    """How frequent such customers are, relative to the other personas. Default: 1."""


class Knowledge(ApiModel):
    """A fact that the agent may use."""

    id: NodeId
    """Id, unique within the procedure."""
    text: Annotated[str, StringConstraints(min_length=1, max_length=2000)]
    """The fact, in a sentence or two."""


OtherwiseUtterances = Annotated[tuple[Utterance, ...], Field(max_length=20)]


class Otherwise(ApiModel):
    """What the agent says when the customer says something for which the flowchart has no words."""

    off_topic: OtherwiseUtterances = ()
    """Answers to something that has nothing to do with the procedure. Default: that the agent cannot help with it."""
    unknown_value: OtherwiseUtterances = ()
    """Answers to a value that a closed variable does not list; `{{value}}` is what the customer named. Default: that the agent
    cannot offer it."""
    after_end: OtherwiseUtterances = ()
    """Answers to anything that the customer says after the end of the conversation. Default: thanks and a goodbye."""
    unknown_question: OtherwiseUtterances = ()
    """Answers to a question about the subject that is not among `questions`. Default, where there are any: that the agent does not
    know."""


class Style(ApiModel):
    """How teachers that are models write the conversations, and simulated customers that are models behave."""

    turn_length: Literal["short", "medium", "long"] = "medium"
    """Length of the agent's turns: `short` is one to three sentences; `medium` two to five, as in a chat of a good service; `long`
    up to ten, with options, prices or steps in a list where the node asks for them. Default: medium."""
    register_: Annotated[Literal["casual", "neutral", "formal"], Field(alias="register")] = "neutral"
    """How the agent addresses customers: `casual` as one would a friend, `formal` with full sentences and no contractions.
    Default: neutral."""


class ProcedureSpec(ApiModel):
    """The flowchart and its content."""

    system_prompt: Annotated[str, StringConstraints(min_length=1, max_length=2000)]
    """Minimal system prompt of the compiled agent; the server applies it."""
    start: NodeId
    """Id of the node with which a conversation begins."""
    nodes: Annotated[tuple[Node, ...], Field(min_length=2, max_length=500)]
    """The flowchart: one node per utterance of the agent or the customer, tool call, or call of another procedure, each with its
    edges to the next ones."""
    anywhere: Annotated[tuple[AnywhereEdge, ...], Field(max_length=20)] = ()
    """Edges that the customer may take at any turn, as to a person or to a cancellation. Where a node has an edge with the same
    target, condition or example, the node's edge is taken."""
    questions: Annotated[tuple[Question, ...], Field(max_length=100)] = ()
    """Questions that the customer may ask at any turn, with their answers. They are no edges: after the answer the conversation is
    where it was."""
    variables: Annotated[tuple[Variable, ...], Field(max_length=100)] = ()
    """Values that vary between conversations: names, amounts, dates."""
    openers: Annotated[tuple[Utterance, ...], Field(max_length=50)] = ("Hi", "Hello", "Hi there", "Hello, can you help me?")
    """What a customer may say before the agent's first turn: chat clients let the user speak first."""
    personas: Annotated[tuple[Persona, ...], Field(max_length=50)] = ()
    """Kinds of customers."""
    knowledge: Annotated[tuple[Knowledge, ...], Field(max_length=200)] = ()
    """Facts that the agent may use."""
    otherwise: Otherwise = Otherwise()
    """What the agent says when the customer says something for which the flowchart has no words. Default: plain, polite answers."""
    style: Style | None = None
    """How models write: length and register of turns, real values, customers with difficulties. Without it, models write as they
    did before the field existed, so that nothing is paid again. The scripted teacher ignores it."""
    tools: Annotated[tuple[Tool, ...], Field(max_length=30)] = ()
    """Functions that the agent calls at nodes of role `tool`."""

    @model_validator(mode="after")
    def _composed(self) -> Self:
        """The procedure with its texts in one Unicode form, whatever editor wrote them, so that equal words are equal strings."""
        text = self.model_dump_json(by_alias=True, exclude_unset=True, exclude_none=True)
        return self if composed(text) == text else self.model_validate_json(composed(text), by_alias=True, by_name=False)


class ProcedureStatus(StatusModel):
    """Result of the operator's checks."""

    observed_generation: int = 0
    """The metadata.generation that this status describes; -1 before the operator has seen the object."""
    conditions: Annotated[tuple[Condition, ...], Field(max_length=8)] = ()
    """Accepted and Ready: whether the procedure can be compiled; if not, the message lists every error with its fix.
    Stalled: the author must act."""
    phase: str | None = None
    """Summary of the conditions: Accepted, Invalid, or Pending while a called procedure may still appear."""
    digest: str | None = None
    """Digest of the significant fields of the procedure, with those that it calls; when it changes, a new run starts."""
    nodes: int | None = None
    """Number of nodes, with those of called procedures."""
    edges: int | None = None
    """Number of edges."""
    hubs: int | None = None
    """Number of nodes with several edges."""
    terminals: int | None = None
    """Number of nodes without edges."""
    paths: str | None = None
    """Number of distinct paths from the start to a terminal, or "more than N"."""
    min_turns: int | None = None
    """Turns of the shortest conversation, counting both speakers."""
    max_turns: int | None = None
    """Turns of the longest conversation; absent when there are too many paths to count."""
    warnings: Annotated[tuple[str, ...], Field(max_length=20)] = ()
    """Probable mistakes that do not prevent compilation."""
