"""The split: every flowchart is trained whole, and held-out loss is never about what was not trained."""

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import asdict
from functools import cache

import pytest

from subterra_api.job_contract.messages import Generation
from subterra_api.v1alpha1.compilerun import Provider
from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_core.procedure.graph import Graph
from subterra_jobs.generate.plan.conversation_spec import ConversationSpec
from subterra_jobs.generate.plan.coverage import measure_coverage
from subterra_jobs.generate.plan.path_space import PathSpace, ngrams_of
from subterra_jobs.generate.plan.plan import plan_conversations, train_whole
from subterra_testkit.procedures import Json, agent, end, procedure, user
from subterra_testkit.runs.generation_inputs import example

SIZES = (20, 200, 800)
PLANS_OF_EXAMPLES = {
    "travel 42 60 10": "c681bfdae10fa819",
    "travel 42 200 1": "4732bb1575984d90",
    "travel 42,43 200 10": "35fba8322e32df49",
    "travel 7 2125 10": "ec5b8b21c0bc7a50",
    "zoom 42 20 10": "86e2e9a1246b5468",
    "zoom 1 200 30": "d32eaa280dfa2380",
    "zoom 42,43 1000 10": "256f069c538e00f2",
    "insurance 42 20 10": "9d09c82f6f18e03d",
    "insurance 7 200 10": "f90819568bc6225a",
    "insurance 42,43 400 10": "e3d3f5ffaabb44c8",
    "insurance 1 2125 10": "ba1ceaa1c9ecbc22",
}
"""Digest of a plan by example, seeds, conversations and `heldOutPercent`. Teachers have been paid for these conversations."""


def asks(node: str, yes: str, no: str, /, **weights: int) -> list[Json]:
    """A yes/no question and its answer."""
    ways = [
        {"to": to, "when": f"The customer says {word}.", "examples": [f"{word.title()}."], "weight": weights.get(word, 1)}
        for word, to in (("yes", yes), ("no", no))
    ]
    return [agent(f"ask_{node}", node, examples=[f"Is {node} fine?"]), user(node, *ways)]


def ladder() -> ProcedureSpec:
    """Three questions one after the other; each is left by an ending of its own, the last one rarely."""
    nodes = [*asks("power", "ask_cable", "socket"), *asks("cable", "ask_lamp", "plug")]
    nodes += asks("lamp", "works", "shop", no=1, yes=100)
    return procedure(*nodes, *map(end, ["socket", "plug", "shop", "works"]), start="ask_power")


def tree() -> ProcedureSpec:
    """Seven questions as a binary tree: eight endings, one path to each."""
    names = [f"q{number}" for number in range(1, 16)]
    questions = [asks(f"q{number}", *(_question(2 * number + side) for side in (0, 1))) for number in range(1, 8)]
    return procedure(*(node for pair in questions for node in pair), *map(end, names[7:]), start="ask_q1")


def _question(number: int) -> str:
    return f"ask_q{number}" if number < 8 else f"q{number}"


def joined() -> ProcedureSpec:
    """Eleven symptoms in a row, each mended on the way or not, then three endings: 40 nodes, thousands of paths."""
    nodes: list[Json] = []
    for number in range(11):
        after = f"ask_s{number + 1}" if number < 10 else "ask_last"
        nodes += [*asks(f"s{number}", after, f"mend{number}"), agent(f"mend{number}", after)]
    nodes += [*asks("last", "ask_happy", "human"), *asks("happy", "bye", "complaint")]
    return procedure(*nodes, *map(end, ["human", "bye", "complaint"]), start="ask_s0")


def retrying() -> ProcedureSpec:
    """A fix that may be tried again, twice, before a person takes over."""
    nodes = [*asks("restarted", "solved", "ask_model"), *asks("model", "ask_restarted", "human", yes=9)]
    return procedure(*nodes, end("solved"), end("human", outcome="escalation"), start="ask_restarted")


CHARTS: list[Callable[[], ProcedureSpec]] = [ladder, tree, joined, retrying]


PAID = Provider(name="anthropic", model="claude-sonnet-4-5")
"""Plans of paid teachers must stay as they are."""


@cache
def plan_of(chart: Callable[[], ProcedureSpec], count: int, seed: int = 42) -> list[ConversationSpec]:
    """A plan for a chart, made once for all tests; none of them changes it."""
    return plan_for(chart(), count, (seed,))


def plan_for(spec: ProcedureSpec, count: int, seeds: tuple[int, ...] = (42,), percent: int = 10) -> list[ConversationSpec]:
    return plan_conversations(spec, Generation(teacher=PAID, conversations=count, seeds=seeds, held_out_percent=percent))


def trained(plan: list[ConversationSpec]) -> set[tuple[str, ...]]:
    return {ngram for planned in plan if planned.is_training for ngram in ngrams_of(planned.path)}


