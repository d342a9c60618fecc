"""Reads BPMN 2.0 XML: processes, their elements and sequence flows, pools, lanes and message flows.

The file may come from anybody: a document type is refused before an entity could be declared, nothing is fetched, and size and
depth are bounded.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from xml.parsers import expat

from subterra_cli.errors import CommandError

MAX_BYTES = 16 * 1024 * 1024
MAX_DEPTH = 100
_MODEL = "http://www.omg.org/spec/BPMN/20100524/MODEL"
TASKS = ("task", "userTask", "manualTask", "sendTask", "receiveTask", "serviceTask", "scriptTask", "businessRuleTask")
SUBPROCESSES = ("subProcess", "transaction", "adHocSubProcess")
ACTIVITIES = (*TASKS, *SUBPROCESSES, "callActivity")
GATEWAYS = ("exclusiveGateway", "inclusiveGateway", "parallelGateway", "eventBasedGateway", "complexGateway")
EVENTS = ("startEvent", "endEvent", "intermediateCatchEvent", "intermediateThrowEvent", "boundaryEvent")
_NODES = (*ACTIVITIES, *GATEWAYS, *EVENTS)


class BpmnError(CommandError):
    """The file is no BPMN that can be read; the message says where and what to do."""


@dataclass
class Xml:
    """An element of the file, with names without namespaces."""

    tag: str
    attributes: dict[str, str]
    line: int
    model: bool
    """Whether it is an element of BPMN, not a vendor's."""
    children: list["Xml"] = field(default_factory=list)
    text: str = ""

    def all(self, *tags: str) -> Iterator["Xml"]:
        """Direct children of BPMN with one of `tags`."""
        return (child for child in self.children if child.model and child.tag in tags)

    def first_text(self, tag: str) -> str:
        """Text of the first child of this name; empty without one."""
        return next((child.text.strip() for child in self.all(tag)), "")


@dataclass
class Element:
    """A task, gateway, event or sub-process."""

    key: str
    kind: str
    name: str
    scope: str
    """Id of the process or sub-process that it is in."""
    line: int
    event: str = ""
    """Kind of an event: `message`, `timer`, `error` …; empty if it has none."""
    documentation: str = ""
    default: str = ""
    """Id of the sequence flow that is taken if no other is."""
    attached_to: str = ""
    calls: str = ""
    """Id of the process that a call activity calls."""
    by_event: bool = False
    """Whether it is a sub-process that an event starts."""
    inputs: dict[str, str] = field(default_factory=dict)
    """What a vendor's extension says that a service task is called with."""


@dataclass(frozen=True)
class SequenceFlow:
    """An edge of a process. `label` is its name, or its condition."""

    key: str
    source: str
    target: str
    label: str
    conditional: bool


@dataclass
class Model:
    """All of a file that matters to a conversation."""

    processes: dict[str, str] = field(default_factory=dict)
    """Names of processes by id: the pool's, or their own."""
    elements: dict[str, Element] = field(default_factory=dict)
    flows: list[SequenceFlow] = field(default_factory=list)
    lanes: dict[str, str] = field(default_factory=dict)
    """Names of lanes by element."""
    pools: dict[str, str] = field(default_factory=dict)
    """Names of pools by participant and by process."""
    messages: list[tuple[str, str]] = field(default_factory=list)
    """Source and target of message flows."""


def read_model(file: Path) -> Model:
    """The model in a file. Raises BpmnError."""
    try:
        with file.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise BpmnError(f"{file}: cannot be read: {error.strerror}; check the path and its permissions") from None
    if len(content) > MAX_BYTES:
        raise BpmnError(f"{file}: has more than {MAX_BYTES:,} bytes; import a smaller diagram")
    try:
        root = parse_xml(content)
    except BpmnError as error:
        raise BpmnError(f"{file}: {error}") from None
    if not root.model or root.tag != "definitions":
        fix = "export the diagram as BPMN 2.0 XML, whose root is definitions"
        raise BpmnError(f"{file}:{root.line}: <{root.tag}> is not BPMN 2.0; {fix}")
    return _model(root, str(file))


def parse_xml(content: bytes) -> Xml:
    """The root element. Raises BpmnError for a document type, for text that is not XML, and for too deep nesting."""
    parser = expat.ParserCreate(namespace_separator=" ")
    above: list[Xml] = [Xml("", {}, 0, model=False)]

    def refuse(*_: object) -> None:
        fix = "remove it: a model needs none, and entities are not expanded"
        raise BpmnError(f"line {parser.CurrentLineNumber}: <!DOCTYPE> is refused; {fix}")

    def begin(name: str, attributes: dict[str, str]) -> None:
        if len(above) > MAX_DEPTH:
            raise BpmnError(
                f"line {parser.CurrentLineNumber}: is nested more than {MAX_DEPTH} levels deep; import a flatter diagram"
            )
        space, _, tag = name.rpartition(" ")
        plain = {key.rpartition(" ")[2]: value for key, value in attributes.items()}
        above[-1].children.append(Xml(tag, plain, parser.CurrentLineNumber, space == _MODEL))
        above.append(above[-1].children[-1])

    def text(data: str) -> None:
        above[-1].text += data

    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler, parser.CharacterDataHandler = begin, text
    parser.EndElementHandler = lambda _: above.pop()
    try:
        parser.Parse(content, True)
    except expat.ExpatError as error:
        raise BpmnError(f"line {error.lineno}: is not XML: {expat.errors.messages[error.code]}; export the diagram again") from None
    return above[0].children[0]


