"""A fact that the client learns during a conversation reaches the model as if it had been known from the start."""

import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment

from subterra_jobs.dialogue.sampling import system_message
from subterra_jobs.train.model.chat_template import chat_template
from subterra_testkit.procedures import PLAN, agent, end, procedure

SPEC = procedure(agent("hello", "bye"), end(), variables=[PLAN, {"name": "limit", "visibility": "context", "values": ["$500"]}])
SAID = [
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "What is your name?"},
    {"role": "user", "content": "Ada"},
]
TRAINED = [{"role": "system", "content": system_message(SPEC, {"plan": "Free", "limit": "$500"})}, *SAID]


def fact(line: str) -> dict[str, str]:
    return {"role": "system", "content": line}


def rendered(messages: list[dict[str, str]]) -> str:
    """The text that vLLM gives to the model: transformers renders with these settings."""
    template = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True).from_string(chat_template(SPEC.system_prompt))
    return template.render(messages=messages, add_generation_prompt=True)


@pytest.mark.parametrize(
    "request_messages",
    [
        [fact("plan: Free\nlimit: $500"), *SAID],
        [fact("plan: Free"), *SAID, fact("limit: $500")],
        [fact("plan: Free"), *SAID[:2], fact("limit: $500"), *SAID[2:]],
        [*SAID, fact("plan: Free\nlimit: $500")],
        [fact(""), *SAID, fact("plan: Free\nlimit: $500\n")],
    ],
)
def test_wherever_lines_stand_the_model_reads_what_training_had(request_messages: list[dict[str, str]]) -> None:
    assert rendered(request_messages) == rendered(TRAINED)


def test_before_a_fact_is_known_its_line_is_missing() -> None:
    assert rendered([fact("plan: Free"), *SAID]) == rendered(TRAINED).replace("\nlimit: $500", "")


def test_lines_stand_in_the_order_in_which_they_are_sent() -> None:
    """So a client that learns a later fact first should put the lines in order when the other arrives."""
    assert "\nlimit: $500\nplan: Free<" in rendered([fact("limit: $500"), *SAID, fact("plan: Free")])


def test_an_old_value_stays_unless_the_client_replaces_its_line() -> None:
    assert "\nplan: Free\nplan: Pro<" in rendered([fact("plan: Free"), *SAID, fact("plan: Pro")])