@pytest.mark.parametrize("count", SIZES)
@pytest.mark.parametrize("chart", CHARTS)
def test_a_chart_without_variables_is_trained_on_every_node_edge_pair_and_ending(
    chart: Callable[[], ProcedureSpec], count: int
) -> None:
    possible = PathSpace(Graph(chart())).ngrams.keys()
    for seed in (1, 42):
        assert possible <= trained(plan_of(chart, count, seed))


@pytest.mark.parametrize("count", SIZES)
@pytest.mark.parametrize("chart", CHARTS)
def test_something_is_held_out_of_every_chart_and_never_a_step_that_is_not_trained(
    chart: Callable[[], ProcedureSpec], count: int
) -> None:
    for seed in (1, 42):
        plan = plan_of(chart, count, seed)
        held_out = [planned for planned in plan if planned.held_out]
        assert 1 <= len(held_out) <= max(3, 0.2 * count)
        assert {ngram for planned in held_out for ngram in ngrams_of(planned.path)} <= trained(plan)


@pytest.mark.parametrize("chart", CHARTS)
def test_endings_of_a_chart_without_variables_have_their_shares(chart: Callable[[], ProcedureSpec]) -> None:
    found = measure_coverage(Graph(chart()), plan_of(chart, SIZES[-1]))
    assert all(count >= found.shares[ending] * found.conversations for ending, count in found.terminals.items())


@pytest.mark.parametrize("chart", CHARTS)
def test_a_scenario_is_on_both_sides_only_where_its_held_out_conversations_are_marked_as_copies(
    chart: Callable[[], ProcedureSpec],
) -> None:
    plan = plan_for(chart(), 200, (1, 2))
    sides: defaultdict[str, Counter[tuple[bool, bool]]] = defaultdict(Counter)
    for planned in plan:
        sides[planned.scenario][planned.held_out, planned.copy] += 1
    for counts in sides.values():
        assert counts[False, True] == 0
        assert not (counts[True, False] and counts[False, False])
        assert not (counts[True, True] and not counts[False, False])


def test_a_chart_with_a_single_path_holds_out_copies_of_it() -> None:
    line = procedure(agent("hello", "say"), user("say", {"to": "bye"}), end())
    plan = plan_for(line, 20)
    assert [planned.copy for planned in plan if planned.held_out] == [True] * 3


def test_a_path_that_training_can_do_without_is_held_out_whole_before_copies_are() -> None:
    plan = plan_of(joined, 200)
    whole = [planned for planned in plan if planned.held_out and not planned.copy]
    assert whole
    assert not {planned.scenario for planned in whole} & {planned.scenario for planned in plan if planned.is_training}


def test_no_path_takes_more_conversations_from_training_than_are_to_be_held_out() -> None:
    for seed in range(5):
        plan = plan_for(retrying(), 300, (seed,))
        assert max(Counter(planned.scenario for planned in plan if planned.held_out).values()) <= 30


def test_of_a_plan_too_small_to_be_whole_the_conversation_is_held_out_that_training_misses_least() -> None:
    plan = plan_for(tree(), 8)
    assert sum(planned.held_out for planned in plan) == 1
    assert len({planned.path[-1] for planned in plan if planned.is_training}) == 7


def test_what_a_small_plan_cannot_train_is_named_with_its_reason() -> None:
    spec = tree()
    found = measure_coverage(Graph(spec), plan_for(spec, 7))
    assert set(found.untrained.values()) == {"too few conversations; raise generation.conversations"}
    assert "not trained: node " in found.message
    rows = {tuple(row["nodes"]): row["why"] for row in found.to_dict()["untrained"]}
    assert rows == found.untrained
    assert "untrained" not in measure_coverage(Graph(spec), plan_for(spec, 200)).to_dict()


def test_what_only_held_out_conversations_have_left_after_drops_is_trained_on() -> None:
    plan = plan_of(joined, 200)
    lost = next(planned for planned in plan if planned.held_out and not planned.copy)
    pair = lost.path[4:7]
    left = [planned for planned in plan if planned.held_out or pair not in ngrams_of(planned.path)]
    assert pair not in trained(left)
    split = train_whole(Graph(joined()), left)
    assert pair in trained(split)
    assert any(planned.held_out for planned in split)
    assert train_whole(Graph(joined()), plan) == plan


@pytest.mark.parametrize("settings", PLANS_OF_EXAMPLES)
def test_plans_that_trained_everything_before_are_what_they_were(settings: str) -> None:
    name, seeds, count, percent = settings.split()
    spec = example(name).model_copy(update={"style": None})  # a procedure with a style has other plans
    plan = plan_for(spec, int(count), tuple(map(int, seeds.split(","))), int(percent))
    fields = ("id", "seed", "path", "values", "scenario", "held_out", "customer", "audited")
    rows = [[found[field] for field in fields] for found in map(asdict, plan)]
    assert [row[6].pop("challenge") for row in rows] == [None] * len(plan)
    assert hashlib.sha256(json.dumps(rows, sort_keys=True).encode()).hexdigest()[:16] == PLANS_OF_EXAMPLES[settings]
    assert not any(each.copy for each in plan)
