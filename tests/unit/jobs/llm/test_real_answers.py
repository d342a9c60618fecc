"""What providers and servers really send, in the forms that their own documents and bug reports show."""

import json
from decimal import Decimal
from typing import Any

import httpx
import openai
import pytest
from openai.types.chat import ChatCompletion

from subterra_core.pricing import TokenPrice
from subterra_jobs.errors import ProviderBlockedError
from subterra_jobs.llm.account import Account
from subterra_jobs.llm.batches.openai_batches import read_results
from subterra_jobs.llm.client import RefusedError, Response, refused_error
from subterra_jobs.llm.error_policy import classify
from subterra_jobs.llm.openai_client import read_completion

ACCOUNT = Account("generation.teacher", "openai", "m", TokenPrice(Decimal(1), Decimal(1), Decimal(1), Decimal(1)), "sk-secret")
QUOTA = "You exceeded your current quota, please check your plan and billing details."
CREDIT = "Your team has either used all available credits or reached its monthly spending limit."


def refused(status: int, body: Any) -> RefusedError:
    """The refusal that the SDK makes of an error's body."""
    response = httpx.Response(status, json=body, request=httpx.Request("POST", "https://llm"))
    inner = body["error"] if isinstance(body.get("error"), dict) else body
    return refused_error(openai.APIStatusError(f"Error code: {status} - {body}", response=response, body=inner), {})


def completion(content: Any, reason: str = "stop", **usage: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": content}
    return {"id": "1", "choices": [{"index": 0, "finish_reason": reason, "message": message}], "usage": usage or None}


def read(content: Any, reason: str = "stop", **usage: Any) -> Response:
    return read_completion(ChatCompletion.construct(**completion(content, reason, **usage)), {})


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"message": QUOTA, "type": "insufficient_quota", "param": None, "code": "insufficient_quota"}},
        {"code": "Some resource has been exhausted", "error": CREDIT},
        {"error": {"message": "Insufficient Balance", "type": "unknown_error", "code": "invalid_request_error"}},
    ],
)
def test_an_account_without_credit_is_known_by_the_code_or_the_words(body: dict[str, Any]) -> None:
    assert isinstance(classify(refused(429, body), ACCOUNT), ProviderBlockedError)


def test_a_limit_per_minute_is_waited_for_although_it_is_called_a_quota() -> None:
    gemini = {"error": {"code": 429, "message": QUOTA, "status": "RESOURCE_EXHAUSTED"}}
    assert classify(refused(429, gemini), ACCOUNT) is None


@pytest.mark.parametrize(
    ("usage", "output"),
    [
        ({"prompt_tokens": 20, "completion_tokens": 198, "total_tokens": 218}, 198),
        ({"prompt_tokens": 20, "completion_tokens": 198, "total_tokens": 623}, 603),  # Gemini, whose total alone has thinking
        (
            {
                "prompt_tokens": 20,
                "completion_tokens": 50,
                "total_tokens": 170,
                "completion_tokens_details": {"reasoning_tokens": 100},
            },
            150,
        ),
        ({"prompt_tokens": 20, "completion_tokens": 198}, 198),
    ],
)
def test_thinking_is_billed_as_output_also_where_only_the_total_has_it(usage: dict[str, Any], output: int) -> None:
    found = read("Hello.", **usage).usage
    assert found is not None
    assert (found.input, found.output) == (20, output)


@pytest.mark.parametrize(
    "content", ["<think>The customer waits.</think>\n\nHello.", "The customer waits.\n</think>\n\nHello.", "</think>Hello."]
)
def test_thinking_that_a_server_leaves_in_the_text_is_no_part_of_the_turn(content: str) -> None:
    assert (read(content).text, read(content).cut) == ("Hello.", None)


@pytest.mark.parametrize(
    ("sent", "kept"), [("Sunny \ud83d", "Sunny \ufffd"), ("Sunny \ud83d\ude00!", "Sunny 😀!"), ("Ça va 😀", "Ça va 😀")]
)
def test_half_a_character_is_replaced_and_no_other_is_changed(sent: str, kept: str) -> None:
    assert read(sent).text == kept


def test_results_of_a_batch_may_have_any_character_in_their_strings() -> None:
    body = completion("one\u2028two\u0085three")
    line = json.dumps({"custom_id": "a-0", "response": {"status_code": 200, "body": body}}, ensure_ascii=False)
    assert "\u2028" in line
    ((name, item),) = read_results(line + "\n")
    assert isinstance(item, Response)
    assert (name, item.text) == ("a-0", "one\u2028two\u0085three")
