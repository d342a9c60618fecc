"""Parameters of a Dialogflow CX agent as variables of a draft: in messages, training phrases, forms and conditions."""

import re
from collections.abc import Iterator
from typing import Any

from subterra_cli.imports.dialogflow.dialogflow_agent import Agent, Intent, Part, dicts
from subterra_cli.imports.drafts.draft import MAX_EXAMPLES, Draft, Way
from subterra_core.procedure.lint.gaps import GAP

_REFERENCE = re.compile(r"\$(?:session\.params|page\.params|intent\.params|flow)\.([A-Za-z][\w-]*(?:\.[A-Za-z][\w-]*)*)")
_EQUALS = re.compile(r"\$(?:session\.params|page\.params|flow)\.([A-Za-z][\w.-]*)\s*=\s*(?:\"([^\"$]*)\"|([\w-]+))")
_TAGS = re.compile(r"<[^<>]+>")
_OF_ITSELF = (".original", ".resolved")
_EMPTY = ("null", "")


def shown_condition(condition: str) -> str:
    """A condition as people read it."""
    return " ".join(_REFERENCE.sub(lambda found: _plain(found[1]), condition).split())


def _plain(name: str) -> str:
    for suffix in _OF_ITSELF:
        name = name.removesuffix(suffix)
    return name


def _compared(data: Any) -> Iterator[tuple[str, str]]:
    """Parameters and values of the comparisons in the conditions of pages."""
    waiting = [data]
    while waiting:
        here = waiting.pop(0)
        if isinstance(here, list):
            waiting += here
        elif isinstance(here, dict):
            waiting += [value for value in here.values() if isinstance(value, list | dict)]
            equals = _EQUALS.fullmatch(str(here.get("condition", "")).strip())
            value = (equals[2] if equals[2] is not None else equals[3]) if equals else ""
            if equals and value.lower() not in _EMPTY:
                yield equals[1], value


def variable_name(name: str) -> str:
    """A parameter's name as a variable's."""
    return re.sub(r"\W+", "_", _plain(name), flags=re.ASCII).strip("_")[:63] or "parameter"


class Parameters:
    """Declares the variables of a draft as pages come to need them."""

    def __init__(self, agent: Agent, draft: Draft) -> None:
        self.agent, self.draft = agent, draft
        self.types = {name: kind for intent in agent.intents.values() for name, kind in intent.parameters.items()}
        pages = [page for flow in agent.flows.values() for page in (flow.data, *flow.pages.values())]
        for page in pages:
            form = page.get("form")
            for parameter in dicts(form.get("parameters")) if isinstance(form, dict) else []:
                self.types[str(parameter.get("displayName"))] = str(parameter.get("entityType") or "")
        self.compared = dict[str, list[str]]()
        """Values with which conditions compare a parameter."""
        for name, value in _compared([*pages, *(group for flow in agent.flows.values() for group in flow.groups.values())]):
            known = self.compared.setdefault(variable_name(name), [])
            known += [] if value in known else [value]
        self.said = dict[str, list[str]]()
        """Words in training phrases that fill a parameter."""
        for intent in agent.intents.values():
            for part in (part for phrase in intent.phrases for part in phrase if part.parameter):
                self.said.setdefault(part.parameter, []).append(part.text)

    def asked(self, name: str, entity: str) -> str:
        """The variable that the customer's answer to a form's question fills."""
        return self._declare(name, entity, visibility="customer")

    def returned(self, reference: str) -> None:
        """Declares what a webhook returns."""
        if found := _REFERENCE.fullmatch(reference):
            self._declare(found[1], "")
        elif re.fullmatch(r"[A-Za-z][\w-]*", reference):
            self._declare(reference, "")

    def _declare(self, name: str, entity: str, **fields: Any) -> str:
        variable = variable_name(name)
        kind = (entity or self.types.get(name, "")).lstrip("@")
        values = self.agent.entities.get(kind, [])[:500]
        if values:
            return self.draft.variable(variable, **fields, values=values)
        if self.compared.get(variable) and name not in self.types:
            return self.draft.variable(variable, **fields, values=list(self.compared[variable]))
        heard = list(dict.fromkeys(text.strip()[:200] for text in self.said.get(name, []) if text.strip()))[:20]
        about = f" ({kind})" if kind else ""
        return self.draft.variable(variable, **fields, values=heard or [f"{GAP}examples of {name}{about}"], open=True)

    def spoken(self, message: dict[str, Any]) -> list[str]:
        """The texts of which a message says one."""
        content = message.get("text")
        texts = content.get("text") if isinstance(content, dict) else None
        audio = message.get("outputAudioText")
        if isinstance(audio, dict):
            texts = [audio.get("text") or _TAGS.sub("", str(audio.get("ssml") or ""))]
        found = [" ".join(str(text).split()) for text in texts or []]
        return [_REFERENCE.sub(self._reference, text) for text in found if text]

    def _reference(self, found: re.Match[str]) -> str:
        name = _plain(found[1])
        visible = {"visibility": "customer"} if name in self.types else {}
        return f"{{{{{self._declare(name, '', **visible)}}}}}"

    def phrases(self, intent: Intent) -> tuple[str, ...]:
        """What the customer says: training phrases, with the variables that something else names in place of their values."""
        return tuple(text for phrase in intent.phrases[:MAX_EXAMPLES] if (text := "".join(map(self._part, phrase)).strip()))

    def _part(self, part: Part) -> str:
        variable = variable_name(part.parameter) if part.parameter else ""
        known = self.draft.variables.get(variable)
        return f"{{{{{variable}}}}}" if known and known.get("visibility") == "customer" else part.text

    def decided(self, condition: str, to: str) -> Way:
        """A way that a condition decides: the value of one parameter, or the condition as it is."""
        equals = _EQUALS.fullmatch(condition.strip())
        value = (equals[2] if equals[2] is not None else equals[3]) if equals else ""
        if not equals or value.lower() in _EMPTY:
            return Way(to, shown_condition(condition))
        variable = variable_name(equals[1])
        self._named(equals[1])
        known = self.draft.variables[variable]
        if known.get("open"):
            return Way(to, shown_condition(condition))
        if value not in known["values"]:
            known["values"] = [*known["values"], value]
        return Way(to, shown_condition(condition), fact=variable, values=(value,))

    def leave_rest(self, ways: list[Way]) -> list[Way]:
        """The ways; where one value decides, the parameter gets one more for the way that is taken otherwise."""
        facts = {way.fact for way in ways if not way.otherwise}
        known = self.draft.variables.get(next(iter(facts), ""))
        if (
            len(facts) == 1
            and known
            and not known.get("open")
            and known["name"] not in self.types
            and any(way.otherwise for way in ways)
        ):
            values = known["values"]
            if {value for way in ways for value in way.values} >= {*values}:
                other = (
                    next((each for each in ("true", "false") if each not in values), "")
                    if {*values} <= {"true", "false"}
                    else "other"
                )
                values += [other] if other and other not in values else []
        return ways

    def in_body(self, body: str) -> dict[str, str]:
        """Arguments of a webhook: the parameters that its request's body names."""
        names = dict.fromkeys(_plain(name) for name in _REFERENCE.findall(body))
        return {variable_name(name): f"{{{{{self._named(name)}}}}}" for name in names}

    def _named(self, name: str) -> str:
        visible = {"visibility": "customer"} if name in self.types else {}
        return self._declare(name, "", **visible)
