"""The plan: what will be written is known before a word is."""

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from subterra_api.job_contract.messages import Generation
from subterra_api.v1alpha1.compilerun import Provider
from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_core.procedure.graph import Graph
from subterra_core.procedure.template import variables_of
from subterra_jobs.dialogue.phrasing.numbers_and_dates import spelled
from subterra_jobs.dialogue.sampling import held_out
from subterra_jobs.dialogue.scripted import chat_messages, scripted_utterances
from subterra_jobs.generate.check.turn_checks import conversation_problem
from subterra_jobs.generate.plan.conversation_spec import ConversationSpec
from subterra_jobs.generate.plan.coverage import measure_coverage
from subterra_jobs.generate.plan.path_space import ngrams_of
from subterra_jobs.generate.plan.plan import FLOOR, SCRIPTED_EDGE_SHARE, plan_conversations
from subterra_testkit.procedures import Json
from subterra_testkit.runs.generation_inputs import example, travel


@cache
def plan_for(
    procedure: ProcedureSpec, conversations: int = 200, seeds: tuple[int, ...] = (42,), held_out_percent: int = 10
) -> list[ConversationSpec]:
    """A plan, made once for all tests; none of them changes it."""
    settings = Generation(teacher=Provider(), conversations=conversations, seeds=seeds, held_out_percent=held_out_percent)
    return plan_conversations(procedure, settings)


def lopsided() -> ProcedureSpec:
    """Five endings, one of which chance picks once in a thousand conversations."""
    endings = ["a", "b", "c", "d", "rare"]
    edges = [{"to": end, "when": f"The customer wants {end}.", "weight": 1 if end == "rare" else 250} for end in endings]
    return ProcedureSpec.model_validate(
        {
            "systemPrompt": "You help.",
            "start": "ask",
            "variables": [{"name": "n", "type": "integer", "minimum": 0, "maximum": 9999}],
            "nodes": [
                {"id": "ask", "role": "agent", "prompt": "Ask.", "examples": ["What is it?"], "next": [{"to": "say"}]},
                {"id": "say", "role": "user", "prompt": "Say {{n}}.", "examples": ["{{n}}"], "next": edges},
                *({"id": end, "role": "agent", "prompt": "End.", "examples": ["Bye."], "outcome": "success"} for end in endings),
            ],
        }
    )


def training(plan: list[ConversationSpec]) -> list[ConversationSpec]:
    return [planned for planned in plan if not planned.held_out]


def unpiloted(plan: list[ConversationSpec]) -> list[ConversationSpec]:
    """Without the marks of the pilot, which is chosen from a whole plan."""
    return [replace(planned, audited=()) for planned in plan]


def test_the_same_settings_give_the_same_plan() -> None:
    assert plan_for(travel()) == plan_for.__wrapped__(travel())


def test_another_seed_gives_another_plan_and_seeds_concatenate() -> None:
    first, second = plan_for(travel(), seeds=(1,)), plan_for(travel(), seeds=(2,))
    assert [planned.path for planned in first] != [planned.path for planned in second]
    assert unpiloted(plan_for(travel(), seeds=(1, 2))) == unpiloted(first + second)


def test_every_edge_and_pair_of_edges_is_trained_on_at_least_three_times_even_in_a_small_dataset() -> None:
    plan = plan_for(travel(), 50)
    assert min(measure_coverage(Graph(travel()), plan).counts.values()) >= FLOOR


def test_a_scripted_teacher_gives_every_edge_a_share_and_a_paid_one_the_floor() -> None:
    insurance = example("insurance")
    rare = ("counter", "adjuster")  # a customer who turned the better offer down twice
    scripted = Generation(teacher=Provider(name="scripted"), conversations=400, seeds=(42,), held_out_percent=5)
    paid = scripted.model_copy(update={"teacher": Provider(name="anthropic", model="claude-sonnet-5")})
    counts = {each: measure_coverage(Graph(insurance), plan_conversations(insurance, each)).counts for each in (scripted, paid)}
    edges = [count for ngram, count in counts[scripted].items() if len(ngram) == 2]
    assert min(edges) >= SCRIPTED_EDGE_SHARE * scripted.conversations
    assert counts[paid][rare] == FLOOR


def test_the_edges_share_leaves_most_conversations_to_the_authors_weights() -> None:
    plan = plan_for(example("insurance"), 200)
    assert sum("-top" in planned.id for planned in plan) <= 0.35 * len(plan)


def test_a_rare_ending_gets_its_tenth() -> None:
    found = measure_coverage(Graph(lopsided()), plan_for(lopsided(), 1000))
    assert found.terminals["rare"] >= 0.1 * found.conversations
    assert found.covered(2) == (6, 6)


def test_an_edge_that_no_path_can_take_is_reported_as_uncovered() -> None:
    spec = lopsided()
    guard = {"hub": "say", "took": ["a"]}  # at the hub's first visit nothing was decided yet
    nodes = spec.model_dump(by_alias=True, exclude_unset=True)
    nodes["nodes"][1]["next"][4]["guards"] = [guard]
    closed = ProcedureSpec.model_validate(nodes)
    found = measure_coverage(Graph(closed), plan_for(closed, 100))
    assert found.covered(2) == (5, 6)
    assert ("say", "rare") in found.impossible


