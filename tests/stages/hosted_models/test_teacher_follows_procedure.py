"""A teacher that leaves the procedure is found in the pilot, over the wire, before the rest is paid for."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from subterra_jobs.errors import InvalidInputError
from subterra_jobs.generate import main as generate
from subterra_jobs.generate.plan.conversation_spec import ConversationSpec
from subterra_jobs.generate.plan.plan import plan_conversations
from subterra_jobs.stage.runner import execute
from subterra_jobs.store.artifact_store import ArtifactStore
from subterra_testkit.runs.generation_inputs import PAID, run_input
from subterra_testkit.runs.in_process_pool import InProcessPool
from subterra_testkit.runs.word_counts import WordCounts
from subterra_testkit.servers.fake_llm_api import FakeLLMApi, chatter, plain_answer, role_of

Json = dict[str, Any]
COUNT = 70
BOOKED = "Tell the customer that the trip is booked and wish them a good time"


def instruction(body: Json) -> str:
    """What the agent's node asks for."""
    found = re.search(r"<instruction>\n(.*)\n</instruction>", body["messages"][-1]["content"])
    return found.group(1) if found else ""


def obedient(body: Json) -> str:
    """An agent that says what its node asks for, in the instruction's own words."""
    if role_of(body) != "agent":
        return plain_answer(body)
    return f"{instruction(body)} {chatter(body['messages'][-1]['content'], 2).capitalize()}."


def leaving(body: Json) -> str:
    """An agent that books at once where it should present a trip."""
    if role_of(body) == "agent" and instruction(body).startswith("Present a trip"):
        return f"{BOOKED}, {chatter(body['messages'][-1]['content'])}."
    return obedient(body)


@pytest.fixture(autouse=True)
def encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Words are compared by their counts, and there is no Ray."""
    monkeypatch.setattr(generate, "RayPool", InProcessPool)
    monkeypatch.setattr(generate, "find_encoder", lambda _: WordCounts())


def calls(plan: list[ConversationSpec]) -> int:
    return sum(len(planned.path) + len(planned.audited) for planned in plan)


def stage(api: FakeLLMApi, folder: Path, answer: Callable[[Json], str], **generation: Any) -> tuple[str, Json]:
    """The stage's message and its audit. Raises what the stage raises."""
    api.answer = answer
    run = run_input(folder, teacher=PAID, conversations=COUNT, **generation)
    result = execute("generate", generate.work, run, port=0)
    audit = ArtifactStore(run.store).read(f"{result.path}/audit.json")
    assert audit is not None
    return result.message, json.loads(audit)


def test_a_teacher_that_leaves_a_node_is_refused_after_the_pilot_with_node_counts_words_and_fix(
    api: FakeLLMApi, tmp_path: Path
) -> None:
    with pytest.raises(InvalidInputError) as refused:
        stage(api, tmp_path, leaving)
    told = str(refused.value)
    assert re.search(r"node options: 0 of \d+ turns follow it \(0%, needed 60%\); it reads as booked, for example in s42-", told)
    assert f'"{BOOKED}' in told
    assert "Make the prompts of these nodes clearer" in told
    assert "set generation.audit to Report" in told
    assert told.count("node ") == 1, "no other node is accused"
    run = run_input(tmp_path, teacher=PAID, conversations=COUNT)
    plan = plan_conversations(run.procedure, run.generation)
    assert api.paid == calls([planned for planned in plan if planned.audited]) < calls(plan)


def test_a_teacher_that_follows_its_nodes_writes_the_dataset_and_the_audit_says_so(api: FakeLLMApi, tmp_path: Path) -> None:
    message, audit = stage(api, tmp_path, obedient)
    turns = sum(node["turns"] for node in audit["agent"]["nodes"])
    assert f"agent audit: {turns}/{turns} turns of the pilot follow their node" in message
    assert audit["agent"]["conversations"] == 50
    assert not any("example" in node for node in audit["agent"]["nodes"])


def test_with_audit_report_the_run_continues_and_names_the_node(api: FakeLLMApi, tmp_path: Path) -> None:
    message, audit = stage(api, tmp_path, leaving, audit="Report")
    assert "the teacher leaves the procedure at options" in message
    worst = audit["agent"]["nodes"][0]
    assert (worst["node"], worst["followed"], worst["readAs"]) == ("options", 0, "booked")
    assert worst["example"]["text"].startswith(BOOKED)
