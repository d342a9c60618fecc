"""The labeller that is a model: what it is asked, what it may answer, and how its accuracy is measured on the dataset itself."""

import asyncio
import json
import os
import random
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest

from subterra_api.job_contract.messages import Budget
from subterra_api.v1alpha1.compilerun import Provider
from subterra_core.procedure.graph import Graph
from subterra_core.procedure.graph import Path as NodePath
from subterra_jobs.dialogue.sampling import sample_path, sample_values
from subterra_jobs.dialogue.scripted import Utterance, chat_messages, scripted_utterances
from subterra_jobs.dialogue.similarity.closest_examples import CandidateLabel
from subterra_jobs.evaluate.judge.conformance import Replay
from subterra_jobs.evaluate.judge.free_words.llm_labeller import (
    GOLD_SAMPLE,
    TRIES,
    LLMLabeller,
    draw_gold_conversations,
    parse_labels,
)
from subterra_jobs.evaluate.judge.results import Accuracy
from subterra_jobs.evaluate.scenarios.scenario import Scenario
from subterra_jobs.evaluate.scheduling import Schedule
from subterra_jobs.evaluate.simulate.conversation import Conversation
from subterra_jobs.evaluate.simulate.vllm_client import Reply
from subterra_jobs.llm.account import make_client, resolve_account
from subterra_jobs.llm.admission import AdmissionQueue
from subterra_jobs.llm.metered_client import MeteredClient
from subterra_jobs.llm.rate_limit import RateLimiter
from subterra_jobs.llm.response_cache import ResponseCache
from subterra_jobs.spending.budget import BudgetGuard
from subterra_jobs.spending.ledger import Ledger
from subterra_jobs.stage.cancellation import Cancellation
from subterra_jobs.stage.environment import StageEnvironment
from subterra_jobs.store.artifact_store import ArtifactStore
from subterra_testkit.runs.generation_inputs import TRAVEL_1, travel
from subterra_testkit.runs.judgements import first_user_message, is_labelling, labelling_answer, system_of
from subterra_testkit.servers.fake_llm_api import FakeLLMApi

GRAPH = Graph(travel())
CLAUDE = Provider.model_validate({"name": "anthropic", "model": "claude-sonnet-4-6"})
Known = dict[str, list[str]]
Result = TypeVar("Result")


