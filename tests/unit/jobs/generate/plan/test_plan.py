"""The plan: what will be written is known before a word is."""

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from subterra_api.job_contract.messages import Generation
from subterra_api.v1alpha1.compilerun import Provider
from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_core.procedure.graph import Graph
from subterra_core.procedure.template import variables_of
from subterra_jobs.dialogue.sampling import held_out
from subterra_jobs.dialogue.scripted import messages, write
from subterra_jobs.generate.check.turn_checks import conversation_fault
from subterra_jobs.generate.plan.coverage import cover
from subterra_jobs.generate.plan.path_space import runs_of
from subterra_jobs.generate.plan.plan import FLOOR, Slot, plan
from subterra_testkit.generation_inputs import example, travel
from subterra_testkit.procedures import Json


def generation(conversations: int = 200, seeds: tuple[int, ...] = (42,), held_out_percent: int = 10) -> Generation:
    return Generation(teacher=Provider(), conversations=conversations, seeds=seeds, held_out_percent=held_out_percent)


def lopsided() -> ProcedureSpec:
    """Five endings, one of which chance picks once in a thousand conversations."""
    endings = ["a", "b", "c", "d", "rare"]
    edges = [{"to": end, "when": f"The customer wants {end}.", "weight": 1 if end == "rare" else 250} for end in endings]
    return ProcedureSpec.model_validate(
        {
            "systemPrompt": "You help.", "start": "ask",
            "variables": [{"name": "n", "type": "integer", "minimum": 0, "maximum": 9999}],
            "nodes": [
                {"id": "ask", "role": "agent", "prompt": "Ask.", "examples": ["What is it?"], "next": [{"to": "say"}]},
                {"id": "say", "role": "user", "prompt": "Say {{n}}.", "examples": ["{{n}}"], "next": edges},
                *({"id": end, "role": "agent", "prompt": "End.", "examples": ["Bye."], "outcome": "success"} for end in endings),
            ],
        }
    )  # fmt: skip


def training(slots: list[Slot]) -> list[Slot]:
    return [slot for slot in slots if not slot.held_out]


def unpiloted(slots: list[Slot]) -> list[Slot]:
    """Without the marks of the pilot, which is chosen from a whole plan."""
    return [replace(slot, audited=()) for slot in slots]


def test_the_same_settings_give_the_same_plan() -> None:
    assert plan(travel(), generation()) == plan(travel(), generation())


def test_another_seed_gives_another_plan_and_seeds_concatenate() -> None:
    first, second = plan(travel(), generation(seeds=(1,))), plan(travel(), generation(seeds=(2,)))
    assert [slot.path for slot in first] != [slot.path for slot in second]
    assert unpiloted(plan(travel(), generation(seeds=(1, 2)))) == unpiloted(first + second)


def test_every_edge_and_pair_of_edges_is_trained_on_at_least_three_times_even_in_a_small_dataset() -> None:
    slots = plan(travel(), generation(50))
    assert min(cover(Graph(travel()), slots).counts.values()) >= FLOOR


def test_a_rare_ending_gets_its_tenth() -> None:
    found = cover(Graph(lopsided()), plan(lopsided(), generation(1000)))
    assert found.terminals["rare"] >= 0.1 * found.conversations
    assert found.enough(2) == (6, 6)


def test_an_edge_that_no_path_can_take_is_reported_as_uncovered() -> None:
    spec = lopsided()
    guard = {"hub": "say", "took": ["a"]}  # at the hub's first visit nothing was decided yet
    nodes = spec.model_dump(by_alias=True, exclude_unset=True)
    nodes["nodes"][1]["next"][4]["guards"] = [guard]
    closed = ProcedureSpec.model_validate(nodes)
    found = cover(Graph(closed), plan(closed, generation(100)))
    assert found.enough(2) == (5, 6)
    assert ("say", "rare") in found.impossible


def test_the_split_follows_the_scenario_and_holds_out_about_what_was_asked() -> None:
    slots = plan(travel(), generation(2000))
    sides: dict[str, set[bool]] = {}
    for slot in slots:
        sides.setdefault(slot.scenario, set()).add(slot.held_out)
    assert all(len(side) == 1 for side in sides.values())
    assert 0.07 < sum(slot.held_out for slot in slots) / len(slots) < 0.13


