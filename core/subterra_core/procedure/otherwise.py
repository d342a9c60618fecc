"""What the agent says when the customer says something for which the flowchart has no words: questions have answers. Pure."""

import re
from collections.abc import Iterator, Mapping
from typing import Literal

from subterra_api.v1alpha1.procedure import ProcedureSpec, Question

OtherwiseKind = Literal["offTopic", "unknownValue", "afterEnd"]
"""Something off the topic; a value that a closed variable does not list; anything after the end. Names of `spec.otherwise`."""
UNKNOWN_VALUE = "value"
"""In texts of `unknownValue`, the placeholder for what the customer named."""

_DEFAULTS: dict[OtherwiseKind, tuple[str, ...]] = {
    "offTopic": (
        "I'm sorry, I can't help with that here.",
        "I'm afraid that is outside what I can help with.",
        "Sorry, that is something I can't answer here.",
    ),
    "unknownValue": (
        "I'm sorry, {{value}} is not something I can offer.",
        "I'm afraid I can't offer {{value}} here.",
        "Sorry, {{value}} is not one of the options I have.",
    ),
    "afterEnd": ("This chat has ended. Thank you, and goodbye!", "We are at the end of this chat. Thank you, goodbye!"),
}
"""They only refuse: one that named a listed value could be taken for a confirmation of it. Those of `afterEnd` answer "Thanks!" as
well as "One more thing."."""
_FORMER_AFTER_END = ("You're welcome. Goodbye!", "Thank you, goodbye.", "Thanks, and goodbye!")
"""Defaults of earlier versions, which agents compiled then still say."""


def otherwise_texts(spec: ProcedureSpec, kind: OtherwiseKind) -> tuple[str, ...]:
    """The author's texts of this kind, else the defaults; those of `unknownValue` may contain `{{value}}`."""
    written: dict[OtherwiseKind, tuple[str, ...]] = {
        "offTopic": spec.otherwise.off_topic,
        "unknownValue": spec.otherwise.unknown_value,
        "afterEnd": spec.otherwise.after_end,
    }
    return written[kind] or _DEFAULTS[kind]


def recognized_otherwise_texts(spec: ProcedureSpec, kind: OtherwiseKind) -> tuple[str, ...]:
    """What counts as an answer of this kind: `otherwise_texts`, and what agents of earlier versions learnt in their place."""
    former = _FORMER_AFTER_END if kind == "afterEnd" and not spec.otherwise.after_end else ()
    return otherwise_texts(spec, kind) + former


UNKNOWN_QUESTION = "(unknown question)"
"""Stands for a question that has no answer; no question can have this name."""
UNKNOWN_PERCENT = 5
"""Percent of the conversations in which the customer asks something that has no answer."""
_UNKNOWN_ANSWERS = (
    "I'm sorry, I don't know that.",
    "I'm afraid I don't have an answer to that.",
    "Sorry, I have no information on that.",
)
_NAME_WORDS = 8


def asks_questions(spec: ProcedureSpec) -> bool:
    """Whether the customer may ask questions in between: there are some, or words for one that has no answer."""
    return bool(spec.questions or spec.otherwise.unknown_question)


def question_name(question: Question) -> str:
    """Its id, else the first words of what the customer wants to know."""
    return question.id or "-".join(re.findall(r"\w+", question.question.lower())[:_NAME_WORDS])


def questions_by_name(spec: ProcedureSpec) -> dict[str, Question]:
    """The questions, in the order of the list."""
    return {question_name(each): each for each in spec.questions}


def answer_texts(spec: ProcedureSpec, name: str) -> tuple[str, ...]:
    """The author's answers to a question, or what is said to one that has none, by default too."""
    if name == UNKNOWN_QUESTION:
        return spec.otherwise.unknown_question or _UNKNOWN_ANSWERS
    return (questions_by_name(spec)[name].answer,)


def question_percents(spec: ProcedureSpec) -> Mapping[str, int]:
    """For each question, the percent of the conversations in which it is asked; one without an answer is the last."""
    if not asks_questions(spec):
        return {}
    return {name: each.percent for name, each in questions_by_name(spec).items()} | {UNKNOWN_QUESTION: UNKNOWN_PERCENT}


def question_lines(spec: ProcedureSpec) -> Iterator[str]:
    """The questions and their answers for models, a line each below a heading; none for a procedure without any."""
    if not asks_questions(spec):
        return
    nodes = {node.id for node in spec.nodes}
    yield "At every step of the customer, the customer may ask one of these. The agent answers and asks again what it had asked:"
    for each in spec.questions:
        closed = [node for node in each.except_ if node in nodes]
        yield f"  {each.question} -> {each.answer}" + (f" (not at {', '.join(closed)})" if closed else "")
    yield f"  Any other question about the subject -> {answer_texts(spec, UNKNOWN_QUESTION)[0]}"
