"""What is paid again after an edit, and what the turn store survives: the real SDK over HTTP, without Ray."""

import os
import re
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from subterra_api.job_contract.messages import Budget
from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_jobs.generate.plan.conversation_spec import ConversationSpec
from subterra_jobs.generate.plan.plan import plan_conversations
from subterra_jobs.generate.workers.worker import BatchResult, Worker
from subterra_jobs.generate.write.turn_keys import turns_path
from subterra_jobs.generate.written_conversation import Conversation
from subterra_jobs.llm.admission import AdmissionQueue
from subterra_jobs.llm.rate_limit import RateLimiter
from subterra_jobs.llm.response_cache import CachedResponse, ResponseCache
from subterra_jobs.spending.budget import BudgetGuard
from subterra_jobs.spending.ledger import Ledger
from subterra_jobs.store.artifact_store import ArtifactStore
from subterra_testkit.runs.generation_inputs import PAID, run_input, travel
from subterra_testkit.servers.fake_llm_api import FakeLLMApi, plain_answer, role_of

Json = dict[str, Any]
LETTERS = str.maketrans("0123456789", "abcdefghij")
Edit = Callable[[Json], object]


def edited(edit: Edit) -> ProcedureSpec:
    """The travel example after an edit of its JSON."""
    spec = travel().dump()
    edit(spec)
    return ProcedureSpec.model_validate(spec)


def node(spec: Json, name: str) -> Json:
    found: Json = next(each for each in spec["nodes"] if each["id"] == name)
    return found


async def write(folder: Path, spec: ProcedureSpec, **generation: Any) -> list[Conversation]:
    """The conversations of a procedure, with whatever the folder's store knows already."""
    run = run_input(folder, spec, **({"teacher": PAID} | generation))
    queue = AdmissionQueue(BudgetGuard(Ledger(ArtifactStore(run.store), run.run), "generate", Budget()), RateLimiter(64))
    worker = Worker(run, 8, queue)
    try:
        batch = await worker.write([Conversation(planned) for planned in plan_conversations(run.procedure, run.generation)])
    finally:
        await worker.close()
    assert batch.failure is None
    return list(batch.finished)


def calls(plan: list[ConversationSpec]) -> int:
    return sum(len(planned.path) + len(planned.audited) for planned in plan)


def from_the_node_on(plan: list[ConversationSpec], name: str) -> int:
    """Calls for turns that are not before the node's first visit, and for decisions that are read there."""
    firsts = [(planned, planned.path.index(name)) for planned in plan if name in planned.path]
    return sum(len(planned.path) - first + sum(each.position >= first for each in planned.audited) for planned, first in firsts)


def reword(name: str) -> Edit:
    def edit(spec: Json) -> None:
        node(spec, name)["prompt"] = node(spec, name).get("prompt", "") + " Be brief."

    return edit


async def paid_again(api: FakeLLMApi, folder: Path, edit: Edit, **generation: Any) -> int:
    """Calls that a dataset takes after an edit, when the one before had been written."""
    await write(folder, travel())
    before = api.paid
    await write(folder, edited(edit), **generation)
    return api.paid - before


@pytest.mark.parametrize("name", ["greet", "ask_budget", "choice", "booked"])
async def test_after_an_edited_prompt_only_turns_from_its_node_on_are_paid(api: FakeLLMApi, tmp_path: Path, name: str) -> None:
    plan = plan_conversations(travel(), run_input(tmp_path, teacher=PAID).generation)
    again = await paid_again(api, tmp_path, reword(name))
    assert again == from_the_node_on(plan, name)
    assert again == calls(plan) if name == "greet" else again < calls(plan)


async def test_what_is_reused_makes_the_dataset_that_is_written_in_one_piece(api: FakeLLMApi, tmp_path: Path) -> None:
    api.answer = telling
    spec = edited(reword("choice"))
    await write(tmp_path / "edited", travel())
    pieces = await write(tmp_path / "edited", spec)
    whole = await write(tmp_path / "fresh", spec)
    assert [each.utterances for each in pieces] == [each.utterances for each in whole]
    assert [each.guesses for each in pieces] == [each.guesses for each in whole]
    assert not any(each.drop_reason for each in whole)
    assert sum(each.reused for each in pieces) > 0
    assert sum(each.reused for each in whole) == 0