def test_the_split_follows_the_scenario_and_holds_out_about_what_was_asked() -> None:
    plan = plan_for(travel(), 1000)
    sides: dict[str, set[bool]] = {}
    for planned in plan:
        sides.setdefault(planned.scenario, set()).add(planned.held_out)
    assert all(len(side) == 1 for side in sides.values())
    assert 0.07 < sum(planned.held_out for planned in plan) / len(plan) < 0.13


def test_more_conversations_move_no_scenario_to_the_other_side() -> None:
    small = {planned.scenario: planned.held_out for planned in plan_for(travel(), 200)}
    large = {planned.scenario: planned.held_out for planned in plan_for(travel(), 400)}
    shared = small.keys() & large.keys()
    assert len(shared) > 100
    assert all(small[scenario] == large[scenario] for scenario in shared)


def test_something_is_held_out_even_when_chance_held_out_nothing() -> None:
    for seed in range(15):
        assert any(planned.held_out for planned in plan_for(travel(), 20, (seed,), held_out_percent=1))


def test_no_held_out_value_is_ever_planned() -> None:
    plan = plan_for(travel(), 1000)
    assert not any(held_out("destination", planned.values["destination"]) for planned in plan)
    digits = {spelled(number): str(number) for number in range(100)}
    travellers = [planned.values["travellers"] for planned in plan]
    assert not any(held_out("travellers", digits.get(value, value)) for value in travellers)


def test_about_half_of_the_conversations_are_opened_by_the_customer() -> None:
    opened = Counter(planned.customer.opener is not None for planned in plan_for(travel(), 1000))
    assert 400 < opened[True] < 600


@settings(max_examples=10)
@given(seed=st.integers(0, 10_000), conversations=st.integers(20, 120))
def test_every_planned_path_can_be_walked_and_ends_at_a_terminal(seed: int, conversations: int) -> None:
    graph = Graph(travel())
    for planned in plan_for(travel(), conversations, (seed,)):
        step = graph.begin()
        assert planned.path[0] == graph.spec.start
        for target in planned.path[1:]:
            edge = next(edge for edge in graph.open_edges(step) if edge.to == target)
            step = graph.take(step, edge)
        assert not graph.nodes[step.node].next


def test_a_chat_needs_one_system_prompt_and_alternating_roles() -> None:
    system, user, agent = ({"role": role, "content": "x"} for role in ("system", "user", "assistant"))
    assert conversation_problem([system, user, agent, user]) is None
    assert conversation_problem([user, agent]) is not None
    assert conversation_problem([system, agent, agent]) is not None
    assert conversation_problem([system, user]) is not None


def test_a_customer_may_return_the_greeting_and_is_asked_once_more() -> None:
    planned = next(planned for planned in plan_for(travel(), 200) if planned.customer.greeted)
    said = scripted_utterances(Graph(travel()), planned.path, planned.values, random.Random(1))
    chat = chat_messages("Help.", planned.customer.opener, said, greeted=True)
    assert [message["role"] for message in chat[:5]] == ["system", "assistant", "user", "assistant", "user"]
    assert chat[1] == chat[3]
    assert chat[2]["content"] == planned.customer.opener


def edited(name: str, node: str | None, change: Callable[[Json], Json]) -> ProcedureSpec:
    """An example in which one node was edited; without a `node`, all of them."""
    content = example(name).model_dump(by_alias=True, exclude_unset=True)
    content["nodes"] = [change(each) if node in (None, each["id"]) else each for each in content["nodes"]]
    return ProcedureSpec.model_validate(content)


def kept(before: list[ConversationSpec], after: list[ConversationSpec], *, away_from: str) -> float:
    """Share of the plan whose conversations do not touch a node that are what they were."""
    now = {planned.id: planned for planned in after}
    untouched = [planned for planned in before if away_from not in planned.path]
    same = [
        planned
        for planned in untouched
        if (new := now.get(planned.id)) and (new.path, new.values) == (planned.path, planned.values)
    ]
    return len(same) / len(untouched)


@pytest.mark.parametrize("name", ["travel", "zoom", "insurance"])
def test_an_edited_prompt_moves_no_path_and_no_value(name: str) -> None:
    before = plan_for(example(name), 100)
    for node in (example(name).nodes[0].id, example(name).nodes[-1].id, None):
        after = plan_for(edited(name, node, lambda each: each | {"prompt": each.get("prompt", "") + " Be kind."}), 100)
        assert [(planned.id, planned.path, planned.values, planned.held_out) for planned in after] == [
            (planned.id, planned.path, planned.values, planned.held_out) for planned in before
        ]


def test_another_weight_leaves_conversations_alone_that_do_not_come_there() -> None:
    before = plan_for(travel(), 400)
    heavier = [each | ({"weight": 9} if each["to"] == "alternatives" else {}) for each in _next(travel(), "confirmation")]
    after = plan_for(edited("travel", "confirmation", lambda each: each | {"next": heavier}), 400)
    assert kept(before, after, away_from="confirmation") == 1


