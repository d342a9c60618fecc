"""`subterra sample` with the scripted teacher: what it writes, how it reads, and what it refuses."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import Result
from typer.testing import CliRunner

from subterra_api.job_contract.messages import Generation
from subterra_api.v1alpha1.compilerun import Provider
from subterra_cli.main import app
from subterra_core.procedure.graph import Graph
from subterra_jobs.generate.check.branch_audit import audit_branches
from subterra_jobs.generate.dataset import write_dataset
from subterra_jobs.generate.plan.plan import plan_conversations
from subterra_jobs.generate.write.scripted_teacher import ScriptedTeacher, with_typed_openers
from subterra_jobs.generate.write.styled_prompts import StyledPrompts, prompts_for
from subterra_jobs.generate.write.writer import Writer
from subterra_jobs.generate.written_conversation import Conversation
from subterra_testkit.repository import EXAMPLES
from subterra_testkit.runs.generation_inputs import example

TRAVEL = str(EXAMPLES / "travel" / "procedure.yaml")


def sample(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["sample", *arguments])


def rows(*arguments: str) -> list[dict[str, Any]]:
    told = sample(*arguments, "-o", "jsonl")
    assert told.exit_code == 0, told.output
    return [json.loads(line) for line in told.stdout.splitlines()]


def agent(folder: Path, **generation: Any) -> str:
    """An agent that compiles travel, as a file."""
    template = {"generation": {"conversations": 60} | generation}
    made = {
        "apiVersion": "subterra.dev/v1alpha1",
        "kind": "CompiledAgent",
        "metadata": {"name": "travel"},
        "spec": {"compile": {"procedureRef": {"name": "travel"}, "template": template}},
    }
    file = folder / "agent.yaml"
    file.write_text(yaml.safe_dump(made))
    return str(file)


async def _compiled(generation: Generation) -> list[Conversation]:
    """What the generate stage writes."""
    graph = Graph(example("travel"))
    plan = with_typed_openers(graph, plan_conversations(graph.spec, generation))
    return [await Writer(graph, ScriptedTeacher(graph)).finish(Conversation(planned)) for planned in plan]


def test_the_samples_are_the_first_conversations_of_the_dataset_word_for_word(tmp_path: Path) -> None:
    generation = Generation(teacher=Provider(), conversations=60, seeds=(7,), held_out_percent=10)
    written = asyncio.run(_compiled(generation))
    write_dataset(Graph(example("travel")), written, audit_branches(written), tmp_path)
    dataset = [json.loads(line) for name in ("train", "heldout") for line in (tmp_path / f"{name}.jsonl").open()]
    labels = {label["id"]: label for label in map(json.loads, (tmp_path / "labels.jsonl").open())}
    messages = {row["id"]: row["messages"] for row in dataset}
    sampled = rows(TRAVEL, "-n", "12", "--agent", agent(tmp_path, heldOutPercent=10), "--seed", "7")
    assert [row["id"] for row in sampled] == [conversation.spec.id for conversation in written[:12]]
    assert [row["messages"] for row in sampled] == [messages[row["id"]] for row in sampled]
    assert all(row.items() >= labels[row["id"]].items() for row in sampled)


def test_seed_and_size_of_the_plan_come_from_the_agent_unless_a_seed_is_given(tmp_path: Path) -> None:
    of_agent = agent(tmp_path, seeds=[3, 4])
    assert rows(TRAVEL, "-n", "1", "--agent", of_agent)[0]["id"] == "s3-000000"
    assert rows(TRAVEL, "-n", "1", "--agent", of_agent, "--seed", "9")[0]["id"] == "s9-000000"
    assert rows(TRAVEL, "-n", "1")[0]["id"] == "s42-000000"
    assert len(rows(TRAVEL, "-n", "1000", "--agent", of_agent)) == 120


def test_a_conversation_shows_path_variables_speakers_words_and_the_price(tmp_path: Path) -> None:
    told = sample(TRAVEL, "-n", "2", "--agent", agent(tmp_path))
    first = rows(TRAVEL, "-n", "2", "--agent", agent(tmp_path))[0]
    lines = told.stdout.splitlines()
    assert told.exit_code == 0
    assert told.stderr == "2 conversations by the scripted teacher: free\n"
    assert lines[0] == "1 of 2 · s42-000000 · training"  # no persona, style or twist: the scripted teacher writes none
    assert lines[1] == "  path: " + " → ".join(first["path"])
    assert lines[2] == "  variables: " + ", ".join(f"{name} = {value}" for name, value in first["values"].items())
    spoken = lines[3 : 3 + len(first["words"])]
    names = {"assistant": "Agent:", "user": "Customer:"}
    said = [(names[message["role"]], message["content"]) for message in first["messages"][1:]]
    assert all(line.endswith(text) and speaker in line for line, (speaker, text) in zip(spoken, said, strict=True))
    assert first["words"] == [len(text.split()) for _, text in said]
    assert lines[-1].startswith("2 conversations, ")
    assert lines[-1].endswith("no calls, $0")


def test_json_has_the_conversations_and_the_totals(tmp_path: Path) -> None:
    told = json.loads(sample(TRAVEL, "-n", "3", "--agent", agent(tmp_path), "-o", "json").stdout)
    words = [count for row in told["conversations"] for count in row["words"]]
    assert told["totals"] == {
        "conversations": 3,
        "dropped": 0,
        "turns": len(words),
        "words": sum(words),
        "refused": 0,
        "frameLeaks": 0,
        "calls": 0,
        "tokens": 0,
        "usd": "0",
    }


def test_prompts_prints_one_filled_prompt_of_each_kind_and_needs_no_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    hosted = agent(tmp_path, teacher={"name": "anthropic", "model": "claude-sonnet-4-6"})
    told = json.loads(sample(TRAVEL, "--prompts", "--agent", hosted, "-o", "json").stdout)
    kinds = [prompt["kind"] for prompt in told]
    assert kinds[:3] == ["agent turn", "customer turn", "customer turn with a decision"]
    assert kinds[-1] == "blind reader"
    assert len(kinds) == len(set(kinds)) >= 6
    decided = told[2]["messages"][0]["content"]
    assert "<decision>" in decided
    assert not any("{{" in message["content"] for prompt in told for message in prompt["messages"])
    text = sample(TRAVEL, "--prompts", "--agent", hosted).stdout
    assert all(line in text for prompt in told for line in prompt["system"].splitlines())
    assert [line for line in text.splitlines() if line.startswith("=== ")] == [
        f"=== {prompt['kind']}: node {prompt['node']} of conversation {prompt['conversation']}" for prompt in told
    ]


def test_no_shown_prompt_answers_a_question_that_its_conversation_does_not_have() -> None:
    for name in ("travel", "zoom", "insurance"):
        told = sample(str(EXAMPLES / name / "procedure.yaml"), "--prompts", "--teacher", "anthropic:claude-sonnet-4-6").stdout
        assert "=== agent turn that asks what is meant" in told or name != "zoom"
        assert "You were asked what you mean" not in told


def test_a_shown_prompt_is_the_one_that_a_compile_sends(tmp_path: Path) -> None:
    """Up to the words that were said before, which nobody knows yet."""
    hosted = agent(tmp_path, teacher={"name": "anthropic", "model": "claude-sonnet-4-6"})
    told = json.loads(sample(TRAVEL, "--prompts", "--agent", hosted, "-o", "json").stdout)
    graph, teacher = Graph(example("travel")), Provider(name="anthropic", model="claude-sonnet-4-6")
    generation = Generation(teacher=teacher, conversations=60, seeds=(42,), held_out_percent=2)
    plan = {planned.id: planned for planned in plan_conversations(graph.spec, generation)}
    prompts = prompts_for(graph)
    assert isinstance(prompts, StyledPrompts)
    for prompt in told[:-1]:
        planned = plan[prompt["conversation"]]
        at = [position for position, node in enumerate(planned.path) if node == prompt["node"]]
        if prompt["kind"].endswith(("is ambiguous", "contradicts")):
            sent = [prompts.aside(planned, position, (), None) for position in at]
        elif "asks what is" in prompt["kind"]:
            sent = [prompts.aside(planned, position, (), "(the customer's words)") for position in at]
        else:
            sent = [prompts.turn(planned, position, ()) for position in at]
        shown = prompt["messages"][0]["content"].partition("</conversation>")[2]
        assert prompt["system"] == sent[0].system
        assert shown in [request.messages[0]["content"].partition("</conversation>")[2] for request in sent]


@pytest.mark.parametrize(
    ("arguments", "messages"),
    [
        (["--teacher", "gpt-4.1"], ["--teacher: gpt-4.1 names no teacher; use scripted, anthropic:MODEL or openai:MODEL"]),
        (["--teacher", "scripted:x"], ["--teacher: scripted:x names no teacher"]),
        (["--teacher", "anthropic:"], ["--teacher: anthropic: names no teacher"]),
        (["--base-url", "http://x/v1"], ["--base-url: it needs the model's name too; add --teacher openai:MODEL"]),
        (["--teacher", "anthropic:m", "--base-url", "http://x/v1"], ["--base-url: it is for openai:MODEL only"]),
        (["--teacher", "openai:m", "--base-url", "x"], ["--base-url: x is not a URL"]),
        (["--teacher", "anthropic:gpt-4.1"], ["gpt-4.1 is a model of openai; write openai:gpt-4.1", "set ANTHROPIC_API_KEY"]),
        (
            ["--teacher", "openai:gpt-9-luna", "--max-usd", "none"],
            ["--max-usd: none is not an amount", "no price is known for model 'gpt-9-luna'", "--prices FILE", "set OPENAI_API_KEY"],
        ),
        (["--max-usd", "-1"], ["--max-usd: -1 is not an amount of US dollars above 0"]),
        (["--max-usd", "nan"], ["--max-usd: nan is not an amount"]),
        (["--agent", "nowhere.yaml"], ["nowhere.yaml:1: error: file: cannot be read"]),
    ],
)
def test_wrong_options_are_refused_with_their_fix_all_at_once(
    arguments: list[str], messages: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    told = sample(TRAVEL, *arguments)
    assert told.exit_code == 2
    assert told.stdout == ""
    assert all(message in told.stderr for message in messages), told.stderr


def test_a_procedure_with_errors_is_refused_with_the_words_of_lint_and_the_options_problems_follow(tmp_path: Path) -> None:
    broken = tmp_path / "broken.yaml"
    broken.write_text(Path(TRAVEL).read_text().replace("to: options", "to: optoins"))
    linted = CliRunner().invoke(app, ["lint", str(broken)])
    told = sample(str(broken), "--max-usd", "x")
    errors = [line for line in linted.stderr.splitlines() if " error: " in line]
    assert errors
    assert told.exit_code == 2
    assert told.stderr.splitlines()[: len(errors)] == errors
    assert "--max-usd: x" in told.stderr


def test_every_node_without_examples_is_named_at_once(tmp_path: Path) -> None:
    spec = yaml.safe_load(Path(TRAVEL).read_text())
    bare = [node for node in spec["spec"]["nodes"] if node["id"] in ("greet", "handover")]
    for node in bare:
        del node["examples"]
    file = tmp_path / "bare.yaml"
    file.write_text(yaml.safe_dump(spec))
    told = sample(str(file))
    assert told.exit_code == 2
    assert all(f"node {node} has no examples" in told.stderr for node in ("greet", "handover"))


def test_the_prompts_of_the_evaluation_are_shown_filled_with_each_challenge_once() -> None:
    told = json.loads(sample(TRAVEL, "--evaluation-prompts", "-o", "json").stdout)
    assert [prompt["kind"] for prompt in told if prompt["kind"].startswith("simulated customer")] == [
        "simulated customer",
        *(prompt["kind"] for prompt in told[1:4]),
    ]
    assert {prompt["kind"] for prompt in told[1:4]} == {
        f"simulated customer, {kind}" for kind in ("change of mind", "ambiguity", "contradiction")
    }
    assert [prompt["kind"] for prompt in told[4:]] == [
        "judge of Task Success, Information Accuracy",
        "judge of Consistency, Graceful Handling, Naturalness",
        "labeller",
    ]
    assert all("<now>" in prompt["messages"][0]["content"] for prompt in told[1:4])
    assert not any("{{" in message["content"] for prompt in told[:4] for message in prompt["messages"])
    text = sample(TRAVEL, "--evaluation-prompts").stdout
    assert f"=== labeller: scenario {told[-1]['conversation']}" in text


def test_who_samples_a_procedure_in_another_language_is_told_that_customers_say_its_examples_alone(tmp_path: Path) -> None:
    file = tmp_path / "laden.yaml"
    agent_says, customer_says = "Guten Tag! Was darf es heute für Sie sein? " * 4, "Ich hätte gern zwei Brötchen und einen Kaffee."
    nodes = [
        {"id": "a", "role": "agent", "prompt": "x", "examples": [agent_says], "next": [{"to": "b"}]},
        {"id": "b", "role": "customer", "examples": [customer_says], "next": [{"to": "c"}]},
        {"id": "c", "role": "agent", "prompt": "x", "examples": ["Gerne!"], "outcome": "success"},
    ]
    spec = {"systemPrompt": "x", "start": "a", "nodes": nodes}
    header = {"apiVersion": "subterra.dev/v1alpha1", "kind": "Procedure", "metadata": {"name": "laden"}}
    file.write_text(json.dumps(header | {"spec": spec}))
    told = sample(str(file), "-n", "2")
    assert told.exit_code == 0
    assert "the examples are in another language: customers say the examples alone" in told.stderr
