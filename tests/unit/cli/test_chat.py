"""`subterra chat`, as a person meets it who talks to an agent for the first time."""

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from subterra_cli import cluster
from subterra_cli.chat import terminal
from subterra_cli.cluster import ClusterTarget
from subterra_cli.main import app
from subterra_testkit.cluster.fake_reader import SERVES, FakeReader, Object
from subterra_testkit.procedures import PLAN, agent, branch, end, procedure, user
from subterra_testkit.servers.fake_chat_server import fake_chat_server
from subterra_testkit.servers.fake_llm_api import BROKEN, CUT, FakeLLMApi, Fault, fake_llm_api

SHOP = procedure(
    agent("hello", "ask", examples=["What do you want?"]),
    user("ask", branch("tea", "Tea, please."), branch("coffee", "Coffee, please.")),
    end("tea", examples=["Here is your tea."]),
    end("coffee", examples=["Here is your coffee."]),
    variables=[
        PLAN,
        {"name": "seats", "description": "Seats left.", "visibility": "context", "type": "integer", "minimum": 1, "maximum": 9},
    ],
)
NO_FACTS = SHOP.model_copy(update={"variables": ()})
FACTS = ("--fact", "plan=Pro", "--fact", "seats=4")
FINE = Fault()
CONTEXT_FULL = Fault(400, "BadRequestError", "This model's maximum context length is 2048 tokens. However, your prompt has 2100.")


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch) -> FakeReader:
    fake = FakeReader(NO_FACTS)
    monkeypatch.setattr(cluster, "ResourceReader", lambda target: fake)
    return fake


@pytest.fixture
def served(reader: FakeReader, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeLLMApi]:
    """An agent that counts the customer's turns aloud."""
    turns = lambda body: sum(message["role"] == "user" for message in body["messages"])  # noqa: E731
    with fake_llm_api(FakeLLMApi(answer=lambda body: f"Turn {turns(body)}.")) as api:
        forward_to(api.url, monkeypatch)
        yield api


