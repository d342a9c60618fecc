"""How long a compiled agent's reply may be."""

import pytest

from subterra_jobs.dialogue.turn_limit import TURN_TOKENS, max_reply_tokens
from subterra_testkit.procedures import agent, end, procedure, user


@pytest.mark.parametrize(
    ("step", "tokens"),
    [("What do you want?", TURN_TOKENS), ("What do you want? " * 40, 720), ("ご希望の日時をお知らせください。" * 10, 480)],
)
def test_no_tokenizer_cuts_a_step_even_with_a_token_for_each_byte(step: str, tokens: int) -> None:
    spec = procedure(agent("hello", "ask", examples=[step]), user("ask", "bye"), end())
    assert max_reply_tokens(spec) == tokens
