"""The conditions beside the candidate, as real code: what they ask of their model, and where the procedure leads them."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from subterra_api.v1alpha1.compilerun import Provider
from subterra_core.procedure.graph import Graph
from subterra_core.procedure.text import condition
from subterra_jobs.evaluate.scenarios import build
from subterra_jobs.evaluate.scenarios.scenario import Scenario
from subterra_jobs.evaluate.simulate.agents import OPENED, InContext, Served
from subterra_jobs.evaluate.simulate.orchestrator_agent import Orchestrator
from subterra_jobs.evaluate.simulate.vllm_client import Candidate, Reply, UnplayableError
from subterra_jobs.llm.response_cache import AnswerStore
from subterra_jobs.store.artifacts import ArtifactStore
from subterra_testkit.evaluation_runs import MODEL, asked, desk, part_of, provider, run_input
from subterra_testkit.fake_llm_api import MessagesApi, chatter
from subterra_testkit.generation_inputs import example
from subterra_testkit.judgements import system_of


def cast_of(name: str, count: int = 60) -> list[Scenario]:
    spec = example(name)
    return build.build(Graph(spec), run_input(Path("/nowhere"), spec, scenarios=count).evaluation)


class Router:
    """Chooses the way that a scenario's path takes, and counts the turns."""

    def __init__(self, graph: Graph, scenario: Scenario) -> None:
        self.graph, self.path = graph, scenario.path
        self.place = 0

    def __call__(self, body: dict[str, Any]) -> str:
        if part_of(body) == "agent":
            instruction = asked(body).partition("<instruction>\n")[2].partition("\n</instruction>")[0]
            return f"[{instruction}]"
        options = re.findall(r"^(\d+)\. (.*)$", asked(body), re.MULTILINE)
        for place in range(self.place, len(self.path) - 1):
            node, edge = self.graph.nodes[self.path[place]], self.graph.edge(self.path[place], self.path[place + 1])
            assert edge is not None
            for number, option in options:
                if len(node.next) > 1 and option == condition(node, edge):
                    self.place = place + 1
                    return json.dumps({"option": int(number)})
        raise AssertionError(asked(body))


@pytest.mark.parametrize("name", ["travel", "zoom", "insurance"])
async def test_an_orchestrator_that_chooses_right_says_what_the_path_prescribes(name: str, tmp_path: Path) -> None:
    """Without values: it does not know what the customer has not said."""
    graph = Graph(example(name))
    for scenario in cast_of(name, 12):
        with provider(MessagesApi(answer=Router(graph, scenario))):
            desk_ = desk(tmp_path / scenario.id)
            orchestrator = Orchestrator(graph, desk_.caller(MODEL, "evaluation.baselines", "orchestrator"))
            prompts = [graph.nodes[node].prompt for node in scenario.path if graph.nodes[node].role == "agent"]
            said = await _conversation(orchestrator, scenario, graph)
            await desk_.close()
        told = {v.name: scenario.values[v.name] for v in graph.spec.variables if v.visibility == "context"}
        wanted = " ".join(f"[{prompt}]" for prompt in prompts)
        for variable, value in told.items():
            wanted = wanted.replace(f"{{{{{variable}}}}}", value)
        assert " ".join(said).replace("[Say goodbye]", "").strip() == wanted


async def _conversation(orchestrator: Orchestrator, scenario: Scenario, graph: Graph) -> list[str]:
    """As many turns of the customer as the path has, one for each run of the customer's nodes."""
    roles = [graph.nodes[node].role for node in scenario.path]
    runs = [role for place, role in enumerate(roles) if place == 0 or roles[place - 1] != role]
    chat = [{"role": "user", "content": scenario.opener}] if scenario.opener else []
    said: list[str] = []
    for role in runs if runs[-1] == "agent" else runs[:-1]:
        if role == "user":
            chat.append({"role": "user", "content": f"turn {len(chat)}"})
            continue
        reply = await orchestrator.reply(chat, scenario)
        said.append(reply.text)
        chat.append({"role": "assistant", "content": reply.text})
    return said


async def test_hubs_that_a_known_fact_decides_are_asked_of_nobody(tmp_path: Path) -> None:
    """Zoom's plan is a line of the context."""
    spec = example("zoom")
    graph = Graph(spec)
    scenario = next(each for each in cast_of("zoom") if "engineer" in each.path and "problem" in each.path)
    router = Router(graph, scenario)
    with provider(MessagesApi(answer=router)) as api:
        desk_ = desk(tmp_path)
        await _conversation(Orchestrator(graph, desk_.caller(MODEL, "b", "o")), scenario, graph)
        await desk_.close()
    options = [asked(body) for body in api.bodies if part_of(body) == "router"]
    assert options
    assert not any("plan is" in each for each in options)


