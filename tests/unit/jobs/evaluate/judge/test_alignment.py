"""Guesses about turns become one reading: what is right stays right, slips are mended, and what the agent did wrong stays wrong."""

import random
from collections.abc import Sequence

import pytest

from subterra_core.procedure.graph import Graph, Path
from subterra_jobs.dialogue.sampling import fit_values_to_path, sample_path, sample_values
from subterra_jobs.dialogue.similarity.closest_examples import CandidateLabel
from subterra_jobs.evaluate.judge.alignment import Alignment, LabelledTurn, align
from subterra_jobs.evaluate.judge.conformance import Replay, prescribed_turns, replay
from subterra_testkit.procedures import agent, end, procedure, user
from subterra_testkit.runs.generation_inputs import example

EXAMPLES = {name: Graph(example(name)) for name in ("travel", "zoom", "insurance")}
DIRECT: Path = ("greet", "ask_trip", "trip", "ask_budget", "budget", "options", "choice", "confirm", "confirmation", "booked")
TRAVEL = EXAMPLES["travel"]


def heard(graph: Graph, path: Path) -> list[LabelledTurn]:
    """A path's turns as a labeller without fault hears them."""
    turns: list[LabelledTurn] = []
    for place, node in enumerate(path):
        role = graph.nodes[node].role
        to = path[place + 1] if place + 1 < len(path) else None
        if turns and turns[-1].role == role:
            turns[-1] = LabelledTurn(role, (CandidateLabel((*turns[-1].candidates[0].nodes, node), to),))
        else:
            turns.append(LabelledTurn(role, (CandidateLabel((node,), to),)))
    return turns


def scene(graph: Graph, seed: int) -> tuple[Path, dict[str, str], random.Random]:
    rng = random.Random(seed)
    path = sample_path(graph, rng)
    return path, fit_values_to_path(graph, path, sample_values(graph.spec.variables, rng, unseen=False), rng), rng


def agents(turns: Sequence[LabelledTurn]) -> list[int]:
    return [at for at, turn in enumerate(turns) if turn.role == "agent"]


def judged(graph: Graph, values: dict[str, str], turns: Sequence[LabelledTurn]) -> tuple[Alignment, Replay]:
    found = align(graph, values, turns)
    return found, replay(graph, found.path, values, found.labels)


def other_step(graph: Graph, due: tuple[str, ...], rng: random.Random) -> tuple[str, ...]:
    """A step of the agent that is not the one that is due, nor a part of it."""
    return (rng.choice([node.id for node in graph.spec.nodes if node.role == "agent" and node.id not in due]),)


@pytest.mark.parametrize("name", EXAMPLES)
def test_what_was_heard_rightly_is_read_as_it_was(name: str) -> None:
    graph = EXAMPLES[name]
    for seed in range(60):
        path, values, _ = scene(graph, seed)
        found, seen = judged(graph, values, heard(graph, path))
        assert found.path == path
        assert seen.conformant


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_wrong_step_of_the_agent_is_found_where_it_is(name: str) -> None:
    graph, missed = EXAMPLES[name], []
    for seed in range(60):
        path, values, rng = scene(graph, seed)
        turns = heard(graph, path)
        at = rng.choice(agents(turns))
        wrong = other_step(graph, turns[at].candidates[0].nodes, rng)
        _, seen = judged(graph, values, [*turns[:at], LabelledTurn("agent", (CandidateLabel(wrong),)), *turns[at + 1 :]])
        hit = seen.violation is not None and seen.violation.turn == agents(turns).index(at) and seen.violation.got == wrong
        missed += [] if hit else [(seed, at, wrong, seen.violation)]
    assert missed == []


@pytest.mark.parametrize("name", EXAMPLES)
def test_one_slip_of_the_labeller_with_the_right_second_guess_is_mended(name: str) -> None:
    graph = EXAMPLES[name]
    for seed in range(60):
        path, values, rng = scene(graph, seed)
        turns = heard(graph, path)
        at = rng.choice(agents(turns))
        right = turns[at].candidates[0]
        slip = LabelledTurn("agent", (CandidateLabel(other_step(graph, right.nodes, rng)), right))
        found, seen = judged(graph, values, [*turns[:at], slip, *turns[at + 1 :]])
        assert found.path == path, seed
        assert seen.conformant


def test_a_misheard_decision_is_mended_by_what_follows() -> None:
    turns = heard(TRAVEL, DIRECT)
    at = next(at for at, turn in enumerate(turns) if turn.candidates[0].nodes == ("choice",))
    wrong, right = CandidateLabel(("choice",), "alternatives"), CandidateLabel(("choice",), "confirm")
    found, seen = judged(TRAVEL, {}, [*turns[:at], LabelledTurn("user", (wrong, right)), *turns[at + 1 :]])
    assert (found.path, seen.conformant) == (DIRECT, True)
    found, seen = judged(TRAVEL, {}, [*turns[:at], LabelledTurn("user", (CandidateLabel(("choice",)),)), *turns[at + 1 :]])
    assert (found.path, seen.conformant) == (DIRECT, True)


