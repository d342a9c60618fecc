"""Which effort a request carries, what it changes, and that nothing changes for models that do not think."""

import pytest
from pydantic import ValidationError

from subterra_api.v1alpha1.compilerun import Provider
from subterra_jobs.evaluate.judge.llm_judge import judge_fingerprint
from subterra_jobs.evaluate.simulate.user_simulator import simulator_fingerprint
from subterra_jobs.generate.write.turn_keys import turns_path
from subterra_jobs.llm.behavior.thinking import EffortError, sent_effort, thinking_of
from subterra_jobs.stage.runner import unexpected_failure


def provider(name: str, model: str, **more: object) -> Provider:
    return Provider.model_validate({"name": name, "model": model, **more})


GOLDEN = {
    ("anthropic", "claude-sonnet-4-6"): ("fe9f83e802ea5778d2e19f92a0aaa1f7", "3caed69c4a73", "4244a016573e2cb75519a76b8774f756"),
    ("anthropic", "claude-sonnet-4-5"): ("2157b25e5023435951a060d5d4bc9c2b", "cf9e9cf89c2c", "f5898f3ca4a1a083e4629c07bb6265ab"),
    ("openai", "gpt-4.1"): ("59bffc6d768bb930823d8876ce8f76b5", "559780eb1573", "488c8f694c7a3455dbcfc184893d6b86"),
    ("openai", "nobody"): ("955de53a15ce2c157dcde29dfbe992be", "616b22ecdcde", "65acbe6eda51c568a2707d11857697ce"),
}


@pytest.mark.parametrize("model", list(GOLDEN))
def test_keys_and_fingerprints_of_models_that_do_not_think_are_golden(model: tuple[str, str]) -> None:
    """A key that changes makes users pay again."""
    turns, judge, simulator = GOLDEN[model]
    named = provider(*model)
    assert (turns_path(named), judge_fingerprint(named), simulator_fingerprint(named)) == (f"turns/{turns}", judge, simulator)


def test_the_effort_is_in_the_keys_of_requests_that_carry_it() -> None:
    named = [provider("anthropic", "claude-sonnet-5-5", effort=effort) for effort in (None, "low", "medium")]
    for key in (turns_path, judge_fingerprint, simulator_fingerprint):
        least, same, other = map(key, named)
        assert least == same != other  # the default is the least, whoever says so


@pytest.mark.parametrize(
    ("name", "model", "effort"),
    [
        ("anthropic", "claude-sonnet-5-5", "low"),
        ("openai", "gpt-6-luna", "none"),
        ("anthropic", "claude-sonnet-4-6", None),
        ("openai", "gpt-4.1", None),
        ("openai", "nobody", None),
    ],
)
def test_the_default_effort_is_the_least_of_a_model_that_thinks(name: str, model: str, effort: str | None) -> None:
    assert sent_effort(provider(name, model)) == effort


def test_a_model_behind_an_address_of_its_own_is_not_the_hosted_one() -> None:
    assert sent_effort(provider("openai", "gpt-6-luna", baseURL="http://vllm/v1")) is None


def test_room_grows_with_the_effort_and_never_beyond_the_models_limit() -> None:
    rooms = [thinking_of(provider("openai", "gpt-6-luna", effort=effort)).room for effort in ("none", "low", "medium", "high")]
    assert rooms == [0, 4096, 8192, 16384]
    thinking = thinking_of(provider("anthropic", "claude-sonnet-5-5"))
    assert (thinking.more(4096), thinking.more(60_000)) == (16_384, 64_000)


@pytest.mark.parametrize(
    ("model", "effort", "fix"),
    [("gpt-4.1", "low", "remove it"), ("gpt-6.1-sol", "none", "use one of: low, medium, high, xhigh, max")],
)
def test_an_effort_that_the_model_does_not_allow_is_refused_with_those_that_it_does(model: str, effort: str, fix: str) -> None:
    with pytest.raises(EffortError, match=fix):
        thinking_of(provider("openai", model, effort=effort))


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "anthropic", "model": "m", "extraBody": {"top_k": 1}},
        {"name": "openai", "model": "m", "baseURL": "http://vllm/v1", "extraBody": {"max_tokens": 9999}},
        {"name": "openai", "model": "m", "effort": "most"},
    ],
)
def test_settings_that_could_change_what_a_call_costs_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Provider.model_validate(wrong)


def test_a_status_has_neither_terminal_codes_nor_a_traceback() -> None:
    raised = TypeError(
        "\x1b[36mray::LLMWorker.write()\x1b[39m\nTraceback (most recent call last):\n  File ...\nTypeError: no choices"
    )
    assert unexpected_failure(raised) == "TypeError: no choices"
    assert unexpected_failure(ValueError("\x1b[31mkey\x1b[0m")) == "ValueError: key"
