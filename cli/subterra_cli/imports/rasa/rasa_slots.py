"""The slots of a Rasa project as variables of a draft: what the customer says, and what decides."""

import re
from typing import Any

from subterra_cli.imports.drafts.draft import Draft
from subterra_cli.imports.rasa.rasa_conditions import NO, YES, Test, parse_test, slots_in
from subterra_cli.imports.rasa.rasa_project import Project
from subterra_core.procedure.lint.gaps import GAP

_BRACES = re.compile(r"\{(\w+)\}")
_TRUTH = {YES: re.compile(r"\b(true|yes)\b", re.IGNORECASE), NO: re.compile(r"\b(false|no|none|null)\b", re.IGNORECASE)}
_OTHER = "other"


def written(name: str) -> str:
    """A name as words."""
    return " ".join(name.replace("_", " ").split())


class Slots:
    """Declares the variables of a draft as steps come to need them."""

    def __init__(self, project: Project, draft: Draft) -> None:
        self.project, self.draft = project, draft
        steps = [step for flow in project.flows.values() for step in _all_steps(flow.get("steps"))]
        collects = {str(step["collect"]): step for step in reversed(steps) if "collect" in step}
        self.collected = {*collects}
        self.descriptions = {slot: str(step.get("description") or "") for slot, step in collects.items()}
        asked = {slot: project.responses.get(str(step.get("utter") or f"utter_ask_{slot}")) for slot, step in collects.items()}
        self.buttons = {slot: response.buttons for slot, response in asked.items() if response}
        self.reused = {slot for step in steps for slot in _asked_slots(step) if slot != step.get("collect")}

    def is_fact(self, slot: str) -> bool:
        """Whether a collected slot is one of a list, or of yes and no, and a step elsewhere depends on it."""
        return bool(self._values(slot)) and (not self._asks_yes_or_no(slot) or slot in self.reused)

    def _type(self, slot: str) -> str:
        return str(self.project.slots.get(slot, {}).get("type", "any"))

    def _values(self, slot: str) -> list[str]:
        values = self.project.slots.get(slot, {}).get("values")
        if self._type(slot) == "categorical" and isinstance(values, list):
            return [str(value) for value in values]
        return [YES, NO] if self._asks_yes_or_no(slot) else []

    def collect(self, slot: str) -> None:
        """Declares the variable that the customer's answer fills; a yes or no on which nothing else depends needs none."""
        if self.is_fact(slot) or not self._values(slot):
            self.reference(slot)

    def reference(self, slot: str) -> str:
        """`{{slot}}`, which is declared: the customer's if some step collects it, else decided from its uses."""
        described = self.descriptions.get(slot, "")[:500]
        fields: dict[str, Any] = {"description": described} if described else {}
        fields |= {"visibility": "customer"} if slot in self.collected else {}
        if values := self._values(slot):
            self.draft.variable(slot, **fields, values=values)
        else:
            told = [title for title, _ in self.buttons.get(slot, ()) if title]
            self.draft.variable(slot, **fields, values=told or [f"{GAP}examples of {written(slot)}"], open=True)
        return f"{{{{{slot}}}}}"

    def in_braces(self, text: str) -> str:
        """A response with `{slot}` as a variable."""
        known = {*self.project.slots, *self.collected}
        return _BRACES.sub(lambda found: self.reference(found[1]) if found[1] in known else found[0], text)

    def declare_fact(self, slot: str, tests: list[Test], *, rest: bool) -> bool:
        """Whether the values of these tests decide: those of a list, or of a slot that an action fills."""
        values = list(dict.fromkeys(test.value for test in tests))
        known = self._values(slot)
        if slot in self.collected:
            if not self.is_fact(slot) or not set(values) <= set(known):
                return False
            self.reference(slot)
        else:
            plain = {YES, NO} if set(values) <= {YES, NO} else {*values}
            missing = [] if known or plain == {YES, NO} or not rest else [_OTHER]
            declared = self.draft.variables.setdefault(
                slot, {"name": slot, "values": [*known] or sorted(plain, reverse=True) + missing}
            )
            if declared.get("open"):
                return False
            declared["values"] += [value for value in values if value not in declared["values"]]
        return True

    def said(self, test: Test) -> str:
        """What the customer's answer is when a test of it holds."""
        if test.truth and self._asks_yes_or_no(test.slot):
            return f"The customer says {test.value} to: {written(test.slot)}."
        if test.truth:
            return f"The customer {'names' if test.value == YES else 'does not name'} this: {written(test.slot)}."
        return f"The customer's answer ({written(test.slot)}) {test.operator} {test.value}."

    def _asks_yes_or_no(self, slot: str) -> bool:
        described = self.descriptions.get(slot, "").lower()
        payloads = [payload.lower() for _, payload in self.buttons.get(slot, ())]
        return self._type(slot) == "bool" or "true" in described or any(_TRUTH[YES].search(text) for text in payloads)

    def examples(self, test: Test) -> tuple[str, ...]:
        """Titles of the buttons that make a test hold."""
        pattern = _TRUTH.get(test.value) or re.compile(rf"\b{re.escape(test.value)}\b", re.IGNORECASE)
        found = [title for title, payload in self.buttons.get(test.slot, ()) if title and pattern.search(f"{payload} {title}")]
        if self._asks_yes_or_no(test.slot) and not found:
            found = [test.value.capitalize()]
        return tuple(found)

    def answer(self, slot: str) -> str:
        """What the customer does in answer to a question."""
        about = f" ({self.descriptions[slot]})" if self.descriptions.get(slot) else ""
        if slot in self.draft.variables:
            return f"Answer with {written(slot)}{about}: {{{{{slot}}}}}"
        return f"Answer the question: {written(slot)}{about}."

    def words(self, slot: str) -> tuple[str, ...]:
        """The shortest answer: the value alone."""
        return (f"{{{{{slot}}}}}",) if slot in self.draft.variables else ()


def branches_of(step: dict[str, Any]) -> list[dict[str, Any]]:
    """The branches of a step; a step with one way has none."""
    branches = step.get("next")
    return [branch for branch in branches if isinstance(branch, dict)] if isinstance(branches, list) else []


def _all_steps(steps: Any) -> list[dict[str, Any]]:
    found = []
    for step in steps if isinstance(steps, list) else []:
        if isinstance(step, dict):
            found.append(step)
            for branch in branches_of(step):
                found += [*_all_steps(branch.get("then")), *_all_steps(branch.get("else"))]
    return found


def _asked_slots(step: dict[str, Any]) -> set[str]:
    """Slots that a step's branches depend on."""
    conditions = [str(branch["if"]) for branch in branches_of(step) if "if" in branch]
    simple = [test.slot for text in conditions if (test := parse_test(text))]
    return {*simple, *(slot for text in conditions for slot in slots_in(text))}