def _model(root: Xml, file: str) -> Model:
    model = Model()
    for collaboration in root.all("collaboration"):
        for pool in collaboration.all("participant"):
            named = pool.attributes.get("name", "")
            model.pools[pool.attributes.get("id", "")] = named
            if referred := pool.attributes.get("processRef", "").rpartition(":")[2]:
                model.pools[referred] = named
        for message in collaboration.all("messageFlow"):
            ends = [message.attributes.get(end, "").rpartition(":")[2] for end in ("sourceRef", "targetRef")]
            model.messages.append((ends[0], ends[1]))
    for process in root.all("process"):
        key = _attribute(process, "id", file)
        model.processes[key] = model.pools.get(key) or process.attributes.get("name", "")
        _read_scope(process, key, model, file)
    _check_ends(model, file)
    return model


def _attribute(element: Xml, name: str, file: str) -> str:
    value = element.attributes.get(name, "").rpartition(":")[2]
    if not value:
        raise BpmnError(f"{file}:{element.line}: <{element.tag}> has no {name}; add it, or export the diagram again")
    return value


def _read_scope(scope: Xml, key: str, model: Model, file: str) -> None:
    for child in scope.all(*_NODES):
        element = _element(child, key, file)
        if element.key in model.elements:
            raise BpmnError(f"{file}:{child.line}: id {element.key!r} is used twice; give each element its own")
        model.elements[element.key] = element
        if child.tag in SUBPROCESSES:
            _read_scope(child, element.key, model, file)
    for flow in scope.all("sequenceFlow"):
        source, target = (_attribute(flow, end, file) for end in ("sourceRef", "targetRef"))
        condition = flow.first_text("conditionExpression")
        label = flow.attributes.get("name", "").strip() or _shown_condition(condition)
        model.flows.append(SequenceFlow(_attribute(flow, "id", file), source, target, label, bool(condition)))
    for lanes in scope.all("laneSet", "childLaneSet"):
        _read_lanes(lanes, model)


def _read_lanes(lanes: Xml, model: Model) -> None:
    for lane in lanes.all("lane"):
        for reference in lane.all("flowNodeRef"):
            model.lanes[reference.text.strip()] = lane.attributes.get("name", "")
        for inner in lane.all("childLaneSet"):
            _read_lanes(inner, model)


def _element(xml: Xml, scope: str, file: str) -> Element:
    events = [child.tag.removesuffix("EventDefinition") for child in xml.children if child.tag.endswith("EventDefinition")]
    return Element(
        _attribute(xml, "id", file),
        xml.tag,
        " ".join(xml.attributes.get("name", "").split()),
        scope,
        xml.line,
        events[0] if events else "",
        " ".join(xml.first_text("documentation").split()),
        xml.attributes.get("default", ""),
        xml.attributes.get("attachedToRef", "").rpartition(":")[2],
        xml.attributes.get("calledElement", "").rpartition(":")[2],
        xml.attributes.get("triggeredByEvent") == "true",
        dict(_inputs(xml)),
    )


def _inputs(xml: Xml) -> Iterator[tuple[str, str]]:
    """Names and values of the input parameters of Camunda 7 (`inputParameter`) and 8 (`ioMapping/input`)."""
    for extension in xml.all("extensionElements"):
        for parameter in _vendor(extension, "inputParameter", "input"):
            name = parameter.attributes.get("name") or parameter.attributes.get("target", "")
            if name:
                yield name, parameter.text.strip() or parameter.attributes.get("source", "")


def _vendor(xml: Xml, *tags: str) -> Iterator[Xml]:
    for child in xml.children:
        if child.tag in tags:
            yield child
        yield from _vendor(child, *tags)


def _shown_condition(text: str) -> str:
    """A condition without the brackets of expression languages."""
    plain = " ".join(text.split())
    if plain.startswith(("${", "#{")) and plain.endswith("}"):
        return plain[2:-1].strip()
    return plain.removeprefix("=").strip()


def _check_ends(model: Model, file: str) -> None:
    for flow in model.flows:
        for end in (flow.source, flow.target):
            if end not in model.elements:
                problem = f"sequenceFlow {flow.key!r} leads to or from {end!r}, which is not a task, gateway or event"
                raise BpmnError(f"{file}: {problem}; connect it, or delete it")
    for element in model.elements.values():
        if element.kind == "boundaryEvent" and element.attached_to not in model.elements:
            problem = f"boundaryEvent {element.key!r} is attached to {element.attached_to!r}, which is not there"
            raise BpmnError(f"{file}:{element.line}: {problem}; attach it to an activity, or delete it")
