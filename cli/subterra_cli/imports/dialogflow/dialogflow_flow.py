"""Converts a Dialogflow CX agent to a draft of a conversation. What a webhook or a model decides is a gap or a tool. Pure.

A page is its entry message, a question and an answer for each required parameter of its form, and its routes: those with an intent
are the customer's to decide, in the words of the training phrases, those with a condition depend on a fact.
"""

import re
from collections import defaultdict
from typing import Any

from subterra_cli.imports.dialogflow.dialogflow_agent import Agent, DialogflowError, Intent, dicts
from subterra_cli.imports.dialogflow.dialogflow_texts import Parameters, shown_condition
from subterra_cli.imports.drafts.draft import Draft, Step, Way, node_id
from subterra_core.procedure.lint.gaps import GAP

HINTS = (
    "Webhooks are tools: those without a request body get all that the customer has said by then.",
    "Presets of parameters, routes of a flow that hold on all its pages, and event handlers other than no-match are left out.",
    "Every ending is success, but for flows that end with failure, cancellation or a person: set the outcomes that are not.",
)
_FINAL = re.compile(r"\$page\.params\.status\s*=\s*\"?FINAL\"?")
_COMPUTED = re.compile(r"\$(?:sys\.func|request|generative|session|flow|page|intent)\b")
_NO_MATCH = ("sys.no-match-default", "sys.no-match-1")
_OUTCOMES = {"CANCELLATION": "abandonment", "FAILURE": "abandonment", "ESCALATION": "escalation"}
Json = dict[str, Any]


def to_draft(agent: Agent, flow: str | None = None) -> Draft:
    """The draft of an agent from its start flow on, or from `flow`. Raises DialogflowError."""
    start = flow or agent.start
    if start not in agent.flows:
        raise DialogflowError(f"there is no flow {start!r}; --flow is one of {', '.join(sorted(agent.flows))}")
    return _Writer(agent).write(start)


