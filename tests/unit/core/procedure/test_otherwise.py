"""What the agent says where the flowchart has no words: the author's texts, else defaults that only refuse."""

import pytest
from pydantic import ValidationError

from subterra_core.procedure.otherwise import UNKNOWN_VALUE, OtherwiseKind, otherwise_texts
from subterra_core.procedure.template import render, variables_of
from subterra_testkit.procedures import agent, end, procedure

NODES = (agent("hello", "bye"), end())
KINDS: tuple[OtherwiseKind, ...] = ("offTopic", "unknownValue", "afterEnd")
each = pytest.mark.parametrize("kind", KINDS)


@each
def test_a_procedure_without_words_of_its_own_gets_defaults(kind: OtherwiseKind) -> None:
    texts = otherwise_texts(procedure(*NODES), kind)
    assert 2 <= len(set(texts)) == len(texts) <= 3


@each
def test_the_authors_words_replace_the_defaults_of_their_kind_only(kind: OtherwiseKind) -> None:
    plain, spec = procedure(*NODES), procedure(*NODES, otherwise={kind: ["My words."]})
    assert otherwise_texts(spec, kind) == ("My words.",)
    assert all(otherwise_texts(spec, other) == otherwise_texts(plain, other) for other in KINDS if other != kind)


def test_no_two_default_answers_are_alike() -> None:
    texts = [text for kind in KINDS for text in otherwise_texts(procedure(*NODES), kind)]
    assert len(set(texts)) == len(texts)


@pytest.mark.parametrize("value", ["aspirin", "XXL", "a room with a view", "Red Shoes 3000"])
def test_every_default_answer_to_an_unknown_value_names_it_and_refuses_it(value: str) -> None:
    for text in otherwise_texts(procedure(*NODES), "unknownValue"):
        said = render(text, {UNKNOWN_VALUE: value})
        assert value in said
        assert "can't" in said or "not" in said


def test_only_answers_to_an_unknown_value_have_a_placeholder() -> None:
    spec = procedure(*NODES)
    used = {kind: {name for text in otherwise_texts(spec, kind) for name in variables_of(text)} for kind in KINDS}
    assert used == {"offTopic": set(), "unknownValue": {UNKNOWN_VALUE}, "afterEnd": set()}


@pytest.mark.parametrize("texts", [[""], ["Sorry."] * 21, ["x" * 1001], "Sorry."])
def test_empty_endless_or_too_many_answers_are_no_valid_procedure(texts: object) -> None:
    with pytest.raises(ValidationError):
        procedure(*NODES, otherwise={"offTopic": texts})