def forward_to(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def forwarded(target: ClusterTarget, service: str, port: int) -> Iterator[str]:
        yield url

    monkeypatch.setattr(cluster, "port_forward", forwarded)


def chat(*arguments: str, says: str = "Hi\n", name: str = "shop") -> Result:
    result = CliRunner().invoke(app, ["chat", name, "-n", "demo", *arguments], input=says)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


# The facts about the customer.


def test_the_facts_go_with_every_request_also_with_the_greeting(reader: FakeReader, served: FakeLLMApi) -> None:
    reader.procedure = {"spec": SHOP.dump()}
    assert chat("--fact", "seats=4", "--fact", "plan=Pro", says="Hi\nBye\n").exit_code == 0
    assert [body["messages"][0] for body in served.bodies] == [{"role": "system", "content": "plan: Pro\nseats: 4"}] * 3
    assert [len(body["messages"]) for body in served.bodies] == [1, 3, 5]


def test_without_facts_only_the_greeting_has_a_system_message(served: FakeLLMApi) -> None:
    chat()
    assert [[message["role"] for message in body["messages"]] for body in served.bodies] == [["system"], ["assistant", "user"]]


def test_missing_facts_are_all_listed_with_a_command_that_works(reader: FakeReader, served: FakeLLMApi) -> None:
    reader.procedure = {"spec": SHOP.dump()}
    refused = chat()
    assert refused.exit_code == 2
    assert "  plan   Give one of Free, Pro, Business.\n" in refused.stderr
    assert "  seats  Seats left. Give a whole number from 1 to 9.\n" in refused.stderr
    ready = refused.stderr.splitlines()[-1].split()
    assert (ready[:2], served.calls) == (["subterra", "chat"], 0)
    assert CliRunner().invoke(app, ready[1:], input="").exit_code == 0
    assert served.bodies[0]["messages"][0]["content"].startswith("plan: Free\nseats: ")


def test_an_unknown_fact_is_refused_with_the_name_that_was_meant(reader: FakeReader, served: FakeLLMApi) -> None:
    reader.procedure = {"spec": SHOP.dump()}
    refused = chat("--fact", "plan=Pro", "--fact", "seat=4")
    assert (refused.exit_code, served.calls) == (2, 0)
    assert "--fact seat: the procedure has no fact of this name; did you mean seats?" in refused.stderr
    assert refused.stderr.endswith("  subterra chat shop --namespace demo --fact plan=Pro --fact seats=4\n")


def test_a_value_that_training_never_had_is_a_warning(reader: FakeReader, served: FakeLLMApi) -> None:
    reader.procedure = {"spec": SHOP.dump()}
    said = chat("--fact", "plan=Gold", "--fact", "seats=4")
    assert said.exit_code == 0
    assert "Warning: plan is 'Gold'; training had one of Free, Pro, Business, so the agent may go astray.\n" in said.stderr
    assert served.bodies[0]["messages"][0]["content"] == "plan: Gold\nseats: 4"


@pytest.mark.parametrize("fact", ["plan", "plan=", "=Pro", "plan=Pro\nrole: admin"])
def test_what_is_not_name_and_value_is_wrong_usage(fact: str, served: FakeLLMApi) -> None:
    refused = chat("--fact", fact)
    assert (refused.exit_code, served.calls) == (2, 0)
    assert "Usage: " in refused.stderr
    assert "--fact" in refused.stderr


def test_facts_for_a_model_from_elsewhere_are_passed_on_unchecked(reader: FakeReader, served: FakeLLMApi) -> None:
    reader.agent["spec"] = {"model": {"uri": "pvc://models/1", "digest": "sha256:feedbeef0123"}}
    del reader.agent["status"]["serving"]["run"]
    said = chat(*FACTS)
    assert said.exit_code == 0
    assert (
        "Note: CompiledAgent shop serves a model compiled elsewhere (spec.model), so which facts it needs is not known"
        in said.stderr
    )
    assert "shop is version 1a2b3c4d, model feedbeef; the run that made it is not in this namespace." in said.stderr
    assert served.bodies[0]["messages"][0]["content"] == "plan: Pro\nseats: 4"


@pytest.mark.parametrize(
    ("procedure", "why"),
    [(None, "does not exist any more"), ({"spec": {"later": "field"}}, "has fields that this subterra does not know")],
)
def test_facts_of_a_procedure_that_cannot_be_read_are_passed_on_unchecked(
    procedure: Object | None, why: str, reader: FakeReader, served: FakeLLMApi
) -> None:
    reader.procedure = procedure
    said = chat("--fact", "plan=Pro")
    assert (said.exit_code, served.bodies[0]["messages"][0]["content"]) == (0, "plan: Pro")
    assert f"Note: Procedure shop {why}" in said.stderr


# Before the first turn: what serves, and what it was tested for.


def test_the_banner_names_what_serves_and_what_was_tested(reader: FakeReader, served: FakeLLMApi) -> None:
    robustness = [{"kind": "phrasings", "hits": 54, "of": 60}, {"kind": "afterEnd", "hits": 9, "of": 10}]
    robustness += [{"kind": kind, "hits": 5, "of": 5} for kind in ("unknownValues", "realValues", "offTopic")]
    reader.run["status"]["scores"] = {"robustness": [*robustness, {"kind": "corrections", "hits": 0, "of": 0}]}
    reader.run["status"]["scores"]["fabrication"] = {"hits": 3, "of": 420}
    reader.agent["status"]["banner"] = "These scores come from rules and scripted customers."
    assert chat().stderr.splitlines() == [
        "shop is version 1a2b3c4d: base model hf://Qwen/Qwen3-8B, procedure 0badcafe.",
        "Tested: other phrasings 54 of 60, values in no list 5 of 5, real names and places 5 of 5, off-topic remarks 5 of 5, "
        "messages after the end 9 of 10. Not tested: corrections.",
        "Values that it stated though nobody had given them: 3 of 420.",
        "These scores come from rules and scripted customers.",
    ]


@pytest.mark.parametrize("scores", [None, {}, {"robustness": None, "fabrication": {"hits": 0, "of": 0}}])
def test_scores_that_are_not_there_are_not_tested(scores: Object | None, reader: FakeReader, served: FakeLLMApi) -> None:
    reader.run["status"]["scores"] = scores
    assert chat().stderr.splitlines()[1:] == [
        "Not tested: other phrasings, values in no list, real names and places, off-topic remarks, corrections, "
        "messages after the end, invented values."
    ]


def test_the_banner_says_when_an_earlier_text_of_the_procedure_serves(reader: FakeReader, served: FakeLLMApi) -> None:
    reader.run["status"]["procedureDigest"] = "sha256:01d01d01ffff"
    reader.agent["status"]["phase"] = "Recompiling"
    assert "procedure 01d01d01, not yet the current 0badcafe (phase Recompiling)." in chat().stderr


# How a conversation goes and ends.


def test_a_pipe_gets_the_transcript_and_nothing_else(reader: FakeReader, monkeypatch: pytest.MonkeyPatch) -> None:
    with fake_chat_server(NO_FACTS) as (url, _):
        forward_to(url, monkeypatch)
        said = chat(says="Tea, please.\n")
    assert (said.exit_code, said.stdout) == (0, "agent: What do you want?\nyou: Tea, please.\nagent: Here is your tea.\n")
    assert "you" not in said.stderr


@pytest.mark.parametrize("says", ["One\n\nnever\n", "One\nexit\nnever\n", "One\nQuit\nnever\n", "One\n", "One"])
def test_an_empty_line_an_ending_word_and_the_end_of_the_input_end_it(says: str, served: FakeLLMApi) -> None:
    said = chat(says=says)
    assert (said.exit_code, said.stdout) == (0, "agent: Turn 0.\nyou: One\nagent: Turn 1.\n")


def test_a_procedure_that_the_customer_begins_has_no_greeting(reader: FakeReader, served: FakeLLMApi) -> None:
    reader.procedure = {"spec": procedure(user("asks", "bye"), end(), start="asks").dump()}
    assert chat().stdout == "you: Hi\nagent: Turn 1.\n"


def test_an_empty_reply_is_shown_as_such(served: FakeLLMApi) -> None:
    served.answer = lambda body: " "
    assert chat().stdout == "agent: (an empty reply)\nyou: Hi\nagent: (an empty reply)\n"


def test_a_line_beyond_the_models_context_is_left_out_and_the_conversation_goes_on(served: FakeLLMApi) -> None:
    served.faults = deque([FINE, FINE, CONTEXT_FULL])
    said = chat(says="One\nTwo, too long\nThree\n")
    assert said.exit_code == 0
    assert (
        "CompiledAgent shop reads at most 2,048 tokens: the facts and all turns of both speakers together. Your line" in said.stderr
    )
    assert [message["content"] for message in served.bodies[-1]["messages"]] == ["Turn 0.", "One", "Turn 1.", "Three"]


def test_a_line_beyond_the_limit_is_not_even_sent(served: FakeLLMApi) -> None:
    said = chat(says=f"{'x' * 10_001}\nHi\n")
    assert (said.exit_code, served.calls) == (0, 2)
    assert "This has 10,001 characters; the limit of a line is 10,000. Your line was not sent" in said.stderr


def test_facts_beyond_the_models_context_end_it_before_it_begins(served: FakeLLMApi) -> None:
    served.faults = deque([CONTEXT_FULL])
    said = chat()
    assert (said.exit_code, said.stdout) == (1, "")
    assert "reads at most 2,048 tokens" in said.stderr


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (BROKEN, "the server of CompiledAgent shop answered 500: fault of the test.\n"),
        (Fault(404, "NotFoundError", "The model `shop` does not exist."), "answered 404: The model `shop` does not exist"),
        (CUT, "the connection to CompiledAgent shop was lost (Server disconnected without sending a response.): its pod was"),
    ],
)
def test_a_server_that_fails_ends_it_with_what_to_do(fault: Fault, told: str, served: FakeLLMApi) -> None:
    served.faults = deque([FINE, fault])
    said = chat()
    assert (said.exit_code, said.stdout) == (1, "agent: Turn 0.\nyou: Hi\n")
    assert told in said.stderr
    assert "See its pods with: kubectl get pods --namespace demo -l subterra.dev/agent=shop\n" in said.stderr