def test_more_conversations_move_no_scenario_to_the_other_side() -> None:
    small = {slot.scenario: slot.held_out for slot in plan(travel(), generation(200))}
    large = {slot.scenario: slot.held_out for slot in plan(travel(), generation(400))}
    shared = small.keys() & large.keys()
    assert len(shared) > 100
    assert all(small[scenario] == large[scenario] for scenario in shared)


def test_something_is_held_out_even_when_chance_held_out_nothing() -> None:
    for seed in range(30):
        assert any(slot.held_out for slot in plan(travel(), generation(20, (seed,), held_out_percent=1)))


def test_no_held_out_value_is_ever_planned() -> None:
    slots = plan(travel(), generation(1000))
    assert not any(held_out("destination", slot.values["destination"]) for slot in slots)
    assert not any(held_out("travellers", slot.values["travellers"]) for slot in slots)


def test_about_half_of_the_conversations_are_opened_by_the_customer() -> None:
    opened = Counter(slot.manner.opener is not None for slot in plan(travel(), generation(1000)))
    assert 400 < opened[True] < 600


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), conversations=st.integers(20, 120))
def test_every_planned_path_can_be_walked_and_ends_at_a_terminal(seed: int, conversations: int) -> None:
    graph = Graph(travel())
    for slot in plan(travel(), generation(conversations, (seed,))):
        step = graph.begin()
        assert slot.path[0] == graph.spec.start
        for target in slot.path[1:]:
            edge = next(edge for edge in graph.open_edges(step) if edge.to == target)
            step = graph.take(step, edge)
        assert not graph.nodes[step.node].next


def test_a_chat_needs_one_system_prompt_and_alternating_roles() -> None:
    system, user, agent = ({"role": role, "content": "x"} for role in ("system", "user", "assistant"))
    assert conversation_fault([system, user, agent, user]) is None
    assert conversation_fault([user, agent]) is not None
    assert conversation_fault([system, agent, agent]) is not None
    assert conversation_fault([system, user]) is not None


def test_a_customer_may_return_the_greeting_and_is_asked_once_more() -> None:
    slot = next(slot for slot in plan(travel(), generation(200)) if slot.manner.greeted)
    said = write(Graph(travel()), slot.path, slot.values, random.Random(1))
    chat = messages("Help.", slot.manner.opener, said, greeted=True)
    assert [message["role"] for message in chat[:5]] == ["system", "assistant", "user", "assistant", "user"]
    assert chat[1] == chat[3]
    assert chat[2]["content"] == slot.manner.opener


def edited(name: str, node: str, change: Callable[[Json], Json]) -> ProcedureSpec:
    """An example in which one node was edited."""
    content = example(name).model_dump(by_alias=True, exclude_unset=True)
    content["nodes"] = [change(each) if each["id"] == node else each for each in content["nodes"]]
    return ProcedureSpec.model_validate(content)


def kept(before: list[Slot], after: list[Slot], *, away_from: str) -> float:
    """Share of the slots whose conversations do not touch a node that are what they were."""
    now = {slot.id: slot for slot in after}
    untouched = [slot for slot in before if away_from not in slot.path]
    same = [slot for slot in untouched if (new := now.get(slot.id)) and (new.path, new.values) == (slot.path, slot.values)]
    return len(same) / len(untouched)


@pytest.mark.parametrize("name", ["travel", "zoom", "insurance"])
def test_an_edited_prompt_moves_no_path_and_no_value(name: str) -> None:
    before = plan(example(name), generation(200))
    for node in [node.id for node in example(name).nodes[::4]]:
        after = plan(edited(name, node, lambda each: each | {"prompt": each.get("prompt", "") + " Be kind."}), generation(200))
        assert [(slot.id, slot.path, slot.values, slot.held_out) for slot in after] == [
            (slot.id, slot.path, slot.values, slot.held_out) for slot in before
        ]


def test_another_weight_leaves_conversations_alone_that_do_not_come_there() -> None:
    before = plan(travel(), generation(400))
    heavier = [each | ({"weight": 9} if each["to"] == "alternatives" else {}) for each in _next(travel(), "confirmation")]
    after = plan(edited("travel", "confirmation", lambda each: each | {"next": heavier}), generation(400))
    assert kept(before, after, away_from="confirmation") == 1


def test_an_edge_less_leaves_conversations_alone_that_did_not_take_it() -> None:
    before = plan(travel(), generation(400))
    without = [each for each in _next(travel(), "choice") if each["to"] != "handover"]
    spec = edited("travel", "choice", lambda each: each | {"next": without})
    after = {slot.id: slot.path for slot in plan(spec, generation(400))}
    others = [slot for slot in before if ("choice", "handover") not in zip(slot.path, slot.path[1:], strict=False)]
    assert sum(after.get(slot.id) == slot.path for slot in others) >= 0.97 * len(others)


