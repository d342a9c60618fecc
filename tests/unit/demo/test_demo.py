"""The demo's own check of a conversation can say yes and no."""

import random

from subterra_cli.lint import load
from subterra_core.procedure.graph import Graph
from subterra_demo.replay import replay
from subterra_demo.travellers import load as load_travellers
from subterra_jobs.dialogue.scripted import messages, write
from subterra_testkit.repository import ROOT

PROCEDURE = load(ROOT / "examples/travel/procedure.yaml")
GRAPH = Graph(PROCEDURE)


def perfect_replies(number: int) -> list[str]:
    traveller = load_travellers()[number]
    chat = messages("", None, write(GRAPH, traveller.path, traveller.values, random.Random(1)))
    return [message["content"] for message in chat if message["role"] == "assistant"]


def test_an_agent_that_keeps_to_the_procedure_is_conformant() -> None:
    for number, traveller in enumerate(load_travellers()):
        found = replay(PROCEDURE, traveller, perfect_replies(number))
        assert found.conformant, found.summary
        assert f"to {traveller.path[-1]}" in found.summary


def test_a_skipped_turn_is_named() -> None:
    replies = perfect_replies(0)
    found = replay(PROCEDURE, load_travellers()[0], [*replies[:1], *replies[2:], replies[-1]])
    assert (found.conformant, found.summary.split(";")[0]) == (
        False, "after trip the agent should say ask_budget, but said options")  # fmt: skip


def test_nonsense_is_not_conformant() -> None:
    found = replay(PROCEDURE, load_travellers()[0], ["Lorem ipsum."] * 6)
    assert "something unrecognisable" in found.summary
