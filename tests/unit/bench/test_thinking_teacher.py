"""A dataset written by a model that thinks first: nothing is cut, the ledger is the bill, and the forecast was right."""

from decimal import Decimal
from pathlib import Path

import pytest
from bench.generation.thinking import CONVERSATIONS, Written, thinking_api, write

from subterra_jobs.errors import InvalidInputError
from subterra_jobs.generate.check.branch_audit import require_usable
from subterra_testkit.runs.evaluation_runs import fake_provider
from subterra_testkit.servers.fake_llm_api import FILTERED, FakeLLMApi, plain_answer
from subterra_testkit.servers.fake_model import FakeModel


async def written_by(api: FakeLLMApi, folder: Path, conversations: int = 20) -> Written:
    with fake_provider(api):
        return await write(folder, api, conversations)


@pytest.fixture
def api() -> FakeLLMApi:
    return thinking_api()


async def test_a_dataset_by_a_model_that_thinks_is_whole_billed_to_the_cent_and_forecast(api: FakeLLMApi, tmp_path: Path) -> None:
    written = await written_by(api, tmp_path, CONVERSATIONS)
    assert (len(written.conversations), written.dropped) == (CONVERSATIONS, [])
    assert written.booked == api.bill
    assert written.forecast == pytest.approx(api.bill, rel=Decimal("0.15"))


async def test_a_filtered_conversation_is_dropped_with_its_node_and_the_others_are_written(api: FakeLLMApi, tmp_path: Path) -> None:
    api.faults.append(FILTERED)
    written = await written_by(api, tmp_path)
    assert [reason.partition(":")[0] for reason in written.dropped] == ["node greet ended with content_filter"]
    assert written.booked == api.bill


async def test_a_turn_that_is_cut_while_thinking_even_with_more_room_is_dropped_with_the_cure(tmp_path: Path) -> None:
    api = FakeLLMApi(model=FakeModel(thinks=(20_000, 20_000)), input_tokens=None)
    with pytest.raises(InvalidInputError, match="set a lower effort"):
        require_usable((await written_by(api, tmp_path)).conversations)
    assert api.calls == 40
    assert api.bill > 0


async def test_a_leak_of_the_models_frame_is_written_again_and_never_kept(api: FakeLLMApi, tmp_path: Path) -> None:
    leaky = iter(["<think></think> Hello.", "As an AI language model, I cannot travel.", "Hello {name}."])
    api.answer = lambda body: next(leaky, None) or plain_answer(body)
    written = await written_by(api, tmp_path)
    said = " ".join(utterance.text for each in written.conversations for utterance in each.utterances)
    assert written.dropped == []
    assert not any(leak in said for leak in ("think>", "language model", "{name}"))
    assert written.booked == api.bill