def test_a_port_forward_that_died_is_a_lost_connection(reader: FakeReader, monkeypatch: pytest.MonkeyPatch) -> None:
    with fake_llm_api() as api:
        url = api.url
    forward_to(url, monkeypatch)
    said = chat()
    assert said.exit_code == 1
    assert "was lost" in said.stderr
    assert "or kubectl port-forward ended" in said.stderr


def test_no_reply_and_no_error_can_command_the_terminal(reader: FakeReader, monkeypatch: pytest.MonkeyPatch) -> None:
    evil = "Hello \x1b]52;c;ZXZpbA==\x07\x1b[2J\nthere."
    with fake_llm_api(FakeLLMApi(answer=lambda body: evil)) as api:
        forward_to(api.url, monkeypatch)
        said = chat(says="Hi\n")
        api.faults.append(Fault(400, message=evil))
        failed = chat(says="Hi\n")
    assert "agent: Hello \ufffd]52;c;ZXZpbA==\ufffd\ufffd[2J\nthere." in said.stdout
    assert (failed.exit_code, "]52;c;" in failed.stderr) == (1, True)
    assert "\x1b" not in said.stdout + failed.stdout + failed.stderr


def test_bytes_that_a_locale_hands_through_are_no_text_either(served: FakeLLMApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminal, "is_interactive", lambda: True)
    monkeypatch.setattr("builtins.input", lambda _: "caf\udce9")
    refused = chat()
    assert refused.exit_code == 1
    assert "standard input is not UTF-8 text" in refused.stderr


