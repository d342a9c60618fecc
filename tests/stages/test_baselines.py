"""The conditions beside the candidate, as real code: what they ask of their model, and where the procedure leads them."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from subterra_api.v1alpha1.compilerun import Provider
from subterra_core.procedure.graph import Graph
from subterra_core.procedure.text import edge_condition
from subterra_jobs.evaluate.scenarios.build import build_scenarios
from subterra_jobs.evaluate.scenarios.scenario import Scenario
from subterra_jobs.evaluate.simulate.agents import AWAITING_GREETING, InContextAgent, ServedAgent
from subterra_jobs.evaluate.simulate.orchestrator_agent import OrchestratorAgent
from subterra_jobs.evaluate.simulate.vllm_client import Reply, UnplayableError, VLLMClient
from subterra_jobs.llm.response_cache import ResponseCache
from subterra_jobs.store.artifact_store import ArtifactStore
from subterra_testkit.runs.evaluation_runs import MODEL, client_pool, fake_provider, last_message, role_of, run_input
from subterra_testkit.runs.generation_inputs import example
from subterra_testkit.runs.judgements import system_of
from subterra_testkit.servers.fake_llm_api import FakeLLMApi, chatter


def cast_of(name: str, count: int = 60) -> list[Scenario]:
    spec = example(name)
    return build_scenarios(Graph(spec), run_input(Path("/nowhere"), spec, scenarios=count).evaluation)


class Router:
    """Chooses the way that a scenario's path takes, and counts the turns."""

    def __init__(self, graph: Graph, scenario: Scenario) -> None:
        self.graph, self.path = graph, scenario.path
        self.place = 0

    def __call__(self, body: dict[str, Any]) -> str:
        if role_of(body) == "agent":
            instruction = last_message(body).partition("<instruction>\n")[2].partition("\n</instruction>")[0]
            return f"[{instruction}]"
        options = re.findall(r"^(\d+)\. (.*)$", last_message(body), re.MULTILINE)
        for place in range(self.place, len(self.path) - 1):
            node, edge = self.graph.nodes[self.path[place]], self.graph.edge(self.path[place], self.path[place + 1])
            assert edge is not None
            for number, option in options:
                if len(node.next) > 1 and option == edge_condition(node, edge):
                    self.place = place + 1
                    return json.dumps({"option": int(number)})
        raise AssertionError(last_message(body))


@pytest.mark.parametrize("name", ["travel", "zoom", "insurance"])
async def test_an_orchestrator_that_chooses_right_says_what_the_path_prescribes(name: str, tmp_path: Path) -> None:
    """Without values: it does not know what the customer has not said."""
    graph = Graph(example(name))
    for scenario in cast_of(name, 12):
        with fake_provider(FakeLLMApi(answer=Router(graph, scenario))):
            desk_ = client_pool(tmp_path / scenario.id)
            orchestrator = OrchestratorAgent(graph, desk_.client(MODEL, "evaluation.baselines", "orchestrator"))
            prompts = [graph.nodes[node].prompt for node in scenario.path if graph.nodes[node].role == "agent"]
            said = await _conversation(orchestrator, scenario, graph)
            await desk_.close()
        told = {v.name: scenario.values[v.name] for v in graph.spec.variables if v.visibility == "context"}
        wanted = " ".join(f"[{prompt}]" for prompt in prompts)
        for variable, value in told.items():
            wanted = wanted.replace(f"{{{{{variable}}}}}", value)
        assert " ".join(said).replace("[Say goodbye]", "").strip() == wanted


async def _conversation(orchestrator: OrchestratorAgent, scenario: Scenario, graph: Graph) -> list[str]:
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
    with fake_provider(FakeLLMApi(answer=router)) as api:
        desk_ = client_pool(tmp_path)
        await _conversation(OrchestratorAgent(graph, desk_.client(MODEL, "b", "o")), scenario, graph)
        await desk_.close()
    options = [last_message(body) for body in api.bodies if role_of(body) == "router"]
    assert options
    assert not any("plan is" in each for each in options)


async def test_a_router_must_answer_with_one_of_the_numbers(tmp_path: Path) -> None:
    graph = Graph(example("travel"))
    scenario = cast_of("travel")[0]
    with fake_provider(FakeLLMApi(answer=lambda body: "Hello." if role_of(body) == "agent" else "the first")) as api:
        desk_ = client_pool(tmp_path)
        orchestrator = OrchestratorAgent(graph, desk_.client(MODEL, "b", "o"))
        await orchestrator.reply([], scenario)
        chat = [{"role": "assistant", "content": "Hello."}, {"role": "user", "content": "Rome"}]
        with pytest.raises(UnplayableError, match="chose no edge at node trip"):
            await orchestrator.reply(chat, scenario)
        await desk_.close()
    schema = next(body for body in api.bodies if role_of(body) == "router")["output_config"]["format"]["schema"]
    ways = len(graph.nodes["trip"].next)
    assert schema["properties"]["option"]["enum"] == list(range(1, ways + 1))


async def test_a_turn_of_the_orchestrator_counts_all_of_its_calls(tmp_path: Path) -> None:
    graph, scenario = Graph(example("travel")), cast_of("travel")[0]
    with fake_provider(FakeLLMApi(answer=Router(graph, scenario), input_tokens=100, output_tokens=10)):
        desk_ = client_pool(tmp_path)
        orchestrator = OrchestratorAgent(graph, desk_.client(MODEL, "b", "o"))
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
    with (
        fake_provider(FakeLLMApi(answer=lambda body: f"Yes, {chatter(last_message(body))}.")) as api,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("OPENAI_BASE_URL", f"{api.url}/v1")
        desk_ = client_pool(tmp_path)
        model = Provider.model_validate({"name": name, "model": "claude-sonnet-4-6" if name == "anthropic" else "gpt-4.1"})
        speaker = InContextAgent(spec, desk_.client(model, "b", "i"))
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
    assert AWAITING_GREETING in talk[0]["content"]
    assert scenario.context in talk[0]["content"]
    assert not any(value in system_of(api.bodies[0]) for value in scenario.values.values() if len(value) > 12)
    assert first.usd is not None
    assert float(first.usd) > 0


async def test_words_that_are_none_end_the_conversation_and_not_the_stage(tmp_path: Path) -> None:
    with fake_provider(FakeLLMApi(answer=lambda _: " ")):
        desk_ = client_pool(tmp_path)
        with pytest.raises(UnplayableError, match="the response has no text"):
            await InContextAgent(example("zoom"), desk_.client(MODEL, "b", "i")).reply([], cast_of("zoom")[0])
        await desk_.close()


async def test_what_a_served_model_said_is_said_again_after_a_kill(tmp_path: Path) -> None:
    class Moody(VLLMClient):
        count = 0

        async def reply(self, chat: Any, context: str = "") -> Reply:
            Moody.count += 1
            return Reply(f"reply {Moody.count}", 0.5, 7, 3, "length")

    scenario, store = cast_of("travel")[0], ArtifactStore(tmp_path.as_uri())
    model = Moody(None, "m", 8)  # type: ignore[arg-type]
    first = await ServedAgent(model, "fingerprint", ResponseCache(store, "a")).reply([], scenario)
    again = await ServedAgent(model, "fingerprint", ResponseCache(store, "a")).reply([], scenario)
    other = await ServedAgent(model, "another", ResponseCache(store, "a")).reply([], scenario)
    assert first == again
    assert other.text == "reply 2"
