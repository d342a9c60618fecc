"""Cost estimate of an evaluation by models: every request is built for a dummy of every conversation. Pure.

A dummy conversation takes the scenario's path in the procedure's own words, padded to the assumed length of a model's turn.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import partial

from subterra_api.job_contract.messages import Evaluation
from subterra_api.v1alpha1.compilerun import Baseline
from subterra_core.pricing import TokenPrice
from subterra_core.procedure.graph import Graph
from subterra_jobs.dialogue import scripted
from subterra_jobs.dialogue.dummy import dummy_utterances, padded
from subterra_jobs.dialogue.scripted import CHAT_ROLE
from subterra_jobs.evaluate.judge import llm_judge
from subterra_jobs.evaluate.judge.free_words import llm_labeller
from subterra_jobs.evaluate.judge.llm_judge import REPEAT_SHARE
from subterra_jobs.evaluate.judge.rubric import PARTS
from subterra_jobs.evaluate.scenarios.scenario import Scenario
from subterra_jobs.evaluate.simulate import orchestrator_agent, user_simulator
from subterra_jobs.evaluate.simulate.agents import in_context_prompt, provider_messages
from subterra_jobs.llm.behavior.thinking import batch_factor_of
from subterra_jobs.llm.client import Request
from subterra_jobs.llm.cost_estimate import (
    CHOICE_TOKENS,
    CostEstimate,
    CostItem,
    OutputAssumptions,
    PlannedCall,
    PricedModel,
    cost_item,
    priced_model,
    text_tokens,
)

DummyChat = list[dict[str, str]]
AssumedCalls = Callable[[OutputAssumptions], Iterable[PlannedCall]]
JUDGES = ("judge", "second judge")
LABELLER = "labeller"
READERS = (*JUDGES, LABELLER)
"""Items of the roles that read conversations."""


def estimate_cost(
    graph: Graph,
    settings: Evaluation,
    prices: Mapping[str, TokenPrice],
    scenarios: Sequence[Scenario],
    unfinished: Sequence[Sequence[Scenario]],
    checked: int = llm_labeller.GOLD_SAMPLE,
    more: int = 0,
    *,
    batched: bool = False,
) -> CostEstimate:
    """Cost of every paid role; `unfinished` has the scenarios still to simulate of each arm, served models first.

    The labeller also reads `checked` conversations of the dataset; `more` conversations are judged in addition to those of all
    arms; `batched` if judges and labeller are asked in batches. Raises UnknownModelError.
    """
    items = _CostItems(graph, settings, prices, batched)
    baselines = unfinished[len(unfinished) - len(settings.baselines) :]
    readers = items.readers(scenarios, len(scenarios) * len(unfinished) + more, checked)
    return CostEstimate((*items.customers(unfinished), *items.baselines(baselines), *readers))


@dataclass(frozen=True)
class _CostItems:
    """Cost items of the forecast, by paid role."""

    graph: Graph
    settings: Evaluation
    prices: Mapping[str, TokenPrice]
    batched: bool

    def customers(self, unfinished: Sequence[Sequence[Scenario]]) -> Iterator[CostItem]:
        played = [scenario for scenarios in unfinished for scenario in scenarios]

        def calls(assumed: OutputAssumptions) -> Iterator[PlannedCall]:
            for scenario in played:
                yield from customer_calls(self.graph, scenario, dummy_conversation(self.graph, scenario, assumed))

        if self.settings.simulator.name != "scripted":
            yield cost_item("customers", priced_model(self.settings.simulator, "evaluation.simulator", self.prices), calls)

    def baselines(self, unfinished: Sequence[Sequence[Scenario]]) -> Iterator[CostItem]:
        for index, (baseline, played) in enumerate(zip(self.settings.baselines, unfinished, strict=True)):
            model = priced_model(baseline.provider, f"evaluation.baselines[{index}].provider", self.prices)
            yield cost_item(f"baseline {baseline.kind}", model, partial(self._agent, baseline, played))

    def _agent(self, baseline: Baseline, played: Sequence[Scenario], assumed: OutputAssumptions) -> Iterator[PlannedCall]:
        system = in_context_prompt(self.graph.spec)
        for scenario in played:
            if baseline.kind == "Orchestrator":
                yield from orchestrator_calls(self.graph, scenario, assumed)
            else:
                yield from in_context_calls(system, scenario, dummy_conversation(self.graph, scenario, assumed))

    def readers(self, scenarios: Sequence[Scenario], played: int, checked: int) -> Iterator[CostItem]:
        """Judges and labeller, for `played` conversations; judges repeat a few, the labeller reads `checked` more."""
        settings, each = self.settings, Decimal(1) / len(scenarios)
        if settings.judge.name == "scripted":
            return
        judged, labelled = partial(_judge_calls, self.graph, scenarios), partial(_labeller_calls, self.graph, scenarios)
        for name, field, provider in zip(JUDGES, ("judge", "secondJudge"), (settings.judge, settings.second_judge), strict=True):
            if provider is not None:
                model = priced_model(provider, f"evaluation.{field}", self.prices)
                yield self._read(name, model, judged, (played + round(REPEAT_SHARE * played)) * each)
        model = priced_model(settings.judge, "evaluation.judge", self.prices)
        yield self._read(LABELLER, model, labelled, (played + checked) * each)

    def _read(self, name: str, model: PricedModel, calls: AssumedCalls, factor: Decimal) -> CostItem:
        """The item of a role that reads conversations, which batches may answer."""
        item = cost_item(name, model, calls, factor)
        return item.in_batches(batch_factor_of(model.provider)) if self.batched else item


def dummy_conversation(graph: Graph, scenario: Scenario, assumed: OutputAssumptions) -> DummyChat:
    """A dummy of the conversation with this customer. It ends with the agent."""
    chat = scripted.chat_messages(
        "", scenario.opener, dummy_utterances(graph, scenario.path, scenario.values, assumed.turn_length)
    )[1:]
    more = [{"role": role, "content": padded("", assumed.turn_length)} for role in ("user", "assistant")]
    return chat + (more[1:] if chat[-1]["role"] == "user" else []) + more * assumed.extra_exchanges


def customer_calls(graph: Graph, scenario: Scenario, chat: DummyChat) -> Iterator[PlannedCall]:
    """One call per customer turn, except a given opener, and one that ends the conversation."""
    for index, turn in enumerate(chat):
        if turn["role"] == "user" and (index or scenario.opener is None):
            yield user_simulator.customer_request(graph.spec, scenario, chat[:index]), text_tokens(turn["content"])
    yield user_simulator.customer_request(graph.spec, scenario, chat), CHOICE_TOKENS


def in_context_calls(system: str, scenario: Scenario, chat: DummyChat) -> Iterator[PlannedCall]:
    """One call per turn of an agent that has the flowchart in its prompt."""
    for index, turn in enumerate(chat):
        if turn["role"] == "assistant":
            yield Request(system, provider_messages(chat[:index], scenario.context)), text_tokens(turn["content"])


def orchestrator_calls(graph: Graph, scenario: Scenario, assumed: OutputAssumptions) -> Iterator[PlannedCall]:
    """Calls of an orchestrator: one per agent node, and one per hub that its context values leave open."""
    known = {each.name: scenario.values[each.name] for each in graph.spec.variables if each.visibility == "context"}
    step = graph.begin({name: known[name] for name in graph.facts if name in known})
    system, more = orchestrator_agent.orchestrator_system_prompt(graph.spec), padded("", assumed.turn_length)
    said: DummyChat = [] if scenario.opener is None else [{"role": "user", "content": scenario.opener}]
    for turn in dummy_utterances(graph, scenario.path, scenario.values, assumed.turn_length):
        node = graph.nodes[turn.node]
        if node.role == "agent":
            yield orchestrator_agent.utterance_request(system, node, known, said), text_tokens(turn.text)
        said.append({"role": CHAT_ROLE[turn.role], "content": turn.text})
        if (edge := graph.edge(node.id, turn.taken)) is not None:
            if len(edges := orchestrator_agent.possible_edges(graph, step)) > 1:
                yield orchestrator_agent.routing_request(node, edges, known, said), CHOICE_TOKENS
            step = graph.take(step, edge)
    for _ in range(assumed.extra_exchanges + (node.role == "user")):
        yield orchestrator_agent.utterance_request(system, node, known, said), text_tokens(more)
        said += [{"role": "user", "content": more}, {"role": "assistant", "content": more}]


def _judge_calls(graph: Graph, scenarios: Sequence[Scenario], assumed: OutputAssumptions) -> Iterator[PlannedCall]:
    systems = [(each, llm_judge.judge_system_prompt(each, graph.spec)) for each in PARTS]
    for scenario in scenarios:
        chat = dummy_conversation(graph, scenario, assumed)
        for each, system in systems:
            yield llm_judge.judgement_request(each, system, scenario, chat), assumed.score_tokens * len(each.criteria)


def _labeller_calls(graph: Graph, scenarios: Sequence[Scenario], assumed: OutputAssumptions) -> Iterator[PlannedCall]:
    system = llm_labeller.labeller_system_prompt(graph.spec)
    for scenario in scenarios:
        chat = dummy_conversation(graph, scenario, assumed)
        yield llm_labeller.labelling_request(system, chat), assumed.label_tokens * len(chat)