class _Writer:
    """Writes the steps of the pages that a conversation can come to."""

    def __init__(self, agent: Agent) -> None:
        self.agent = agent
        self.draft = Draft(pass_known=True)
        self.parameters = Parameters(agent, self.draft)
        self.callers = defaultdict[str, set[tuple[str, str]]](set)
        self.start = ""
        self.pending = list[tuple[str, str]]()
        for name, flow in agent.flows.items():
            for page, data in [("", flow.data), *flow.pages.items()]:
                for route in self._routes(name, data):
                    if target := route.get("targetFlow"):
                        self.callers[str(target)].add((name, page))

    def write(self, start: str) -> Draft:
        self.start = start
        self.draft.start = self._page(start, "")
        while self.pending:
            self._write_page(*self.pending.pop())
        self.draft.notes = list(dict.fromkeys(self.draft.notes))
        flow = self.agent.flows[start].data
        matches = [each for each in dicts(flow.get("eventHandlers")) if each.get("event") in _NO_MATCH]
        texts = [text for each in matches for text in self._texts(_object(each, "triggerFulfillment"))]
        self.draft.off_topic = tuple(text for text in texts if "{{" not in text)[:20]
        return self.draft

    @staticmethod
    def _key(flow: str, page: str) -> str:
        return f"{flow}/{page}"

    def _data(self, flow: str, page: str) -> Json:
        return self.agent.flows[flow].pages[page] if page else self.agent.flows[flow].data

    def _routes(self, flow: str, data: Json) -> list[Json]:
        """Routes of a page, and those of its groups."""
        routes = dicts(data.get("transitionRoutes"))
        for name in data.get("transitionRouteGroups") or []:
            group = self.agent.flows[flow].groups.get(str(name))
            routes += dicts(group.get("transitionRoutes")) if group else []
        return routes

    def _page(self, flow: str, page: str) -> str:
        """Key of a page's first step; its steps are written later."""
        key = self._key(flow, page)
        if key not in self.draft.steps:
            self.draft.add(Step(key, "pass", page or flow))
            self.pending.append((flow, page))
        return key

    def _write_page(self, flow: str, page: str) -> None:
        key, data = self._key(flow, page), self._data(flow, page)
        wait = self._wait(flow, page)
        routes = self._routes(flow, data)
        intents = [route for route in routes if self._intent(route)]
        form = [each for each in dicts(_object(data, "form").get("parameters")) if each.get("required")]
        after = self._conditions(
            flow, page, [route for route in routes if not route.get("intent")], form=bool(form), asked=bool(intents)
        )
        asides = [self._said(route, flow, page) for route in intents] if form and after != wait else []
        self._write_wait(wait, page or flow, [self._said(route, flow, page) for route in intents])
        for parameter in reversed(form):
            after = self._question(parameter, f"{key}/{parameter.get('displayName')}", after, asides)
        entered = self._spoken(_object(data, "entryFulfillment"), f"{key} entry", page or flow, after)
        self.draft.steps[key].ways = [Way(entered)]

    def _wait(self, flow: str, page: str) -> str:
        return f"{self._key(flow, page)} wait"

    def _write_wait(self, key: str, name: str, ways: list[Way]) -> None:
        """What the customer says on a page; without a route for it the conversation ends there."""
        if ways:
            self.draft.add(Step(key, "user", f"{name} answer", ways=ways))
        else:
            self.draft.add(Step(key, "end", f"{name} end"))

    def _intent(self, route: Json) -> Intent | None:
        return self.agent.intents.get(str(route.get("intent") or ""))

    def _said(self, route: Json, flow: str, page: str) -> Way:
        """A way that the customer takes by an intent."""
        intent = self._intent(route)
        assert intent is not None
        name = str(route["intent"])
        condition = str(route.get("condition") or "true")
        only = "" if condition == "true" else f"; only if {shown_condition(condition)}"
        when = f"The customer means this: {intent.description or name}{only}"
        return Way(self._target(route, flow, page), when, self.parameters.phrases(intent))

    def _conditions(self, flow: str, page: str, routes: list[Json], *, form: bool, asked: bool) -> str:
        """Key of what follows where no intent is asked for: the page's conditions in their order, else waiting."""
        wait = self._wait(flow, page)
        ways = list[Way]()
        for route in routes:
            condition = str(route.get("condition") or "true")
            plain = _FINAL.sub("true", condition) if form else condition
            to = self._target(route, flow, page)
            if plain.strip() == "true":
                ways.append(Way(to, otherwise=True))
                break
            ways.append(self.parameters.decided(plain, to))
        else:
            if not ways:
                return wait
            ways += [Way(wait, otherwise=True)] if asked else []
        if len(ways) == 1:
            return ways[0].to
        ways = self.parameters.leave_rest(ways)
        name = ways[0].fact or f"{page or flow} case"
        return self.draft.add(Step(f"{self._key(flow, page)} case", "choice", name, ways=ways, decided_by="fact")).key

    def _target(self, route: Json, flow: str, page: str) -> str:
        """Key of what a route says and does, and of where it leads."""
        key = f"{self._key(flow, page)} route {route.get('name')}"
        if key in self.draft.steps:
            return key
        self.draft.add(Step(key, "pass", page or flow))
        name = str(route.get("intent") or route.get("targetPage") or route.get("targetFlow") or page or flow)
        after = self._destination(route, flow, page)
        spoken = _object(route, "triggerFulfillment")
        self.draft.steps[key].ways = [Way(self._spoken(spoken, f"{key} says", f"reply {name}", after))]
        return key

    def _destination(self, route: Json, flow: str, page: str) -> str:
        if target := route.get("targetFlow"):
            return self._page(str(target), "") if target in self.agent.flows else self._unknown(f"flow {target}")
        target = str(route.get("targetPage") or "")
        symbol = target.replace(" ", "_").upper()
        if target in self.agent.flows[flow].pages:
            return self._page(flow, target)
        if not target or symbol == "CURRENT_PAGE":
            return self._wait(flow, page)
        if symbol in ("START_PAGE", flow.replace(" ", "_").upper()):
            return self._page(flow, "")
        if symbol.startswith("END_FLOW"):
            return self._return(flow, symbol)
        if symbol == "END_SESSION":
            return self.draft.add(Step("end session", "end", "closing")).key
        if symbol == "PREVIOUS_PAGE":
            self.draft.notes.append(f"{page or flow}: a route to the previous page waits on this page instead")
            return self._wait(flow, page)
        return self._unknown(f"page {target}")

    def _return(self, flow: str, symbol: str) -> str:
        """Where a flow ends: the only page that enters it goes on, else the conversation ends."""
        callers = self.callers[flow] - {(flow, page) for page in ("", *self.agent.flows[flow].pages)}
        if len(callers) == 1 and flow != self.start:
            caller = next(iter(callers))
            self._page(*caller)
            return self._wait(*caller)
        outcome = next((value for word, value in _OUTCOMES.items() if symbol.endswith(word)), "success")
        if len(callers) > 1 and flow != self.start:
            self.draft.notes.append(f"flow {flow!r} is entered from {len(callers)} pages: where it ends the conversation ends")
        return self.draft.add(Step(f"end of {flow} {outcome}", "end", "closing", outcome=outcome)).key

    def _unknown(self, name: str) -> str:
        step = Step(f"missing {name}", "end", name, f"{GAP}what happens at the {name}, which is not in the export")
        return self.draft.add(step).key

    def _question(self, parameter: Json, key: str, after: str, asides: list[Way]) -> str:
        """The question for a parameter of a form, and the answer."""
        name = str(parameter.get("displayName") or "parameter")
        variable = self.parameters.asked(name, str(parameter.get("entityType") or ""))
        spoken = _object(_object(parameter, "fillBehavior"), "initialPromptFulfillment")
        words = name.replace("_", " ").replace("-", " ")
        ways = [Way(after)]
        if asides:
            choice = Step(f"{key} answer?", "choice", f"{name} answer", ways=[Way(after, f"The customer says: {words}"), *asides])
            ways = [Way(self.draft.add(choice).key)]
        said = f"{{{{{variable}}}}}"
        answer = self.draft.add(Step(f"{key} answer", "user", name, f"Answer with {words}: {said}", (said,), ways))
        texts = self._texts(spoken)
        if not texts and (spoken.get("webhook") or spoken.get("conditionalCases")):
            return self._spoken(spoken, key, f"ask {name}", answer.key)
        return self._agent(key, f"ask {name}", texts or (f"Ask for {words}.",), answer.key, said=bool(texts))

    def _agent(self, key: str, name: str, texts: tuple[str, ...], after: str, *, said: bool = True) -> str:
        """A turn of the agent; texts with something that a program or a model computes are a gap."""
        plain = tuple(text for text in texts if not _COMPUTED.search(text))
        prompt = plain[0] if plain else f"{GAP}what replaces the computed parts of: {texts[0]}"
        return self.draft.add(Step(key, "agent", name, prompt, plain if said else (), [Way(after)])).key

    def _spoken(self, fulfillment: Json, key: str, name: str, after: str) -> str:
        """Key of what a fulfillment does: its webhook, then its words, then its conditional words."""
        for index, cases in reversed([*enumerate(dicts(fulfillment.get("conditionalCases")))]):
            after = self._cases(dicts(cases.get("cases")), f"{key} cases {index}", name, after)
        if texts := self._texts(fulfillment):
            after = self._agent(f"{key} words", name, texts, after)
        if webhook := fulfillment.get("webhook"):
            after = self._call(str(webhook), str(fulfillment.get("tag") or ""), key, after)
        return after

    def _cases(self, cases: list[Json], key: str, name: str, after: str) -> str:
        ways = list[Way]()
        for index, case in enumerate(cases):
            condition = str(case.get("condition") or "true")
            contents = [_object(each, "message") for each in dicts(case.get("caseContent"))]
            texts = self._texts({"messages": contents})
            to = after
            if texts:
                to = self._agent(f"{key} {index}", name, texts, after)
            if condition == "true":
                ways.append(Way(to, otherwise=True))
                break
            ways.append(self.parameters.decided(condition, to))
        else:
            ways.append(Way(after, otherwise=True))
        if len(ways) == 1:
            return ways[0].to
        ways = self.parameters.leave_rest(ways)
        return self.draft.add(Step(key, "choice", ways[0].fact or f"{name} case", ways=ways, decided_by="fact")).key

    def _call(self, webhook: str, tag: str, key: str, after: str) -> str:
        """The call of a webhook; one service with several tags is several tools."""
        tool = node_id(tag or webhook, "webhook")
        data = _object(self.agent.webhooks.get(webhook, {}), "genericWebService")
        described = f"{webhook}, tag {tag}" if tag else webhook
        step = self.draft.add(Step(f"{key} call", "tool", tool, tool=tool, ways=[Way(after)]))
        declared = self.draft.tools.setdefault(tool, {"name": tool, "description": described[:1000]})
        if body := str(data.get("requestBody") or ""):
            step.arguments = self.parameters.in_body(body)
            declared["parameters"] = [{"name": name} for name in step.arguments]
        for mapped in dicts(data.get("parameterMapping")):
            self.parameters.returned(str(mapped.get("key") or ""))
        return step.key

    def _texts(self, fulfillment: Json) -> tuple[str, ...]:
        """The ways to say a fulfillment's messages in the agent's language."""
        messages = [self.parameters.spoken(message) for message in dicts(fulfillment.get("messages")) if self._understood(message)]
        messages = [texts for texts in messages if texts]
        most = max((len(texts) for texts in messages), default=0)
        return tuple(" ".join(texts[index % len(texts)] for texts in messages) for index in range(most))

    def _understood(self, message: Json) -> bool:
        return str(message.get("languageCode") or self.agent.language) == self.agent.language


def _object(data: Json, name: str) -> Json:
    found = data.get(name)
    return found if isinstance(found, dict) else {}