def telling(body: Json) -> str:
    """Words that depend on everything that was asked; a reader's are a number."""
    words = sum(map(ord, body["messages"][0]["content"]))
    return str(words % 4) if role_of(body) == "reader" else f"Well, {str(words).translate(LETTERS)}."


@pytest.mark.parametrize(
    "edit",
    [
        lambda spec: spec.update(systemPrompt="You are a travel agent."),
        lambda spec: node(spec, "greet")["examples"].append("Hello, this is the travel desk."),
        lambda spec: spec["nodes"].reverse(),
    ],
    ids=["the deployed system prompt", "an example", "the order of nodes"],
)
async def test_an_edit_that_the_teacher_does_not_see_pays_nothing(api: FakeLLMApi, tmp_path: Path, edit: Edit) -> None:
    assert await paid_again(api, tmp_path, edit) == 0


async def test_an_edited_condition_pays_for_its_hub_whichever_branch_was_taken(api: FakeLLMApi, tmp_path: Path) -> None:
    plan = plan_conversations(travel(), run_input(tmp_path, teacher=PAID).generation)

    def edit(spec: Json) -> None:
        node(spec, "choice")["next"][0]["when"] += " at once"

    assert len({planned.path[planned.path.index("choice") + 1] for planned in plan if "choice" in planned.path}) > 1
    assert await paid_again(api, tmp_path, edit) == from_the_node_on(plan, "choice")


@pytest.mark.parametrize("generation", [{"teacher": PAID | {"model": "claude-haiku-4-5"}}, {"seeds": [43]}], ids=["model", "seed"])
async def test_nothing_is_reused_for_another(api: FakeLLMApi, tmp_path: Path, generation: Json) -> None:
    again = await paid_again(api, tmp_path, lambda _: None, **generation)
    assert again == calls(plan_conversations(travel(), run_input(tmp_path, **({"teacher": PAID} | generation)).generation))


async def test_the_way_back_pays_nothing(api: FakeLLMApi, tmp_path: Path) -> None:
    await paid_again(api, tmp_path, reword("choice"))
    before = api.paid
    await write(tmp_path, travel())
    assert api.paid == before


async def test_a_second_seed_pays_for_itself_only(api: FakeLLMApi, tmp_path: Path) -> None:
    run = run_input(tmp_path, teacher=PAID, seeds=[42, 43])
    second = [planned for planned in plan_conversations(run.procedure, run.generation) if planned.seed == 43]
    again = await paid_again(api, tmp_path, lambda _: None, seeds=[42, 43])
    # The pilot is chosen anew, so some decisions of the first seed may be read that were not read before.
    assert calls(second) <= again <= calls(second) + 100


async def test_an_answer_that_was_unfit_is_not_paid_twice(api: FakeLLMApi, tmp_path: Path) -> None:
    asked = Counter[str]()

    def sometimes_bad(body: Json) -> str:
        message = body["messages"][0]["content"]
        asked[message] += 1
        return "Customer: hm" if asked[message] == 1 else "Well then."

    api.answer = sometimes_bad
    first = await write(tmp_path, travel())
    paid = api.paid
    assert await write(tmp_path, travel()) is not first
    assert api.paid == paid


def segments(folder: Path) -> list[Path]:
    return sorted((folder / "turns").rglob("*.jsonl"))