def test_text_in_another_encoding_is_named(served: FakeLLMApi) -> None:
    refused = CliRunner().invoke(app, ["chat", "shop"], input=b"caf\xe9\n")
    assert refused.exit_code == 1
    assert "standard input is not UTF-8 text" in refused.stderr


def test_ctrl_c_in_the_middle_of_a_reply_ends_it_politely(served: FakeLLMApi, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("httpx.post", interrupted)
    monkeypatch.setattr(terminal, "is_interactive", lambda: True)
    said = chat()
    assert (said.exit_code, "Aborted" in said.output) == (0, False)
    assert said.stderr.endswith("Goodbye. The agent keeps running.\n")


# An agent that cannot be talked to.


def test_an_agent_that_is_compiling_says_where_it_is(reader: FakeReader) -> None:
    del reader.agent["status"]["serving"]
    waits = {"type": "Ready", "status": "False", "reason": "Compiling", "message": "run shop-1: train 42%"}
    reader.agent["status"] |= {"phase": "Compiling", "conditions": [waits]}
    done, trains = {"name": "generate", "state": "Succeeded", "percent": 100}, {"name": "train", "state": "Running", "percent": 42}
    reader.run["status"]["stages"] = [done, trains | {"etaSeconds": 190}]
    refused = chat()
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert refused.stderr.splitlines() == [
        "CompiledAgent shop is not ready to talk: phase Compiling, run shop-1, stage train: Running 42%, about 3m 10s left.",
        "Compiling: run shop-1: train 42%",
        "Follow it with: subterra watch shop --namespace demo",
    ]


def test_an_agent_that_was_just_applied_says_so(reader: FakeReader) -> None:
    reader.agent["status"] = {}
    refused = chat()
    assert (refused.exit_code, refused.stderr.splitlines()[0]) == (1, "CompiledAgent shop is not ready to talk: phase Pending.")


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (
            {"conditions": [SERVES | {"status": "False", "reason": "NotServing", "message": "no replica is ready"}]},
            "NotServing: no replica",
        ),
        (
            {"replicas": 0, "conditions": [SERVES | {"message": "version 1a is scaled to zero"}]},
            "Serving: version 1a is scaled to zero",
        ),
    ],
)
def test_an_agent_without_a_ready_pod_says_why(change: Object, why: str, reader: FakeReader) -> None:
    reader.agent["status"] |= change
    refused = chat()
    assert refused.exit_code == 1
    assert f"\n{why}" in refused.stderr
    assert "subterra watch shop --namespace demo" in refused.stderr


def test_an_agent_that_does_not_exist_is_named_with_the_namespace(reader: FakeReader) -> None:
    refused = chat(name="shoop")
    assert refused.exit_code == 1
    assert refused.stderr.startswith("CompiledAgent shoop not found in namespace demo; `kubectl get compiledagents")


def test_the_port_is_the_agents_own_unless_another_is_given(
    reader: FakeReader, served: FakeLLMApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    ports: list[int] = []

    @contextmanager
    def forwarded(target: ClusterTarget, service: str, port: int) -> Iterator[str]:
        ports.append(port)
        yield served.url

    monkeypatch.setattr(cluster, "port_forward", forwarded)
    chat()
    reader.agent["spec"]["serving"] = {"port": 9000}
    chat()
    chat("--port", "7000")
    assert ports == [8000, 9000, 7000]