class Book:
    """Conversations with their gold steps, for the fake to know."""

    def __init__(self) -> None:
        self.known: Known = {}
        self.rows: list[dict[str, Any]] = []
        self.labels: list[dict[str, Any]] = []

    def add(self, number: int, *, held_out: bool = True) -> tuple[NodePath, list[dict[str, str]], dict[str, str]]:
        rng = random.Random(number)
        path, values = sample_path(GRAPH, rng), sample_values(GRAPH.spec.variables, rng, unseen=False)
        said = scripted_utterances(GRAPH, path, values, rng)
        # A tail that no other turn has: the fake knows turns by their words.
        said = [Utterance(each.node, each.role, f"{each.text} #{number}.{at}", each.taken) for at, each in enumerate(said)]
        chat = chat_messages("", None, said)[1:]
        turns: list[list[str]] = []
        for at, each in enumerate(said):
            if at and said[at - 1].role == each.role:
                turns[-1].append(each.node)
            else:
                turns.append([each.node])
        for message, nodes in zip(chat, turns, strict=True):
            last = GRAPH.nodes[nodes[-1]]
            place = [each.node for each in said].index(nodes[-1]) if len(last.next) < 2 else None
            to = None if place is not None else self._taken(said, message["content"])
            self.known[message["content"]] = [*nodes[:-1], f"{nodes[-1]} -> {to}" if to else nodes[-1]]
        self.rows.append({"id": f"c{number}", "messages": [{"role": "system", "content": ""}, *chat]})
        row = {"id": f"c{number}", "path": path, "values": values, "heldOut": held_out, "opener": None, "turns": turns}
        self.labels.append(row)
        return path, chat, values

    def _taken(self, said: list[Utterance], text: str) -> str | None:
        return next(each.taken for each in said if text.endswith(each.text))

    def write(self, folder: Path) -> Path:
        folder.mkdir()
        for name, rows in (("heldout.jsonl", self.rows), ("labels.jsonl", self.labels)):
            (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
        return folder


def with_labeller(store: Path, use: Callable[[LLMLabeller], Coroutine[Any, Any, Result]]) -> Result:
    async def once() -> Result:
        kept = ArtifactStore(store.as_uri())
        broker = AdmissionQueue(BudgetGuard(Ledger(kept, TRAVEL_1), "evaluate", Budget()), RateLimiter(8))
        account = resolve_account(CLAUDE, "evaluation.judge", StageEnvironment.parse(os.environ))
        labeller = LLMLabeller(GRAPH, CLAUDE, MeteredClient(account, make_client(account), broker, ResponseCache(kept, "labels")))
        try:
            return await use(labeller)
        finally:
            await labeller.close()

    return asyncio.run(once())


def replayed(store: Path, path: NodePath, chat: list[dict[str, str]], values: dict[str, str], error: str | None = None) -> Replay:
    said = [message["content"] for message in chat if message["role"] == "assistant"]
    dialogue = Conversation(tuple(chat), tuple(Reply(text, 0.1, 10, 5, "stop") for text in said), error)
    return with_labeller(store, lambda labeller: labeller.replay(Scenario("s", False, path, values, None, (), True), dialogue))


def test_a_free_conversation_is_replayed_by_the_way_the_customer_really_went(api: FakeLLMApi, tmp_path: Path) -> None:
    book = Book()
    path, chat, values = book.add(3)
    api.answer = lambda body: labelling_answer(body, book.known)
    other = next(sample_path(GRAPH, random.Random(seed)) for seed in range(99) if sample_path(GRAPH, random.Random(seed)) != path)
    seen = replayed(tmp_path, other, chat, values)  # the scenario's own path is only what the customer was meant to do
    assert seen.conformant
    assert seen.reached == (path[-1] if GRAPH.nodes[path[-1]].role == "agent" else None)


def test_a_labelling_call_shows_the_procedure_and_the_words_and_asks_for_two_guesses(api: FakeLLMApi, tmp_path: Path) -> None:
    book = Book()
    path, chat, values = book.add(3)
    api.answer = lambda body: labelling_answer(body, book.known)
    replayed(tmp_path, path, chat, values)
    (body,) = api.bodies
    assert is_labelling(body)
    assert "ask_budget (agent)" in system_of(body)
    assert all(message["content"].splitlines()[0] in first_user_message(body) for message in chat)


@pytest.mark.parametrize("answer", ["", "[]", '{"turns": []}', '{"turns": [{"turn": 1}]}', '{"turns": [1]}'])
def test_a_labeller_without_a_usable_answer_is_asked_again_and_then_no_step_was_taken(
    api: FakeLLMApi, tmp_path: Path, answer: str
) -> None:
    path, chat, values = Book().add(3)
    api.answer = lambda _: answer
    seen = replayed(tmp_path, path, chat, values)
    assert api.paid == TRIES
    assert not seen.conformant
    assert not any(turn.right for turn in seen.turns)


def test_a_conversation_that_broke_off_is_not_read(api: FakeLLMApi, tmp_path: Path) -> None:
    path, chat, values = Book().add(3)
    assert not replayed(tmp_path, path, chat[:3], values, error="too long").conformant
    assert api.calls == 0


def test_the_same_conversation_is_read_once(api: FakeLLMApi, tmp_path: Path) -> None:
    book = Book()
    path, chat, values = book.add(3)
    api.answer = lambda body: labelling_answer(body, book.known)
    assert replayed(tmp_path, path, chat, values) == replayed(tmp_path, path, chat, values)
    assert api.paid == 1


def test_steps_that_the_speaker_does_not_have_are_no_guess() -> None:
    chat = [{"role": "assistant", "content": "Hi"}, {"role": "user", "content": "Lisbon"}]

    def guesses(number: int, first: object, second: object = ()) -> tuple[CandidateLabel, ...]:
        answer = json.dumps({"turns": [{"turn": number, "first": first, "second": second}]})
        heard = parse_labels(GRAPH, chat, answer)
        assert heard is not None
        return heard[number - 1].candidates

    assert guesses(1, ["greet", "ask_trip"]) == (CandidateLabel(("greet", "ask_trip")),)
    assert guesses(1, ["trip"], ["greet"]) == (CandidateLabel(("greet",)),)
    assert guesses(2, ["trip -> ask_budget"], ["trip->ask_budget"]) == (CandidateLabel(("trip",), "ask_budget"),)
    assert guesses(2, ["trip -> nowhere"]) == (CandidateLabel(("trip",)),)
    assert guesses(2, ["<script>"], [7]) == ()
    assert guesses(2, "trip") == ()


def accuracy(api: FakeLLMApi, tmp_path: Path, spoil: Callable[[Known], None], count: int = 30) -> Accuracy:
    book = Book()
    for number in range(count):
        book.add(number)
    dataset = book.write(tmp_path / "dataset")
    spoil(book.known)
    api.answer = lambda body: labelling_answer(body, book.known)
    return with_labeller(
        tmp_path / "store", lambda labeller: labeller.accuracy(dataset, Schedule(1, asyncio.Semaphore(4), Cancellation()))
    )


def test_a_labeller_that_is_always_right_is_fully_accurate_on_twenty_held_out_conversations(
    api: FakeLLMApi, tmp_path: Path
) -> None:
    found = accuracy(api, tmp_path, lambda known: None)
    assert (found.conversations.hits, found.conversations.of) == (GOLD_SAMPLE, GOLD_SAMPLE)
    assert found.agent.hits == found.agent.of > GOLD_SAMPLE
    assert found.customer.hits == found.customer.of > GOLD_SAMPLE


def test_a_labeller_that_confuses_two_steps_is_measured_to_do_so(api: FakeLLMApi, tmp_path: Path) -> None:
    def confuse(known: Known) -> None:
        for text, steps in known.items():
            if steps == ["confirm"]:
                known[text] = ["booked"]

    found = accuracy(api, tmp_path, confuse)
    confirmed = sum("confirm" in sample_path(GRAPH, random.Random(number)) for number in range(30))
    assert confirmed > 0
    assert found.agent.hits < found.agent.of
    assert found.conversations.of - confirmed <= found.conversations.hits < found.conversations.of


@pytest.mark.parametrize("seed", range(3))
def test_accuracy_is_measured_on_no_conversation_with_a_detour_because_its_turns_have_no_steps(tmp_path: Path, seed: int) -> None:
    book = Book()
    for number in range(60):
        book.add(number, held_out=number % 3 > 0)
    for row in book.labels[::2]:
        row["detour"] = "off topic"
    drawn = draw_gold_conversations(book.write(tmp_path / "dataset"), seed)
    assert len(drawn) == GOLD_SAMPLE
    assert {gold.id for gold in drawn} == {f"c{number}" for number in range(60) if number % 2 and number % 3}