@pytest.mark.parametrize(("cost", "conformant"), [(2.9, True), (3.1, False)])
def test_the_flowchart_overrules_candidates_up_to_the_cost_of_an_illegal_step(cost: float, conformant: bool) -> None:
    turns = heard(TRAVEL, DIRECT)
    right = turns[-1].candidates[0]
    unsure = LabelledTurn("agent", (CandidateLabel(("handover",)), right), (0.0, cost))
    found, seen = judged(TRAVEL, {}, [*turns[:-1], unsure])
    assert (found.turns[-1] == CandidateLabel(("booked",)), seen.conformant) == (conformant, conformant)


def test_a_decision_that_the_agent_did_not_follow_is_the_agents_fault() -> None:
    turns = heard(TRAVEL, DIRECT)
    at = next(at for at, turn in enumerate(turns) if turn.candidates[0].nodes == ("choice",))
    # The customer accepts; the agent offers alternatives, and the customer, asked again, accepts again.
    again = [LabelledTurn("agent", (CandidateLabel(("alternatives",)),)), turns[at]]
    found, seen = judged(TRAVEL, {}, [*turns[: at + 1], *again, *turns[at + 1 :]])
    assert found.path == DIRECT
    assert seen.violation is not None
    assert (seen.violation.hub, seen.violation.expected, seen.violation.got) == ("choice", ("confirm",), ("alternatives",))


def test_a_reply_that_is_no_step_is_a_violation() -> None:
    turns = heard(TRAVEL, DIRECT)
    _, seen = judged(TRAVEL, {}, [*turns[:2], LabelledTurn("agent"), *turns[3:]])
    assert seen.violation is not None
    assert (seen.violation.turn, seen.violation.got) == (1, ())


def test_a_question_back_that_is_answered_by_the_same_step_is_beside_the_path() -> None:
    turns = heard(TRAVEL, DIRECT)
    found, seen = judged(TRAVEL, {}, [*turns[:1], LabelledTurn("user"), turns[0], *turns[1:]])
    assert (found.path, seen.conformant) == (DIRECT, True)
    assert found.turns[1] is None
    assert found.turns[2] == CandidateLabel(("greet", "ask_trip"))


def test_the_customers_opener_and_thanks_after_the_end_are_no_steps() -> None:
    found, seen = judged(TRAVEL, {}, [LabelledTurn("user"), *heard(TRAVEL, DIRECT), LabelledTurn("user"), LabelledTurn("agent")])
    assert (found.path, seen.conformant) == (DIRECT, True)


def test_a_conversation_that_stops_on_the_way_is_not_conformant_and_its_path_still_ends() -> None:
    found, seen = judged(TRAVEL, {}, heard(TRAVEL, DIRECT)[:3])
    assert found.path[: len(DIRECT[:4])] == DIRECT[:4]
    assert not TRAVEL.nodes[found.path[-1]].next
    assert (seen.conformant, seen.reached) == (False, None)


def test_nothing_that_was_heard_is_a_path_on_which_the_agent_said_nothing() -> None:
    found, seen = judged(TRAVEL, {}, [])
    assert found.turns == ()
    assert not seen.conformant
    assert prescribed_turns(TRAVEL, found.path)


def test_an_ending_uttered_too_early_is_a_violation() -> None:
    turns = heard(TRAVEL, DIRECT)
    _, seen = judged(TRAVEL, {}, [*turns[:2], turns[-1]])
    assert seen.violation is not None
    assert seen.reached == "booked"
    assert not seen.arrived


def test_any_guesses_about_any_turns_are_read_somehow() -> None:
    graph = Graph(procedure(agent("hello", "ask"), user("ask", "yes", "no"), agent("yes", "ask"), end("no")))
    rng = random.Random(7)
    for _ in range(300):
        turns = []
        for at in range(rng.randrange(9)):
            role, names = (("agent", ["hello", "yes", "no"]), ("user", ["ask"]))[at % 2]
            guesses = [CandidateLabel((rng.choice(names),), rng.choice([None, "yes", "no"])) for _ in range(rng.randrange(3))]
            turns.append(LabelledTurn(role, tuple(guesses)))  # type: ignore[arg-type]
        found = align(graph, {}, turns)
        assert len(found.turns) == len(turns)
        assert not graph.nodes[found.path[-1]].next
