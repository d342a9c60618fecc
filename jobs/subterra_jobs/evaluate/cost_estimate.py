"""What an evaluation by models will cost, before it begins: every request is built for a stand-in of every conversation. Pure.

A stand-in takes the scenario's path in the procedure's own words, stretched to the length that a model's turn is assumed to have.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import partial

from subterra_api.job_contract.messages import Evaluation
from subterra_api.v1alpha1.compilerun import Baseline
from subterra_core.pricing import TokenPrice
from subterra_core.procedure.graph import Graph
from subterra_jobs.dialogue import scripted
from subterra_jobs.dialogue.scripted import CHAT_ROLE
from subterra_jobs.dialogue.stand_in import stand_in, words
from subterra_jobs.evaluate.judge import llm_judge, llm_labeller
from subterra_jobs.evaluate.judge.llm_judge import TWICE
from subterra_jobs.evaluate.judge.rubric import PARTS
from subterra_jobs.evaluate.scenarios.scenario import Scenario
from subterra_jobs.evaluate.simulate import orchestrator_agent, user_simulator
from subterra_jobs.evaluate.simulate.agents import in_context, messages
from subterra_jobs.llm.client import Request
from subterra_jobs.llm.cost_estimate import NUMBER, Asked, Assumed, Forecast, Part, length, model_of, part

Chat = list[dict[str, str]]
JUDGES = ("judge", "second judge")
LABELLER = "labeller"


def forecast(
    graph: Graph, asked: Evaluation, prices: Mapping[str, TokenPrice], listed: Sequence[Scenario],
    to_play: Sequence[Sequence[Scenario]], checked: int = llm_labeller.CHECKED,
) -> Forecast:  # fmt: skip
    """Everybody who is paid. ``to_play`` has, for each condition, the models that are served first, the scenarios that it has not
    played yet; ``checked`` conversations of the dataset are labelled too. Raises UnknownModelError.
    """
    paid = _Paid(graph, asked, prices)
    baselines = to_play[len(to_play) - len(asked.baselines) :]
    readers = paid.readers(listed, len(listed) * len(to_play), checked)
    return Forecast((*paid.customers(to_play), *paid.baselines(baselines), *readers))


@dataclass(frozen=True)
class _Paid:
    """Parts of a forecast by who is paid."""

    graph: Graph
    asked: Evaluation
    prices: Mapping[str, TokenPrice]

    def customers(self, to_play: Sequence[Sequence[Scenario]]) -> Iterator[Part]:
        played = [scenario for each in to_play for scenario in each]

        def calls(assumed: Assumed) -> Iterator[Asked]:
            for scenario in played:
                yield from customer(self.graph, scenario, talk(self.graph, scenario, assumed))

        if self.asked.simulator.name != "scripted":
            yield part("customers", model_of(self.asked.simulator, "evaluation.simulator", self.prices), calls)

    def baselines(self, to_play: Sequence[Sequence[Scenario]]) -> Iterator[Part]:
        for place, (baseline, played) in enumerate(zip(self.asked.baselines, to_play, strict=True)):
            model = model_of(baseline.provider, f"evaluation.baselines[{place}].provider", self.prices)
            yield part(f"baseline {baseline.kind}", model, partial(self._agent, baseline, played))

    def _agent(self, baseline: Baseline, played: Sequence[Scenario], assumed: Assumed) -> Iterator[Asked]:
        system = in_context(self.graph.spec)
        for scenario in played:
            if baseline.kind == "Orchestrator":
                yield from orchestrated(self.graph, scenario, assumed)
            else:
                yield from informed(system, scenario, talk(self.graph, scenario, assumed))

    def readers(self, listed: Sequence[Scenario], played: int, checked: int) -> Iterator[Part]:
        """Judges and labeller: they read ``played`` conversations, judges a few of them twice, the labeller some of the dataset."""
        asked, each = self.asked, Decimal(1) / len(listed)
        if asked.judge.name == "scripted":
            return
        judged, labelled = partial(_judged, self.graph, listed), partial(_labelled, self.graph, listed)
        for name, field, provider in zip(JUDGES, ("judge", "secondJudge"), (asked.judge, asked.second_judge), strict=True):
            if provider is not None:
                model = model_of(provider, f"evaluation.{field}", self.prices)
                yield part(name, model, judged, (played + round(TWICE * played)) * each)
        yield part(LABELLER, model_of(asked.judge, "evaluation.judge", self.prices), labelled, (played + checked) * each)


def talk(graph: Graph, scenario: Scenario, assumed: Assumed) -> Chat:
    """A stand-in for the conversation with this customer. The agent has the last word."""
    chat = scripted.messages("", scenario.opener, stand_in(graph, scenario.path, scenario.values, assumed.turn_length))[1:]
    more = [{"role": role, "content": words("", assumed.turn_length)} for role in ("user", "assistant")]
    return chat + (more[1:] if chat[-1]["role"] == "user" else []) + more * assumed.exchanges


def customer(graph: Graph, scenario: Scenario, chat: Chat) -> Iterator[Asked]:
    """A call for each turn but an opener, which is given, and one more that ends the conversation."""
    for place, turn in enumerate(chat):
        if turn["role"] == "user" and (place or scenario.opener is None):
            yield user_simulator.ask(graph.spec, scenario, chat[:place]), length(turn["content"])
    yield user_simulator.ask(graph.spec, scenario, chat), NUMBER


def informed(system: str, scenario: Scenario, chat: Chat) -> Iterator[Asked]:
    """A call for each turn of an agent that has the flowchart in its prompt."""
    for place, turn in enumerate(chat):
        if turn["role"] == "assistant":
            yield Request(system, messages(chat[:place], scenario.context)), length(turn["content"])


def orchestrated(graph: Graph, scenario: Scenario, assumed: Assumed) -> Iterator[Asked]:
    """The calls of an orchestrator: one for each node of the agent, and one for each choice that what it knows leaves open."""
    known = {each.name: scenario.values[each.name] for each in graph.spec.variables if each.visibility == "context"}
    step = graph.begin({name: known[name] for name in graph.facts if name in known})
    system, more = orchestrator_agent.system_of(graph.spec), words("", assumed.turn_length)
    said: Chat = [] if scenario.opener is None else [{"role": "user", "content": scenario.opener}]
    for turn in stand_in(graph, scenario.path, scenario.values, assumed.turn_length):
        node = graph.nodes[turn.node]
        if node.role == "agent":
            yield orchestrator_agent.saying(system, node, known, said), length(turn.text)
        said.append({"role": CHAT_ROLE[turn.role], "content": turn.text})
        if (edge := graph.edge(node.id, turn.taken)) is not None:
            if len(ways := graph.open_edges(step)) > 1:
                yield orchestrator_agent.choosing(node, ways, known, said), NUMBER
            step = graph.take(step, edge)
    for _ in range(assumed.exchanges + (node.role == "user")):
        yield orchestrator_agent.saying(system, node, known, said), length(more)
        said += [{"role": "user", "content": more}, {"role": "assistant", "content": more}]


def _judged(graph: Graph, listed: Sequence[Scenario], assumed: Assumed) -> Iterator[Asked]:
    systems = [(each, llm_judge.system_of(each, graph.spec)) for each in PARTS]
    for scenario in listed:
        chat = talk(graph, scenario, assumed)
        for each, system in systems:
            yield llm_judge.judging(each, system, scenario, chat), assumed.score * len(each.criteria)


def _labelled(graph: Graph, listed: Sequence[Scenario], assumed: Assumed) -> Iterator[Asked]:
    system = llm_labeller.system_of(graph.spec)
    for scenario in listed:
        chat = talk(graph, scenario, assumed)
        yield llm_labeller.labelling(system, chat), assumed.step * len(chat)