def test_another_variable_changes_no_value_of_the_others_and_no_side_of_the_split() -> None:
    before = plan(travel(), generation(200))
    content = travel().model_dump(by_alias=True, exclude_unset=True)
    content["variables"] = [{"name": "colour", "values": ["red", "blue"]}, *content["variables"]]
    after = plan(ProcedureSpec.model_validate(content), generation(200))
    assert all(old.values.items() <= new.values.items() for old, new in zip(before, after, strict=True))
    assert [slot.held_out for slot in before] == [slot.held_out for slot in after]


def test_equal_scenarios_are_on_one_side_whatever_the_seed() -> None:
    closed = lopsided().model_copy(update={"variables": ()})
    nodes = [each | {"prompt": "Say.", "examples": []} if each["id"] == "say" else each for each in closed.dump()["nodes"]]
    spec = ProcedureSpec.model_validate(closed.dump() | {"nodes": nodes})
    sides = [{slot.scenario: slot.held_out for slot in plan(spec, generation(100, (seed,), 30))} for seed in (1, 2)]
    assert len(sides[0]) == 5
    assert sides[0] == sides[1]


@pytest.mark.parametrize("name", ["travel", "zoom", "insurance"])
def test_at_200_conversations_every_pair_of_edges_is_there_and_every_ending_has_its_share(name: str) -> None:
    found = cover(Graph(example(name)), plan(example(name), generation(200)))
    enough, pairs = found.enough(3)
    assert enough == pairs
    assert all(count >= found.shares[ending] * found.conversations for ending, count in found.terminals.items())


def test_a_success_that_is_rare_by_weight_is_not_starved() -> None:
    nodes = lopsided().dump()["nodes"]
    outcomes = [each | ({"outcome": "abandonment"} if each.get("outcome") and each["id"] != "rare" else {}) for each in nodes]
    found = cover(Graph(spec := ProcedureSpec.model_validate(lopsided().dump() | {"nodes": outcomes})), plan(spec, generation(300)))
    assert found.terminals["rare"] >= 0.2 * found.conversations


def test_top_ups_are_named_by_what_they_are_for_and_the_rest_is_as_chance_has_it() -> None:
    small, large = (unpiloted(plan(example("insurance"), generation(count))) for count in (100, 400))
    named = {slot.id: slot.path for slot in small if "-top." in slot.id}
    assert named
    for name, path in named.items():
        _, *run, _ = name.split(".")
        assert tuple(run) in set(runs_of(path))
    base = {slot.id: slot for slot in large}
    assert all(base[slot.id] == slot for slot in small if slot.id not in named)


def test_personas_styles_and_twists_have_their_shares_even_in_a_small_plan() -> None:
    slots = plan(travel(), generation(100))
    assert Counter(slot.manner.persona for slot in slots).most_common()[-1][1] >= 47
    assert min(Counter(slot.manner.style for slot in slots).values()) >= 22
    assert 13 <= sum(slot.manner.twist is not None for slot in slots) <= 17
    assert {slot.manner.twist.kind for slot in slots if slot.manner.twist} == {"digression", "correction", "several facts"}


def test_a_twist_is_at_a_turn_of_the_customer_and_about_what_is_or_will_be_said() -> None:
    graph = Graph(travel())
    for slot in plan(travel(), generation(400)):
        if twist := slot.manner.twist:
            assert graph.nodes[slot.path[twist.position]].role == "user"
            told = {name for node in slot.path for name in variables_of(graph.nodes[node].prompt)}
            assert twist.about is None or twist.about in told


def test_the_report_counts_listed_values_and_the_kinds_of_open_ones() -> None:
    dumped = cover(Graph(travel()), plan(travel(), generation(300))).dump()
    assert sum(dumped["variables"]["wish"]["counts"].values()) == sum(each["count"] for each in dumped["terminals"].values())
    assert dumped["variables"]["destination"]["distinct"] > 100
    assert {each["nodes"][0] for each in dumped["pairs"]} <= dumped["nodes"].keys()


def _next(spec: ProcedureSpec, node: str) -> list[Json]:
    nodes: list[Json] = spec.model_dump(by_alias=True, exclude_unset=True)["nodes"]
    return list(next(each for each in nodes if each["id"] == node)["next"])
