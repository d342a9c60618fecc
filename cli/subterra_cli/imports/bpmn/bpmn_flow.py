"""Converts a BPMN process to a draft of a conversation. What a process does not say becomes a gap, never a guess. Pure.

Tasks are turns of the agent, or of the customer in the customer's lane or pool; service tasks are calls of tools. Gateways are
decided by the customer, or by the result of the call before them. Parallel branches follow each other, as they do in a chat.
"""

import re
from collections import defaultdict
from collections.abc import Iterable

from subterra_cli.imports.bpmn.bpmn_parallel import put_in_sequence
from subterra_cli.imports.bpmn.bpmn_xml import SUBPROCESSES, BpmnError, Element, Model, SequenceFlow
from subterra_cli.imports.drafts.draft import Draft, Step, Way, node_id, unused
from subterra_core.procedure.lint.gaps import GAP

HINTS = (
    "A process does not say what is said: prompts are the names of its tasks. Reword them, and add examples for scripted teachers.",
    "Gateways are decided by the customer, or by the call before them; where a fact decides, set decidedBy: fact and fact.",
    "Every ending is success, but for errors and escalations: set the outcomes that are not.",
)
_CUSTOMER = re.compile(
    r"\b(customers?|clients?|users?|buyers?|callers?|guests?|patients?|applicants?|consumers?|citizens?|passengers?|students?|kunde|kundin)\b",
    re.IGNORECASE,
)
_CALLS = ("serviceTask", "scriptTask", "businessRuleTask")
_OUTCOMES = {"error": "abandonment", "cancel": "abandonment", "escalation": "escalation"}
_EXPRESSION = re.compile(r"[$#]\{\s*([a-zA-Z]\w*)\s*\}|=\s*([a-zA-Z]\w*)")


def to_draft(model: Model, file: str, process: str | None = None, customers: Iterable[str] = ()) -> Draft:
    """The draft of one process of `model`. Raises BpmnError."""
    chosen = _choose(model, file, process, tuple(customers))
    return _Writer(model, chosen, tuple(customers)).write()


def _speaks_as_customer(name: str, customers: tuple[str, ...]) -> bool:
    return name in customers if customers else bool(_CUSTOMER.search(name))


def _choose(model: Model, file: str, wanted: str | None, customers: tuple[str, ...]) -> str:
    """Id of the process of this name, or of the only one that is not the customer's."""
    filled = {element.scope for element in model.elements.values()}
    names = {key: name or key for key, name in model.processes.items() if key in filled}
    if not names:
        raise BpmnError(f"{file}: no process with tasks in it; draw one")
    if wanted:
        found = [key for key, name in names.items() if wanted in (key, name)]
        if not found:
            raise BpmnError(f"{file}: no process {wanted!r}; --process is one of {', '.join(sorted(names.values()))}")
        return found[0]
    called = {element.calls for element in model.elements.values()}
    others = [key for key, name in names.items() if key not in called and not _speaks_as_customer(name, customers)] or [*names]
    if len(others) > 1:
        listed = ", ".join(sorted(names[key] for key in others))
        raise BpmnError(f"{file}: {len(others)} processes in it; choose one with --process: {listed}")
    return others[0]


