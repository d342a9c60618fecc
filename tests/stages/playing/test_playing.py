"""Playing: one mixed batch, faults flagged, nothing played or paid twice, and an end in good order."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from subterra_core.procedure.graph import Graph
from subterra_jobs.errors import InfrastructureError, ProviderBlockedError
from subterra_jobs.evaluate.scenarios.build import build_scenarios
from subterra_jobs.evaluate.scenarios.scenario import Scenario
from subterra_jobs.evaluate.scheduling import Schedule
from subterra_jobs.evaluate.simulate.agents import Arm
from subterra_jobs.evaluate.simulate.conversation import Conversation
from subterra_jobs.evaluate.simulate.conversation_cache import ConversationCache
from subterra_jobs.evaluate.simulate.simulation import (
    CAP_FAULT,
    UserFactory,
    agent_turn_limit,
    simulate,
    simulate_all,
)
from subterra_jobs.evaluate.simulate.user_simulator import LLMUserFactory, ScriptedUser, User
from subterra_jobs.evaluate.simulate.vllm_client import ChatMessages, Reply, UnplayableError
from subterra_jobs.stage.cancellation import Cancellation, StoppedError
from subterra_jobs.store.artifact_store import ArtifactStore
from subterra_testkit.runs.evaluation_runs import MODEL, client_pool, fake_provider, in_character, last_message, role_of, run_input
from subterra_testkit.runs.generation_inputs import travel
from subterra_testkit.servers.fake_chat_server import fake_chat_server
from subterra_testkit.servers.fake_llm_api import FILTERED, NO_CREDIT, FakeLLMApi

CAST = build_scenarios(Graph(travel()), run_input(Path("/nowhere")).evaluation)


class Parrot:
    """An agent whose every turn is the same; tells what it was asked."""

    def __init__(self, text: str = "I see.") -> None:
        self.text = text
        self.asked: list[tuple[str, int]] = []

    async def reply(self, chat: ChatMessages, scenario: Scenario) -> Reply:
        self.asked.append((scenario.id, len(chat)))
        await asyncio.sleep(0)
        return Reply(self.text, 0.1, 10, 5, "stop")


class Modelled(LLMUserFactory):
    """Customers of a caller of their own."""

    def __init__(self, folder: Path) -> None:
        self.pool = client_pool(folder)
        super().__init__(self.pool.client(MODEL, "evaluation.simulator", "simulator"), travel())


class Listed:
    """Customers with these lines each."""

    def __init__(self, lines: Sequence[str]) -> None:
        self.lines = lines

    def user(self, scenario: Scenario, other_party: str) -> User:
        return ScriptedUser(self.lines)


async def play_out(
    conditions: Sequence[Arm], cast: UserFactory, *, at_once: int = 16, cancellation: Cancellation | None = None, **more: Any
) -> dict[str, tuple[Conversation, ...]]:
    """Every customer with every condition."""
    schedule = Schedule(7, asyncio.Semaphore(at_once), cancellation or Cancellation())
    return await simulate_all(conditions, CAST, cast, schedule, max_agent_turns=agent_turn_limit(CAST), **more)


async def test_all_conditions_are_played_in_one_mixed_batch_with_the_same_customers() -> None:
    order: list[str] = []

    class Noted(Parrot):
        async def reply(self, chat: ChatMessages, scenario: Scenario) -> Reply:
            order.append(self.text)
            return await super().reply(chat, scenario)

    speakers = {name: Noted(name) for name in ("candidate", "serving")}
    conditions = [Arm(name, speaker, name) for name, speaker in speakers.items()]
    played = await play_out(conditions, Listed(["Hello"]), at_once=1)
    assert {name: len(dialogues) for name, dialogues in played.items()} == {"candidate": 20, "serving": 20}
    assert sorted(speakers["candidate"].asked) == sorted(speakers["serving"].asked)
    changes = sum(one != other for one, other in pairwise(order))
    assert changes > 10
    for name, dialogues in played.items():
        assert all(dialogue.replies[0].text == name for dialogue in dialogues)


async def test_a_conversation_without_end_is_cut_at_twice_the_longest_path_and_flagged() -> None:
    cap = agent_turn_limit(CAST)
    assert 2 * cap >= 2 * max(len(scenario.path) for scenario in CAST)
    dialogue = await simulate(Parrot(), ScriptedUser(["More."] * 100), replace(CAST[0], agent_first=False), cap, Cancellation())
    assert len(dialogue.replies) == cap
    assert dialogue.fault == CAP_FAULT
    assert dialogue.error is None


async def test_a_simulators_fault_is_flagged_in_every_condition_and_the_conversation_stays(tmp_path: Path) -> None:
    with fake_provider(FakeLLMApi(answer=lambda _: "Agent: hello")):
        cast = Modelled(tmp_path)
        conditions = [Arm(name, Parrot(), name) for name in ("candidate", "serving")]
        played = await play_out(conditions, cast)
        await cast.pool.close()
    for dialogues in played.values():
        assert [dialogue.fault for dialogue in dialogues] == ["spoke for the agent"] * len(CAST)


async def test_a_customer_whose_calls_a_filter_refuses_is_flagged_and_the_others_play_on(tmp_path: Path) -> None:
    place = CAST[0].values["destination"]
    script = lambda api: FILTERED if place in last_message(api.bodies[-1]) else None  # noqa: E731
    with fake_provider(FakeLLMApi(answer=in_character, script=script)) as api:
        cast = Modelled(tmp_path)
        played = (await play_out([Arm("candidate", Parrot(), "model")], cast))["candidate"]
        await cast.pool.close()
    faults = [dialogue.fault for dialogue in played]
    assert faults[0] == "ended with content_filter"
    assert 0 < faults.count("ended with content_filter") < len(CAST) / 2
    assert api.paid > len(CAST)


async def test_what_one_side_hears_depends_on_nothing_but_what_was_said(tmp_path: Path) -> None:
    with fake_provider() as api:
        cast = Modelled(tmp_path)
        names = ["candidate", "serving", "in context"]
        conditions = [Arm(name, Parrot(), f"fingerprint of {name}") for name in names]
        await play_out(conditions, cast)
        await cast.pool.close()
    words = [last_message(body) for body in api.bodies]
    assert not [name for name in [*names, "fingerprint"] if any(name in each for each in words)]
    assert sorted(words) == sorted([each for each in set(words) for _ in names])


async def test_finished_conversations_are_not_played_again(tmp_path: Path) -> None:
    store, seen = ArtifactStore(tmp_path.as_uri()), Parrot()
    arm = Arm("candidate", seen, "model")

    async def play(simulator: str) -> dict[str, tuple[Conversation, ...]]:
        caches = {"candidate": ConversationCache(store, "model", simulator)}
        return await play_out([arm], Listed(["Hello"]), caches=caches)

    first = await play("one")
    count = len(seen.asked)
    assert await play("one") == first
    assert len(seen.asked) == count
    await play("another")
    assert len(seen.asked) == 2 * count


async def test_a_conversation_that_broke_off_is_played_again_and_a_damaged_record_too(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path.as_uri())
    library = ConversationCache(store, "model", "s")
    whole = Conversation(({"role": "assistant", "content": "Hi"},), (Reply("Hi", 0.1, 1, 1, "stop", "0.1", 2),), fault="spoke")
    await library.add("broken", Conversation((), (), "lost", True))
    await library.add("one", whole)
    await library.add("two", whole)
    [path] = store.sizes("dialogues")
    store.put(path, (store.read(path) or b"").replace(b'"Hi"', b'"Ho"', 1))
    again = ConversationCache(store, "model", "s")
    assert (again.get("broken"), again.get("one"), again.get("two")) == (None, None, whole)


async def test_after_a_blocked_call_nobody_begins_another_turn_and_what_is_paid_is_kept(tmp_path: Path) -> None:
    with fake_provider(FakeLLMApi(answer=in_character, after=(30, NO_CREDIT))) as api:
        cast = Modelled(tmp_path)
        with pytest.raises(ProviderBlockedError):
            await play_out([Arm("candidate", Parrot(), "c")], cast, at_once=4)
        await cast.pool.close()
        refused = api.calls - api.paid
        assert refused <= 4
        api.after = None
        cast = Modelled(tmp_path)
        await play_out([Arm("candidate", Parrot(), "c")], cast, at_once=4)
        await cast.pool.close()
    words = [last_message(body) for body in api.bodies]
    assert len(words) - len(set(words)) == refused
    assert {role_of(body) for body in api.bodies} == {"customer"}


async def test_told_to_stop_nobody_begins_another_turn() -> None:
    cancellation, speaker = Cancellation(), Parrot()

    class Last(Listed):
        def user(self, scenario: Scenario, other_party: str) -> User:
            cancellation.cancel(StoppedError())
            return super().user(scenario, other_party)

    with pytest.raises(StoppedError):
        await play_out([Arm("candidate", speaker, "c")], Last(["Hello"] * 5), at_once=1, cancellation=cancellation)
    assert len(speaker.asked) <= 1


async def test_a_server_that_was_lost_all_along_fails_the_stage_and_names_the_condition() -> None:
    class Lost(Parrot):
        async def reply(self, chat: ChatMessages, scenario: Scenario) -> Reply:
            raise UnplayableError("refused", server_failed=True)

    conditions = [Arm("candidate", Parrot(), "c"), Arm("serving", Lost(), "s")]
    with pytest.raises(InfrastructureError, match="server of serving failed"):
        await play_out(conditions, Listed(["Hello"]))


async def test_scripted_customers_of_a_served_model_say_their_lines() -> None:
    from subterra_jobs.evaluate.simulate.simulation import simulate_scripted

    spec = travel()
    cast = build_scenarios(Graph(spec), run_input(Path("/nowhere"), simulator={"name": "scripted"}).evaluation)
    with fake_chat_server(spec) as (url, _):
        played = await simulate_scripted(url, cast, max_tokens=64, wait_seconds=5)
    for scenario, dialogue in zip(cast, played.conversations, strict=True):
        assert [m["content"] for m in dialogue.chat if m["role"] == "user"] == list(scenario.lines)
        assert dialogue.fault is None
