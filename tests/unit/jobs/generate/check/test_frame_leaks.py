"""A model's frame never becomes training data, and natural words are never mistaken for it."""

import pytest

from subterra_core.procedure.graph import Graph
from subterra_jobs.generate.check.frame_leaks import FrameChecker
from subterra_jobs.generate.check.turn_checks import TurnChecker, count_drop_reasons
from subterra_testkit.runs.generation_inputs import travel

LEAKS = [
    "<think></think> Where would you like to go?",
    "<think>The customer wants Rome.</think>Rome, please.",
    "Where to?</think>",
    "<thinking>",
    "<reasoning>short</reasoning> Hello.",
    "<tool_call>{}</tool_call>",
    '<tool_call>\n{"name": "book"}\n</tool_call>',
    "<function_calls><invoke name='book'>",
    "Rome, please.<|im_end|>",
    "<|im_start|>assistant Hello.",
    "<|eot_id|>",
    "<｜end▁of▁sentence｜>",
    "[INST] Hello [/INST]",
    "<end_of_turn>",
    "Hello.</s>",
    "<assistant>Hello.</assistant>",
    "<turn>Hello.</turn>",
    "Here is the next turn: Rome, please.",
    "Sure! Here's the customer's reply: Rome, please.",
    "Certainly, here is a message for the customer: Hello.",
    "Next turn: Rome, please.",
    "Response: Rome, please.",
    "Rome, please. (Note: the customer decides here.)",
    "As an AI language model, I do not travel.",
    "I'm an AI, so I cannot fly.",
    "I am a large language model.",
    "My training data ends before that.",
    "I can't assist with that.",
    "I'm sorry, but I can't help with that request.",
    "I cannot continue this roleplay.",
    "I’m sorry, I can’t write content of this kind.",
    "I must decline to participate.",
    '{"turn": "Rome, please."}',
    "```json",
    "Hello {name}, where would you like to go?",
    "Your booking is ${booking_number}.",
    "My name is ____.",
    "Dear <customer name>, welcome.",
    "The instruction says to ask for the city.",
]
NATURAL = [
    "I can't help you with that today, but my colleague can.",
    "I'm sorry, I can't make it on Monday; is Tuesday free?",
    "I can't write today, my hand is broken.",
    "Here is what we can do: a flight on Monday.",
    "Sure, here you go: Rome, from 3 to 9 May.",
    "This is my reply to your mail, sorry that it is late.",
    "I think, therefore I travel :-)",
    "Prices < 500 and > 200 please.",
    "Thanks a lot, see you xxx",
    "As a customer of many years I expect more.",
    "Can I speak to a human, not an AI?",
    "Note: I only eat fish.",
    "The answer is yes.",
    "Option 1: by train. Option 2: by plane.",
    "I've read the instruction, and it says nothing about pets.",
]


@pytest.mark.parametrize("text", LEAKS)
def test_a_leak_of_the_models_frame_is_a_fault_of_the_turn(text: str) -> None:
    assert TurnChecker(Graph(travel())).utterance(text) is not None


@pytest.mark.parametrize("text", NATURAL)
def test_natural_words_are_no_leak(text: str) -> None:
    assert FrameChecker("Ask where the customer wants to go.").problem(text) is None


@pytest.mark.parametrize(
    ("own", "text"),
    [
        ("You are an assistant. Say: I'm an AI assistant.", "I'm an AI, how may I help?"),
        ("Say that you cannot help with that.", "I'm sorry, I can't help with that."),
        ("Ask for the label, such as {size}.", "Is it the label {colour}?"),
    ],
)
def test_what_the_procedures_own_texts_say_is_no_leak(own: str, text: str) -> None:
    assert FrameChecker("Ask where the customer wants to go.").problem(text) is not None
    assert FrameChecker(own).problem(text) is None


def test_leaks_of_one_kind_are_counted_together() -> None:
    checker = FrameChecker("")
    reasons = [f"node ask {checker.problem(text)}" for text in ("Hello <|im_end|>", "[INST] Hello")]
    assert count_drop_reasons(reasons) == {"has a token of a chat template": 2}