def cut_in_the_middle(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def lie(file: Path) -> None:
    file.write_text(re.sub("I see", "I saw", file.read_text(), count=1))


def garble(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0xFF
    file.write_bytes(bytes(content))


@pytest.mark.parametrize("damage", [cut_in_the_middle, lie, garble])
async def test_a_damaged_record_is_set_aside_and_paid_again(
    api: FakeLLMApi, tmp_path: Path, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    run = run_input(tmp_path, teacher=PAID)
    whole = await write(tmp_path, travel())
    paid, before = api.paid, sum(len(file.read_text().splitlines()) for file in segments(tmp_path))
    damage(segments(tmp_path)[0])
    store = ResponseCache(ArtifactStore(run.store), turns_path(run.generation.teacher))
    assert store.repair() == 1
    assert "1 damaged records, which must be paid again" in caplog.text
    good = sum(len(file.read_text().splitlines()) for file in segments(tmp_path))
    again = await write(tmp_path, travel())
    assert api.paid - paid == before - good >= 1
    assert [each.utterances for each in again] == [each.utterances for each in whole]
    assert len(list((tmp_path / "quarantine").rglob("*.jsonl"))) == 1
    assert store.repair() == 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount a small file system")
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", str(disk)], check=False).returncode:
        pytest.skip("this machine mounts nothing")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


async def test_a_worker_that_repeats_a_batch_of_a_dead_one_pays_only_for_what_that_one_had_not(
    api: FakeLLMApi, tmp_path: Path
) -> None:
    run = run_input(tmp_path, teacher=PAID)
    plan = plan_conversations(run.procedure, run.generation)
    queue = AdmissionQueue(BudgetGuard(Ledger(ArtifactStore(run.store), run.run), "generate", Budget()), RateLimiter(64))
    survivor, dead = Worker(run, 8, queue), Worker(run, 8, queue)
    try:
        await survivor.write([Conversation(plan[0])])  # it has looked into the store by now
        await dead.write([Conversation(plan[1])])
        paid = api.paid
        batch = await survivor.write([Conversation(plan[1]), Conversation(plan[2])], repeated=True)
    finally:
        await survivor.close()
        await dead.close()
    assert len(batch.finished) == 2
    assert api.paid - paid == calls(plan[2:3])


async def test_a_disk_that_gets_full_ends_the_stage_with_all_that_is_paid(
    api: FakeLLMApi, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("subterra_jobs.spending.budget.REFRESH_SECONDS", 0.0)
    run = run_input(small_disk, teacher=PAID)
    store, plan = ArtifactStore(run.store), plan_conversations(run.procedure, run.generation)
    store.reserve_headroom()

    async def attempt() -> BatchResult:
        guard = BudgetGuard(Ledger(store, run.run), "generate", Budget(), check=store.require_headroom)
        worker = Worker(run, 8, AdmissionQueue(guard, RateLimiter(64)))
        try:
            return await worker.write([Conversation(planned) for planned in plan])
        finally:
            await worker.close()

    def filling(body: Json) -> str:
        if api.paid == 60:
            fill(small_disk / "filler")
        return plain_answer(body)

    api.answer = filling
    batch = await attempt()
    assert batch.failure is not None
    assert "full; free some space" in batch.failure.message
    paid = api.paid
    assert 60 <= paid < calls(plan)
    (small_disk / "filler").unlink()
    store.reserve_headroom()
    again = await attempt()
    assert (again.failure, len(again.finished)) == (None, len(plan))
    assert api.paid == calls(plan)
    assert sum(payment.usd for payment in Ledger(store, run.run).new_payments()) == Decimal("0.0036") * api.paid


def fill(file: Path) -> None:
    """Takes what is left of the disk."""
    with suppress(OSError), file.open("wb", buffering=0) as filler:
        while filler.write(bytes(4096)):
            pass


async def test_two_writers_and_a_reader_share_a_store(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path.as_uri())
    first, second = ResponseCache(store, "turns/t"), ResponseCache(store, "turns/t")
    for number in range(3):
        await first.put(f"a{number}", CachedResponse("one"))
        await second.put(f"b{number}", CachedResponse("two", "max_tokens"))
    reader = ResponseCache(store, "turns/t")
    assert [reader.get(f"a{number}") for number in range(3)] == [CachedResponse("one")] * 3
    assert [reader.get(f"b{number}") for number in range(3)] == [CachedResponse("two", "max_tokens")] * 3
    assert reader.get("c") is None
    assert len(segments(tmp_path)) == 2


async def test_a_writer_whose_file_was_set_aside_writes_it_whole_again(tmp_path: Path) -> None:
    store = ArtifactStore(tmp_path.as_uri())
    writer = ResponseCache(store, "turns/t")
    await writer.put("a", CachedResponse("one"))
    segments(tmp_path)[0].write_bytes(b"{")
    assert ResponseCache(store, "turns/t").repair() == 1
    await writer.put("b", CachedResponse("two"))
    assert ResponseCache(store, "turns/t").get("a") == CachedResponse("one")
