"""Converts Rasa's flows to a draft of a conversation. What Python code or a document decides becomes a gap, never a guess. Pure.

A `collect` is a question of the agent and the customer's answer, `utter_…` a turn of the agent, any other action a call of a tool
with what the customer has said by then, which is what Rasa hands to actions. Where several flows can be started, the customer's
first turn decides.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from subterra_cli.imports.drafts.draft import Draft, Step, Way, node_id
from subterra_cli.imports.rasa.rasa_conditions import NO, YES, Test, parse_test, shown, slots_in
from subterra_cli.imports.rasa.rasa_project import Project, RasaError, Response
from subterra_cli.imports.rasa.rasa_slots import Slots, branches_of, written
from subterra_core.procedure.lint.gaps import GAP

HINTS = (
    "Actions are Python code: their tools get all that the customer has said by then, and return the slots that nobody collects.",
    "set_slots, guards of flows and the patterns of Rasa (corrections, cancelling, chitchat) are left out.",
    "Every ending is success, but for the hand-over to a person: set the outcomes that are not.",
)
_SILENT = ("action_listen", "action_restart", "action_session_start", "action_reset_routing")
_HANDOFF = "pattern_human_handoff"
_SEARCH = "action_trigger_search"


def to_draft(project: Project, wanted: Iterable[str] = ()) -> Draft:
    """The draft of the flows named `wanted`, or of all that a customer can start. Raises RasaError."""
    started = tuple(wanted)
    for name in started:
        if name not in project.flows:
            raise RasaError(f"there is no flow {name!r}; --flow is one of {', '.join(sorted(project.flows))}")
    names = started or tuple(name for name, flow in project.flows.items() if _can_be_started(name, flow))
    if not names:
        raise RasaError("no flow can be started by a customer (all are patterns, or have if: False); choose with --flow")
    return _Writer(project).write(names)


def _can_be_started(name: str, flow: dict[str, Any]) -> bool:
    return not name.startswith("pattern_") and str(flow.get("if")).lower() != "false"


class _Writer:
    """Writes the steps of flows; those of a called flow once for each call."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.draft = Draft(pass_known=True)
        self.slots = Slots(project, self.draft)
        self.written = set[str]()
        self.pending = list[str]()

    def write(self, names: tuple[str, ...]) -> Draft:
        ways = []
        self.draft.add(Step("END", "end", "closing"))
        for name in names:
            flow = self.project.flows[name]
            triggers = [each.get("intent") for each in flow.get("nlu_trigger") or [] if isinstance(each, dict)]
            intents = [str(each.get("name")) if isinstance(each, dict) else str(each) for each in triggers]
            said = tuple(text for intent in intents for text in self.project.intents.get(intent, ()))
            wants = f"The customer wants this: {_purpose(name, flow)}"
            ways.append(Way(self._flow(name), wants, said))
        while self.pending:
            self._flow(self.pending.pop())
        self.draft.start = "request"
        prompt = "Say what you need." if len(ways) > 1 else _purpose(names[0], self.project.flows[names[0]])
        kind = "choice" if len(ways) > 1 else "user"
        self.draft.add(Step("request", kind, "request", prompt, ways[0].examples if len(ways) == 1 else (), ways))  # type: ignore[arg-type]
        return self.draft

    def _flow(self, name: str, prefix: str = "", after: str = "END") -> str:
        """Key of a flow's first step, whose steps are written unless they are."""
        entry = f"{prefix}{name}"
        if entry not in self.written:
            self.written.add(entry)
            first = self._steps(self.project.flows[name]["steps"], name, prefix, f"{entry}/", after)
            self.draft.add(Step(entry, "pass", name, ways=[Way(first)]))
        return entry

    def _steps(self, steps: list[Any], flow: str, prefix: str, path: str, after: str) -> str:
        """Writes the steps of a list; returns the key of the first one."""
        place = f"{self.project.files[flow]}: flow {flow!r}"
        keys = []
        for index, step in enumerate(steps):
            if not isinstance(step, dict):
                raise RasaError(
                    f"{place}: step {index + 1} of a list is {step!r}, no mapping; write `- action: …` or `- collect: …`"
                )
            keys.append(f"{prefix}{flow}#{step['id']}" if step.get("id") else f"{path}{index}")
        for index, (step, key) in enumerate(zip(steps, keys, strict=True)):
            following = keys[index + 1] if index + 1 < len(keys) else after
            ways = [*self._next(step, following, flow, prefix, f"{key}/", after)]
            self._step(step, key, ways, flow, prefix)
        return keys[0] if keys else after

    def _next(self, step: dict[str, Any], following: str, flow: str, prefix: str, path: str, after: str) -> Iterator[Way]:
        """The ways that a step's `next` has, or the way to the step below it."""
        branches = step.get("next")
        if not isinstance(branches, list):
            yield Way(self._target(branches, following, flow, prefix, after))
            return
        for index, branch in enumerate(branches):
            if not isinstance(branch, dict) or not ("else" in branch or ("if" in branch and "then" in branch)):
                place = f"{self.project.files[flow]}: flow {flow!r}"
                raise RasaError(f"{place}: next has {branch!r}; each entry is `if:` with `then:`, or `else:`")
            to = branch.get("else") if "else" in branch else branch.get("then")
            if isinstance(to, list):
                key = self._steps(to, flow, prefix, f"{path}{index}.", after)
            else:
                key = self._target(to, after, flow, prefix, after)
            yield Way(key, otherwise="else" in branch, when="" if "else" in branch else str(branch["if"]))

    def _target(self, name: Any, following: str, flow: str, prefix: str, after: str) -> str:
        if name is None:
            return following
        if str(name) == "END":
            return after
        steps = _ids(self.project.flows[flow]["steps"])
        if str(name) not in steps:
            place = f"{self.project.files[flow]}: flow {flow!r}"
            raise RasaError(f"{place}: next leads to {name!r}, which is not an id of its steps; correct it, or add the id")
        return f"{prefix}{flow}#{name}"

    def _step(self, step: dict[str, Any], key: str, ways: list[Way], flow: str, prefix: str) -> None:
        if "collect" in step:
            self._collect(step, key, ways)
        elif "action" in step:
            self._action(str(step["action"]), key, self._branch(key, ways, str(step["action"])))
        elif "link" in step:
            self.draft.add(Step(key, "pass", str(step["link"]), ways=[Way(self._linked(str(step["link"]), key))]))
        elif "call" in step:
            self._call(step, key, self._branch(key, ways, str(step["call"])), flow, prefix)
        elif text := step.get("generation_prompt"):
            self.draft.add(Step(key, "agent", "reply", str(text), ways=self._branch(key, ways, "reply")))
        else:
            known = any(each in step for each in ("set_slots", "noop", "id", "next"))
            if not known:
                place = f"{self.project.files[flow]}: flow {flow!r}"
                raise RasaError(
                    f"{place}: a step has only {', '.join(map(str, step))}; use collect, action, link, call, set_slots or noop"
                )
            self.draft.add(Step(key, "pass", "step", ways=self._branch(key, ways, flow)))

    def _branch(self, key: str, ways: list[Way], name: str, collected: str = "") -> list[Way]:
        """The ways behind a choice, if there are several."""
        if len(ways) == 1:
            return [Way(ways[0].to)]
        tests = [parse_test(way.when) for way in ways if not way.otherwise]
        about = {slot for way in ways for slot in slots_in(way.when)}
        choice = Step(f"{key}?", "choice", "_".join(sorted(about)) if len(about) == 1 else f"{name}_case")
        if about == {collected} and not self.slots.is_fact(collected):
            choice.ways = [self._said(way, test, tests) for way, test in self._with_tests(ways)]
        else:
            choice.decided_by = "fact"
            choice.ways = [*self._decided(ways, about)]
        self.draft.add(choice)
        return [Way(choice.key)]

    def _with_tests(self, ways: list[Way]) -> Iterator[tuple[Way, Test | None]]:
        for way in ways:
            yield way, None if way.otherwise else parse_test(way.when)

    def _said(self, way: Way, test: Test | None, tests: list[Test | None]) -> Way:
        """A way that the customer's answer decides."""
        only = tests[0] if len(tests) == 1 else None
        if way.otherwise and only and only.truth:
            test = Test(only.slot, "is", NO if only.value == YES else YES)
        if test is None:
            when = "" if way.otherwise else f"After the answer this holds: {shown(way.when)}"
            return Way(way.to, when, otherwise=way.otherwise)
        return Way(way.to, self.slots.said(test), self.slots.examples(test))

    def _decided(self, ways: list[Way], about: set[str]) -> Iterator[Way]:
        """Ways that a fact decides: a slot, if all conditions are about its values, else which condition holds."""
        tests = [test for way, test in self._with_tests(ways) if not way.otherwise]
        slot = next(iter(about), "")
        plain = [test for test in tests if test and test.operator == "is"]
        if len(about) == 1 and len(plain) == len(tests) and self.slots.declare_fact(slot, plain, rest=len(plain) < len(ways)):
            for way, test in self._with_tests(ways):
                yield Way(way.to, shown(way.when), fact=slot, values=(test.value,) if test else (), otherwise=way.otherwise)
            return
        for way in ways:
            yield Way(way.to, shown(way.when), otherwise=way.otherwise)

    def _collect(self, step: dict[str, Any], key: str, ways: list[Way]) -> None:
        """A question, the answer, and the way back to the question for each rejection."""
        slot = str(step["collect"])
        asked = self.project.responses.get(str(step.get("utter") or f"utter_ask_{slot}"), Response((), ()))
        described = str(step.get("description") or "")
        question = f"Ask for {written(slot)}{f': {described}' if described else ''}."
        texts = self._texts(asked)
        answer = f"{key} answer"
        self.draft.add(Step(key, "agent", f"ask_{slot}", texts[0] if texts else question, texts, [Way(answer)]))
        self.slots.collect(slot)
        rejections = [each for each in step.get("rejections") or [] if isinstance(each, dict)]
        ways = self._branch(key, ways, slot, slot)
        if self.slots.is_fact(slot):
            said = [
                text
                for each in rejections
                for text in self._texts(self.project.responses.get(str(each.get("utter")), Response((), ())))
            ]
            self.draft.unknown_value = (*self.draft.unknown_value, *(text for text in said if "{{" not in text))
        elif rejections:
            ways = [self._rejected(rejections, key, ways[0], slot)]
        self.draft.add(Step(answer, "user", slot, self.slots.answer(slot), self.slots.words(slot), ways))

    def _rejected(self, rejections: list[dict[str, Any]], key: str, rest: Way, slot: str) -> Way:
        back = []
        for index, each in enumerate(rejections):
            name = str(each.get("utter") or f"utter_invalid_{slot}")
            said = f"{key} rejection {index}"
            self._utter(name, said, [Way(key)])
            back.append(Way(said, f"The answer is not accepted: {shown(str(each.get('if')))}"))
        choice = Step(f"{key} rejections", "choice", f"{slot}_accepted", ways=[*back, Way(rest.to, otherwise=True)])
        return Way(self.draft.add(choice).key)

    def _texts(self, response: Response) -> tuple[str, ...]:
        return tuple(self.slots.in_braces(text) for text in response.texts)

    def _utter(self, name: str, key: str, ways: list[Way]) -> None:
        texts = self._texts(self.project.responses.get(name, Response((), ())))
        prompt = texts[0] if texts else f"{GAP}what the agent says at {name}, which no domain file has"
        self.draft.add(Step(key, "agent", name.removeprefix("utter_"), prompt, texts, ways))

    def _action(self, name: str, key: str, ways: list[Way]) -> None:
        if name in _SILENT:
            self.draft.add(Step(key, "pass", name, ways=ways))
        elif name == _SEARCH:
            prompt = f"{GAP}the facts with which the agent answers; the source searches documents for them"
            self.draft.add(Step(key, "agent", "answer_from_documents", prompt, ways=ways))
        elif name.startswith("utter_"):
            self._utter(name, key, ways)
        else:
            self._tool(name, key, ways)

    def _tool(self, name: str, key: str, ways: list[Way]) -> Step:
        tool = node_id(name.removeprefix("action_"), "tool")
        self.draft.tools.setdefault(tool, {"name": tool, "description": f"{written(tool).capitalize()}."})
        return self.draft.add(Step(key, "tool", tool, tool=tool, ways=ways))

    def _linked(self, name: str, key: str) -> str:
        if name in self.project.flows:
            self.pending.append(name)
            return name
        if name == _HANDOFF:
            step = Step(f"{key} handoff", "end", "handoff", "Say that a person takes over.", outcome="escalation")
        else:
            step = Step(f"{key} missing", "end", name, f"{GAP}what happens in the flow {name!r}, which is not among the files")
        return self.draft.add(step).key

    def _call(self, step: dict[str, Any], key: str, ways: list[Way], flow: str, prefix: str) -> None:
        name = str(step["call"])
        if step.get("mcp_server"):
            self._mapped(step, self._tool(name, key, ways))
        elif name not in self.project.flows:
            prompt = f"{GAP}what the agent says at {name!r}, which is another agent or not among the files"
            self.draft.add(Step(key, "agent", name, prompt, ways=ways))
        elif f"{name}(" in prefix or name == flow:
            self.draft.notes.append(f"flow {flow!r} calls {name!r}, which calls it back: the inner call was left out")
            self.draft.add(Step(key, "pass", name, ways=ways))
        else:
            back = self.draft.add(Step(f"{key} return", "pass", name, ways=ways)).key
            self.draft.add(Step(key, "pass", name, ways=[Way(self._flow(name, f"{key} {name}(", back))]))

    def _mapped(self, step: dict[str, Any], call: Step) -> None:
        """A tool of an MCP server has its arguments and results in the flow."""
        mapping = step.get("mapping") if isinstance(step.get("mapping"), dict) else {}
        inputs = [each for each in (mapping or {}).get("input") or [] if isinstance(each, dict)]
        call.arguments = {node_id(str(each.get("param"))): self.slots.reference(str(each.get("slot"))) for each in inputs}
        tool = self.draft.tools[call.tool]
        tool["parameters"] = [{"name": name} for name in call.arguments]
        for each in (mapping or {}).get("output") or []:
            self.slots.reference(str(each.get("slot")))


def _purpose(name: str, flow: dict[str, Any]) -> str:
    guard = f"; only if {shown(str(flow['if']))}" if flow.get("if") is not None else ""
    return f"{flow.get('description') or flow.get('name') or written(name)}{guard}"


def _ids(steps: Any) -> set[str]:
    """Ids of all steps, also of those in branches."""
    found = set[str]()
    for step in steps if isinstance(steps, list) else []:
        if isinstance(step, dict):
            found |= {str(step["id"])} if step.get("id") else set()
            for branch in branches_of(step):
                found |= _ids(branch.get("then")) | _ids(branch.get("else"))
    return found