def test_an_edge_less_leaves_conversations_alone_that_did_not_take_it() -> None:
    before = plan_for(travel(), 400)
    without = [each for each in _next(travel(), "choice") if each["to"] != "handover"]
    spec = edited("travel", "choice", lambda each: each | {"next": without})
    after = {planned.id: planned.path for planned in plan_for(spec, 400)}
    others = [planned for planned in before if ("choice", "handover") not in zip(planned.path, planned.path[1:], strict=False)]
    assert sum(after.get(planned.id) == planned.path for planned in others) >= 0.97 * len(others)


def test_another_variable_changes_no_value_of_the_others_and_no_side_of_the_split() -> None:
    before = plan_for(travel(), 200)
    content = travel().model_dump(by_alias=True, exclude_unset=True)
    content["variables"] = [{"name": "colour", "values": ["red", "blue"]}, *content["variables"]]
    after = plan_for(ProcedureSpec.model_validate(content), 200)
    assert all(old.values.items() <= new.values.items() for old, new in zip(before, after, strict=True))
    assert [planned.held_out for planned in before] == [planned.held_out for planned in after]


def test_equal_scenarios_are_on_one_side_whatever_the_seed() -> None:
    numbers = {"name": "n", "type": "integer", "minimum": 0, "maximum": 20}
    spec = ProcedureSpec.model_validate(lopsided().dump() | {"variables": [numbers]})
    sides = [{planned.scenario: planned.held_out for planned in plan_for(spec, 400, (seed,), 30)} for seed in (1, 2)]
    shared = sides[0].keys() & sides[1].keys()
    assert len(shared) > 50
    assert len({sides[0][scenario] for scenario in shared}) == 2
    assert all(sides[0][scenario] == sides[1][scenario] for scenario in shared)


@pytest.mark.parametrize("name", ["travel", "zoom", "insurance"])
def test_at_200_conversations_every_pair_of_edges_is_there_and_every_ending_has_its_share(name: str) -> None:
    found = measure_coverage(Graph(example(name)), plan_for(example(name), 200))
    enough, pairs = found.covered(3)
    assert enough == pairs
    assert all(count >= found.shares[ending] * found.conversations for ending, count in found.terminals.items())


def test_a_success_that_is_rare_by_weight_is_not_starved() -> None:
    nodes = lopsided().dump()["nodes"]
    outcomes = [each | ({"outcome": "abandonment"} if each.get("outcome") and each["id"] != "rare" else {}) for each in nodes]
    found = measure_coverage(
        Graph(spec := ProcedureSpec.model_validate(lopsided().dump() | {"nodes": outcomes})),
        plan_for(spec, 300),
    )
    assert found.terminals["rare"] >= 0.2 * found.conversations


def test_top_ups_are_named_by_what_they_are_for_and_the_rest_is_as_chance_has_it() -> None:
    small, large = (unpiloted(plan_for(example("insurance"), count)) for count in (100, 400))
    named = {planned.id: planned.path for planned in small if "-top." in planned.id}
    assert named
    for name, path in named.items():
        _, *run, _ = name.split(".")
        assert tuple(run) in set(ngrams_of(path))
    base = {planned.id: planned for planned in large}
    assert all(base[planned.id] == planned for planned in small if planned.id not in named)


def test_personas_styles_and_twists_have_their_shares_even_in_a_small_plan() -> None:
    plan = plan_for(travel(), 100)
    assert Counter(planned.customer.persona for planned in plan).most_common()[-1][1] >= 47
    assert min(Counter(planned.customer.style for planned in plan).values()) >= 22
    assert 13 <= sum(planned.customer.twist is not None for planned in plan) <= 17
    assert {planned.customer.twist.kind for planned in plan if planned.customer.twist} == {
        "digression",
        "correction",
        "several facts",
    }


def test_a_twist_is_at_a_turn_of_the_customer_and_about_what_is_or_will_be_said() -> None:
    graph = Graph(travel())
    for planned in plan_for(travel(), 400):
        if twist := planned.customer.twist:
            assert graph.nodes[planned.path[twist.position]].role == "user"
            told = {name for node in planned.path for name in variables_of(graph.nodes[node].prompt)}
            assert twist.about is None or twist.about in told


def test_the_report_counts_listed_values_and_the_kinds_of_open_ones() -> None:
    dumped = measure_coverage(Graph(travel()), plan_for(travel(), 300)).to_dict()
    assert sum(dumped["variables"]["wish"]["counts"].values()) == sum(each["count"] for each in dumped["terminals"].values())
    assert dumped["variables"]["destination"]["distinct"] > 100
    assert {each["nodes"][0] for each in dumped["pairs"]} <= dumped["nodes"].keys()


def _next(spec: ProcedureSpec, node: str) -> list[Json]:
    nodes: list[Json] = spec.model_dump(by_alias=True, exclude_unset=True)["nodes"]
    return list(next(each for each in nodes if each["id"] == node)["next"])