async def test_a_router_must_answer_with_one_of_the_numbers(tmp_path: Path) -> None:
    graph = Graph(example("travel"))
    scenario = cast_of("travel")[0]
    with provider(MessagesApi(answer=lambda body: "Hello." if part_of(body) == "agent" else "the first")) as api:
        desk_ = desk(tmp_path)
        orchestrator = Orchestrator(graph, desk_.caller(MODEL, "b", "o"))
        await orchestrator.reply([], scenario)
        chat = [{"role": "assistant", "content": "Hello."}, {"role": "user", "content": "Rome"}]
        with pytest.raises(UnplayableError, match="did not choose a way on from trip"):
            await orchestrator.reply(chat, scenario)
        await desk_.close()
    schema = next(body for body in api.bodies if part_of(body) == "router")["output_config"]["format"]["schema"]
    ways = len(graph.nodes["trip"].next)
    assert schema["properties"]["option"]["enum"] == list(range(1, ways + 1))


async def test_a_turn_of_the_orchestrator_counts_all_of_its_calls(tmp_path: Path) -> None:
    graph, scenario = Graph(example("travel")), cast_of("travel")[0]
    with provider(MessagesApi(answer=Router(graph, scenario), input_tokens=100, output_tokens=10)):
        desk_ = desk(tmp_path)
        orchestrator = Orchestrator(graph, desk_.caller(MODEL, "b", "o"))
        first = await orchestrator.reply([], scenario)
        chat = [{"role": "assistant", "content": first.text}, {"role": "user", "content": "Rome"}]
        second = await orchestrator.reply(chat, scenario)
        await desk_.close()
    assert (first.calls, first.prompt_tokens, first.completion_tokens) == (2, 200, 20)
    assert second.calls >= 2
    assert float(first.usd or 0) == pytest.approx(2 * (100 * 3 + 10 * 15) / 1e6)
    assert first.seconds > 0


@pytest.mark.parametrize("name", ["anthropic", "openai"])
async def test_in_context_the_whole_flowchart_is_in_the_system_prompt_and_the_chat_is_a_chat(name: str, tmp_path: Path) -> None:
    spec, scenario = example("zoom"), cast_of("zoom")[0]
    with provider(MessagesApi(answer=lambda body: f"Yes, {chatter(asked(body))}.")) as api, pytest.MonkeyPatch.context() as patch:
        patch.setenv("OPENAI_BASE_URL", f"{api.url}/v1")
        desk_ = desk(tmp_path)
        model = Provider.model_validate({"name": name, "model": "claude-sonnet-4-6" if name == "anthropic" else "gpt-4.1"})
        speaker = InContext(spec, desk_.caller(model, "b", "i"))
        first = await speaker.reply([], scenario)
        chat = [{"role": "assistant", "content": first.text}, {"role": "user", "content": "No sound"}]
        await speaker.reply(chat, scenario)
        await desk_.close()
    for node in spec.nodes:
        assert node.prompt in system_of(api.bodies[0])
        assert all(edge.when in system_of(api.bodies[0]) for edge in node.next if edge.when)
    assert system_of(api.bodies[0]) == system_of(api.bodies[1])
    talk = [message for message in api.bodies[1]["messages"] if message["role"] != "system"]
    assert [message["role"] for message in talk] == ["user", "assistant", "user"]
    assert OPENED in talk[0]["content"]
    assert scenario.context in talk[0]["content"]
    assert not any(value in system_of(api.bodies[0]) for value in scenario.values.values() if len(value) > 12)
    assert first.usd is not None
    assert float(first.usd) > 0


async def test_words_that_are_none_end_the_conversation_and_not_the_stage(tmp_path: Path) -> None:
    with provider(MessagesApi(answer=lambda _: " ")):
        desk_ = desk(tmp_path)
        with pytest.raises(UnplayableError, match="said nothing"):
            await InContext(example("zoom"), desk_.caller(MODEL, "b", "i")).reply([], cast_of("zoom")[0])
        await desk_.close()


async def test_what_a_served_model_said_is_said_again_after_a_kill(tmp_path: Path) -> None:
    class Moody(Candidate):
        count = 0

        async def reply(self, chat: Any, context: str = "") -> Reply:
            Moody.count += 1
            return Reply(f"reply {Moody.count}", 0.5, 7, 3, "length")

    scenario, store = cast_of("travel")[0], ArtifactStore(tmp_path.as_uri())
    model = Moody(None, "m", 8)  # type: ignore[arg-type]
    first = await Served(model, "fingerprint", AnswerStore(store, "a")).reply([], scenario)
    again = await Served(model, "fingerprint", AnswerStore(store, "a")).reply([], scenario)
    other = await Served(model, "another", AnswerStore(store, "a")).reply([], scenario)
    assert first == again
    assert other.text == "reply 2"
