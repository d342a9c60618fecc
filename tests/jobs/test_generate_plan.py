"""The plan: what will be written is known before a word is."""

import random
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.fakes.generation import travel

from subterra_api.contract import Generation
from subterra_api.graph import Graph
from subterra_api.v1alpha1.compilerun import Provider
from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_jobs.common.scenarios import held_out
from subterra_jobs.common.scripted import messages, write
from subterra_jobs.generate.checks import Checker, conversation_fault
from subterra_jobs.generate.coverage import cover
from subterra_jobs.generate.plan import EDGE_FLOOR, Slot, plan


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


def test_the_same_settings_give_the_same_plan() -> None:
    assert plan(travel(), generation()) == plan(travel(), generation())


def test_another_seed_gives_another_plan_and_seeds_concatenate() -> None:
    first, second = plan(travel(), generation(seeds=(1,))), plan(travel(), generation(seeds=(2,)))
    assert [slot.path for slot in first] != [slot.path for slot in second]
    assert plan(travel(), generation(seeds=(1, 2))) == first + second


def test_every_edge_is_trained_on_at_least_three_times_even_in_a_small_dataset() -> None:
    slots = plan(travel(), generation(50))
    assert min(cover(travel(), [slot.path for slot in training(slots)]).edges.values()) >= EDGE_FLOOR


def test_a_rare_ending_gets_its_tenth() -> None:
    slots = training(plan(lopsided(), generation(1000)))
    counts = cover(lopsided(), [slot.path for slot in slots])
    assert counts.terminals["rare"] >= 0.09 * len(slots)
    assert counts.covered == len(counts.edges)


def test_an_edge_that_no_path_can_take_is_reported_as_uncovered() -> None:
    spec = lopsided()
    guard = {"hub": "say", "took": ["a"]}  # at the hub's first visit nothing was decided yet
    nodes = spec.model_dump(by_alias=True, exclude_unset=True)
    nodes["nodes"][1]["next"][4]["guards"] = [guard]
    closed = ProcedureSpec.model_validate(nodes)
    counts = cover(closed, [slot.path for slot in plan(closed, generation(100))])
    assert (counts.covered, len(counts.edges)) == (5, 6)


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
    opened = Counter(slot.opener is not None for slot in plan(travel(), generation(1000)))
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


def test_a_leaked_node_id_is_found_but_a_word_that_is_also_an_id_is_not() -> None:
    check = Checker(["ask_budget", "budget", "check-in", "stepTwo"])
    assert check.utterance("My budget is $300, check-in at noon.") is None
    assert check.utterance("Now I go to ask_budget.") == "names the node ask_budget"
    assert check.utterance("Now stepTwo follows.") == "names the node stepTwo"
    assert check.utterance("Hello {{name}}") == "has a placeholder left"
    assert check.utterance("Agent: hello") == "starts with the name of a speaker"


def test_a_chat_needs_one_system_prompt_and_alternating_roles() -> None:
    system, user, agent = ({"role": role, "content": "x"} for role in ("system", "user", "assistant"))
    assert conversation_fault([system, user, agent, user]) is None
    assert conversation_fault([user, agent]) is not None
    assert conversation_fault([system, agent, agent]) is not None
    assert conversation_fault([system, user]) is not None


def test_a_customer_may_return_the_greeting_and_is_asked_once_more() -> None:
    slot = next(slot for slot in plan(travel(), generation(200)) if slot.greeted)
    said = write(Graph(travel()), slot.path, slot.values, random.Random(1))
    chat = messages("Help.", slot.opener, said, greeted=True)
    assert [message["role"] for message in chat[:5]] == ["system", "assistant", "user", "assistant", "user"]
    assert chat[1] == chat[3]
    assert chat[2]["content"] == slot.opener
