"""Lint answers a slip in a name with the name that exists, and does not guess otherwise."""

import time
from typing import Any

import pytest

from subterra_core.procedure.lint.analyse import analyse
from subterra_core.procedure.lint.findings import did_you_mean
from subterra_testkit.procedures import PLAN, after, agent, end, fact_hub, procedure, user, way

CITY: dict[str, Any] = {"name": "city", "values": ["Rome"]}
ASK = [agent("hello", "ask_city"), user("ask_city", "bye", "other"), end(), end("other")]
SLIPS: list[tuple[Any, str]] = [
    (lambda: procedure(*ASK, start="helo"), "there is no node 'helo'; set start to the id of a node; did you mean hello?"),
    (lambda: procedure(agent("hello", "askCity"), *ASK[1:]), "correct the edge; did you mean ask_city?"),
    (
        lambda: procedure(*ASK, anywhere=[{"to": "otter", "when": "Else."}]),
        "there is no node 'otter'; add that node or correct the edge; did you mean other?",
    ),
    (
        lambda: procedure(*ASK, anywhere=[{"to": "other", "when": "Else.", "except": ["ask-city"]}]),
        "correct it, or remove it from except; did you mean ask_city?",
    ),
    (
        lambda: procedure(*ASK, questions=[{"question": "Why?", "answer": "So.", "except": ["ask_ctiy"]}]),
        "correct it, or remove it from except; did you mean ask_city?",
    ),
    (
        lambda: procedure(*ASK[:2], agent("bye", after("end", "ask_cty", "bye")), end("other"), end("end")),
        "which is not a hub; name a node with several edges; did you mean ask_city?",
    ),
    (
        lambda: procedure(*ASK[:2], agent("bye", after("end", "ask_city", "othr")), end("other"), end("end")),
        "which is not a branch of ask_city; name targets of that hub's edges; did you mean other?",
    ),
    (
        lambda: procedure(fact_hub("hello", way("bye", "Pro"), way("other"), fact="plans"), *ASK[2:], variables=[PLAN]),
        "set fact to one of spec.variables; did you mean plan?",
    ),
    (
        lambda: procedure(agent("hello", "bye", examples=["In {{Citty}}."]), end(), variables=[CITY]),
        "uses {{Citty}}, which is not declared; add it to spec.variables or correct it; did you mean city?",
    ),
    (
        lambda: procedure(
            *ASK,
            variables=[
                {"name": "bill", "type": "integer", "minimum": 1, "maximum": 9},
                {"name": "offer", "type": "integer", "minimum": 1, "maximum": 9, "max": "{{bil}}"},
            ],
        ),
        "has max: {{bil}}, which is not declared; add it to spec.variables or correct it; did you mean bill?",
    ),
]


@pytest.mark.parametrize(("spec", "words"), SLIPS, ids=[words[-60:] for _, words in SLIPS])
def test_a_slip_in_a_name_is_answered_with_the_name_that_exists(spec: Any, words: str) -> None:
    assert [finding for finding in analyse(spec()).errors if str(finding).endswith(words)]


@pytest.mark.parametrize("name", ["nowhere", "step_10", "as", "a"])
def test_a_name_that_is_like_no_other_is_not_guessed(name: str) -> None:
    assert did_you_mean(name, ["ask", "step_1", "b"], "correct it") == "correct it"


def test_a_thousand_wrong_names_among_the_longest_take_no_time() -> None:
    known = [f"{'x' * 55}{number:04}{'yz' * 2}" for number in range(500)]
    began = time.process_time()
    assert all(did_you_mean(f"{name[:-1]}z{name[-1:]}", known, "fix").endswith(f"{name}?") for name in [*known, *known])
    assert time.process_time() - began < 3