class _Writer:
    """Writes the steps of a process, one for each element."""

    def __init__(self, model: Model, process: str, customers: tuple[str, ...]) -> None:
        self.model, self.process, self.customers = model, process, customers
        self.draft = Draft()
        self.out = defaultdict[str, list[SequenceFlow]](list)
        for flow in model.flows:
            self.out[flow.source].append(flow)
        self.boundaries = defaultdict[str, list[Element]](list)
        for element in model.elements.values():
            if element.kind == "boundaryEvent":
                self.boundaries[element.attached_to].append(element)
        self.splits: list[str] = []

    def write(self) -> Draft:
        self._scope(self.process, "")
        starts = self._starts(self.process)
        self.draft.start = self._entry(self.process, "")
        self.draft.opening = next((each.name for each in starts if each.name), "")
        put_in_sequence(self.draft, self.splits)
        return self.draft

    def _members(self, scope: str) -> list[Element]:
        return [element for element in self.model.elements.values() if element.scope == scope]

    def _starts(self, scope: str) -> list[Element]:
        members = self._members(scope)
        starts = [element for element in members if element.kind == "startEvent"]
        entered = {flow.target for flow in self.model.flows}
        free = [each for each in members if each.key not in entered and each.kind != "boundaryEvent" and not each.by_event]
        return starts or free

    def _entry(self, scope: str, prefix: str) -> str:
        """Key of the step with which a process or sub-process begins: its start, or the customer's choice between several."""
        starts = self._starts(scope)
        if not starts:
            return prefix + scope + " exit"
        if len(starts) == 1:
            return prefix + starts[0].key
        key = f"{prefix}{scope} entry"
        ways = [Way(prefix + start.key, start.name) for start in starts]
        self.draft.add(Step(key, "choice", self.model.processes.get(scope) or "opening", ways=ways))
        return key

    def _scope(self, scope: str, prefix: str, called: tuple[str, ...] = ()) -> None:
        for element in self._members(scope):
            if element.by_event:
                self.draft.notes.append(f"{element.name or element.key}: a sub-process that an event starts was left out")
            elif element.kind == "boundaryEvent":
                self._add(element, prefix, "pass", self._ways(element, prefix))
            else:
                self._element(element, prefix, called)

    def _element(self, element: Element, prefix: str, called: tuple[str, ...]) -> None:
        if element.kind in SUBPROCESSES:
            self._expanded(element, element.key, prefix, called)
        elif element.kind == "callActivity" and element.calls in self.model.processes and element.calls not in called:
            self._expanded(element, element.calls, f"{prefix}{element.key} ", (*called, element.calls), outer=prefix)
        elif element.kind.endswith("Gateway"):
            self._gateway(element, prefix)
        elif element.kind.endswith("Event"):
            self._event(element, prefix)
        else:
            self._task(element, prefix)

    def _expanded(self, element: Element, scope: str, prefix: str, called: tuple[str, ...], outer: str | None = None) -> None:
        """The steps of a sub-process in its place; its ends lead to what follows it."""
        outside = prefix if outer is None else outer
        self._scope(scope, prefix, called)
        exit_key = f"{prefix}{scope} exit"
        self.draft.add(Step(exit_key, "pass", element.name))
        self._leave(element, self.draft.steps[exit_key], outside)
        errors = [each for each in self.boundaries[element.key] if each.event in ("error", "escalation", "cancel")]
        for step in [step for step in self.draft.steps.values() if step.kind == "end"]:
            inner = self.model.elements.get(step.key.removeprefix(prefix))
            if inner is None or inner.scope != scope or not step.key.startswith(prefix):
                continue
            caught = next((each for each in errors if each.event == inner.event), None)
            step.ways = [Way(outside + caught.key if caught else exit_key)]
            step.kind = "agent" if step.prompt and inner.event == "message" else "pass"
        if element.kind == "adHocSubProcess":
            self.draft.notes.append(f"{element.name or element.key}: tasks without an order begin with the first one")
        self.draft.add(Step(outside + element.key, "pass", element.name, ways=[Way(self._entry(scope, prefix))]))

    def _task(self, element: Element, prefix: str) -> None:
        customer = element.kind == "receiveTask" and not self._from_elsewhere(element)
        kind = "user" if customer or self._in_customers_lane(element) else "agent"
        words = element.documentation
        prompt = f"{element.name}. {words}" if element.name and words else element.name or words
        if element.kind in _CALLS:
            return self._call(element, prefix)
        if element.kind == "callActivity":
            prompt = f"{GAP}what happens in {element.name or element.calls!r}, which is not in this file"
        step = self._add(element, prefix, kind, [], prompt)
        return self._leave(element, step, prefix)

    def _call(self, element: Element, prefix: str) -> None:
        """A call of a tool, with the arguments that an extension names; without one they are a gap of the tool."""
        tool = unused(node_id(element.name, "tool"), self.draft.tools)
        described = element.documentation or element.name
        arguments = {node_id(name): self._value(text) for name, text in element.inputs.items()}
        parameters = [{"name": name} for name in arguments]
        if not arguments:
            described = f"{GAP}parameters and results of this tool, and arguments of its calls; it does: {described}"
        self.draft.tools[tool] = {"name": tool, "description": described[:1000]} | (
            {"parameters": parameters} if parameters else {}
        )
        step = self._add(element, prefix, "tool", [], element.name)
        step.tool, step.arguments = tool, arguments
        self._leave(element, step, prefix)

    def _value(self, text: str) -> str:
        """An argument: a variable of the process as a context variable, or the text itself."""
        if not (found := _EXPRESSION.fullmatch(text.strip())):
            return text or f"{GAP}the value of this argument"
        name = found[1] or found[2]
        note = f"{GAP}values, and visibility: customer if the customer says it"
        return f"{{{{{self.draft.variable(name, description=note, visibility='context', values=[f'{GAP}values'])}}}}}"

    def _gateway(self, element: Element, prefix: str) -> None:
        flows = self.out[element.key]
        if element.kind == "parallelGateway":
            if len(flows) > 1:
                self.splits.append(prefix + element.key)
            self._add(element, prefix, "pass", [Way(prefix + flow.target) for flow in flows])
        elif element.kind == "eventBasedGateway":
            self._add(element, prefix, "choice", [self._awaited(flow, prefix) for flow in flows])
        elif len(flows) < 2:
            self._add(element, prefix, "pass", self._ways(element, prefix))
        else:
            several = "; several of these may hold at once, a conversation takes one: check the edges"
            prompt = f"{GAP}{element.name or 'what decides'}{several}" if element.kind == "inclusiveGateway" else element.name
            self._add(element, prefix, "choice", self._ways(element, prefix), prompt)

    def _awaited(self, flow: SequenceFlow, prefix: str) -> Way:
        """The way of an event that may happen; what waits for it is not said once more."""
        event = self.model.elements[flow.target]
        name = flow.label or event.name
        when = f"The customer does not answer: {name}" if event.event == "timer" else name
        after = self.out[event.key]
        behind = event.kind in ("intermediateCatchEvent", "receiveTask") and len(after) == 1
        return Way(prefix + (after[0].target if behind else event.key), when)

    def _event(self, element: Element, prefix: str) -> None:
        ways = self._ways(element, prefix)
        heard = element.event == "message" and element.kind in ("startEvent", "intermediateCatchEvent")
        if element.kind == "endEvent":
            step = self._add(element, prefix, "end", [], element.name)
            step.outcome = _OUTCOMES.get(element.event, "success")
        elif heard and element.name and not self._from_elsewhere(element):
            self._add(element, prefix, "user", ways, element.name)
        elif element.kind == "intermediateThrowEvent" and element.event == "message":
            self._add(element, prefix, "user" if self._in_customers_lane(element) else "agent", ways, element.name)
        elif element.kind == "intermediateThrowEvent" and element.event == "link":
            links = [each for each in self._members(element.scope) if each.event == "link" and each.name == element.name]
            caught = [Way(prefix + each.key) for each in links if each.kind == "intermediateCatchEvent"]
            self._add(element, prefix, "pass", caught[:1])
        else:
            self._add(element, prefix, "pass", ways)

    def _add(self, element: Element, prefix: str, kind: str, ways: list[Way], prompt: str = "") -> Step:
        name = element.name or self.model.lanes.get(element.key, "") or re.sub(r"(?<=[a-z])(?=[A-Z])", "_", element.kind)
        return self.draft.add(Step(prefix + element.key, kind, name, prompt, ways=ways))  # type: ignore[arg-type]

    def _ways(self, element: Element, prefix: str) -> list[Way]:
        flows = self.out[element.key]
        asks = f"{element.name} " if element.name and element.kind.endswith("Gateway") else ""
        return [
            Way(
                prefix + flow.target,
                f"{asks}{flow.label}" if flow.label else "",
                values=(flow.label,) if flow.label else (),
                otherwise=flow.key == element.default,
            )
            for flow in flows
        ]

    def _leave(self, element: Element, step: Step, prefix: str) -> None:
        """The ways out of an activity: its flows, and the events at its border."""
        ways = self._ways(element, prefix)
        caught = [each for each in self.boundaries[element.key] if self._may_happen(each, element)]
        if len(ways) > 1:
            chosen = any(flow.conditional or flow.label for flow in self.out[element.key])
            key = f"{step.key} split"
            self.draft.add(Step(key, "choice" if chosen else "pass", f"{step.name} answer", ways=ways))
            self.splits += [] if chosen else [key]
            ways = [Way(key)]
        if caught and not ways:
            ways = [Way(self.draft.add(Step(f"{step.key} end", "end", "closing")).key)]
        if caught:
            events = [Way(prefix + each.key, _happens(each), values=(each.name or each.event,)) for each in caught]
            key = f"{step.key} events"
            rest = Way(ways[0].to, otherwise=True)
            self.draft.add(Step(key, "choice", f"{step.name} answer", ways=[rest, *events]))
            ways = [Way(key)]
        step.ways = ways

    def _may_happen(self, event: Element, element: Element) -> bool:
        inside = element.kind in SUBPROCESSES and event.event in ("error", "escalation", "cancel")
        return bool(self.out[event.key]) and event.event != "compensate" and not inside

    def _in_customers_lane(self, element: Element) -> bool:
        names = (self.model.lanes.get(element.key, ""), self.model.pools.get(self.process, ""))
        return any(_speaks_as_customer(name, self.customers) for name in names)

    def _from_elsewhere(self, element: Element) -> bool:
        """Whether its message comes from a pool that is not the customer's."""
        sources = [source for source, target in self.model.messages if target == element.key]
        names = [self.model.pools.get(each) or self._pool_of(each) for each in sources]
        return bool(names) and not any(_speaks_as_customer(name, self.customers) for name in names)

    def _pool_of(self, key: str) -> str:
        while key in self.model.elements:
            key = self.model.elements[key].scope
        return self.model.processes.get(key, "")


def _happens(event: Element) -> str:
    if event.event == "timer":
        return f"The customer does not answer: {event.name}" if event.name else "The customer does not answer"
    return event.name
