"""Customers who take anywhere edges: as many as planned, at every turn, on both sides of the split."""

from collections import Counter

import pytest

from subterra_api.job_contract.messages import Generation
from subterra_api.v1alpha1.compilerun import Provider
from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_core.procedure.anywhere import without_anywhere
from subterra_core.procedure.graph import Graph
from subterra_jobs.dialogue.anywhere_paths import anywhere_hops, leaves_at
from subterra_jobs.dialogue.phrasing.customer_phrasing import CustomerPhrasing
from subterra_jobs.generate.plan.conversation_spec import ConversationSpec
from subterra_jobs.generate.plan.coverage import measure_coverage
from subterra_jobs.generate.plan.plan import FLOOR, plan_conversations
from subterra_jobs.generate.write.prompts import LEAVES
from subterra_jobs.generate.write.styled_prompts import prompts_for
from subterra_testkit.procedures import procedure
from subterra_testkit.runs.generation_inputs import example, travel

DELIVERY = Graph(example("delivery"))
PAID = Provider(name="anthropic", model="any")


def plan_for(spec: ProcedureSpec, conversations: int = 400, teacher: Provider | None = None) -> list[ConversationSpec]:
    settings = Generation(teacher=teacher or Provider(), conversations=conversations, seeds=(42,), held_out_percent=10)
    return plan_conversations(spec, settings)


@pytest.fixture(scope="module")
def planned() -> list[ConversationSpec]:
    return plan_for(DELIVERY.spec)


def test_every_turn_at_which_an_edge_is_open_is_trained_on(planned: list[ConversationSpec]) -> None:
    counts = Counter(hop for spec in planned if spec.is_training for hop in anywhere_hops(DELIVERY, spec.path))
    open_hops = {(node, edge.to) for node, edges in DELIVERY.anywhere.items() for edge in edges}
    assert {hop: counts[hop] for hop in open_hops if counts[hop] < FLOOR} == {}
    assert set(counts) == open_hops


def test_edges_have_their_share_and_top_ups_at_most_double_it(planned: list[ConversationSpec]) -> None:
    leaving = [spec for spec in planned if anywhere_hops(DELIVERY, spec.path)]
    base = [spec for spec in leaving if ".top" not in spec.id and "-top" not in spec.id]
    assert 0.07 * len(planned) <= len(base) <= 0.11 * len(planned)
    assert len(leaving) <= 0.2 * len(planned) + FLOOR
    assert not any(("cancel_answer", "ask_cancel") in anywhere_hops(DELIVERY, spec.path) for spec in planned)


def test_both_sides_of_the_split_have_every_edge(planned: list[ConversationSpec]) -> None:
    for held_out in (False, True):
        taken = {target for spec in planned if spec.held_out == held_out for _, target in anywhere_hops(DELIVERY, spec.path)}
        assert taken == {"handover", "ask_cancel"}


def test_the_way_on_after_an_anywhere_edge_is_covered_like_any_other(planned: list[ConversationSpec]) -> None:
    coverage = measure_coverage(DELIVERY, planned)
    assert coverage.untrained == {}
    assert min(count for ngram, count in coverage.counts.items() if ngram[0] in ("ask_cancel", "cancel_answer", "keep")) >= FLOOR


def test_conversations_that_do_not_leave_are_those_of_the_procedure_without_anywhere_edges() -> None:
    """So adding such an edge pays for few conversations anew."""
    spec = travel().model_copy(update={"anywhere": (DELIVERY.spec.anywhere[0].model_copy(update={"to": "goodbye"}),)})
    before = {each.id: each for each in plan_for(without_anywhere(spec))}
    with_edge = Graph(spec)
    stayed = [each for each in plan_for(spec) if not anywhere_hops(with_edge, each.path) and "-top" not in each.id]
    assert len(stayed) > 200
    assert [each.id for each in stayed if each.path != before[each.id].path or each.values != before[each.id].values] == []


def test_where_not_every_turn_can_be_afforded_the_share_is_kept_and_the_turns_are_spread() -> None:
    nodes = []
    for number in range(40):
        ask = {"id": f"ask{number}", "role": "agent", "prompt": "Ask.", "next": [{"to": f"say{number}"}]}
        following = f"ask{number + 1}" if number < 39 else "bye"
        nodes += [ask, {"id": f"say{number}", "role": "user", "prompt": "Say it.", "next": [{"to": following}]}]
    ends = [{"id": name, "role": "agent", "prompt": "End.", "outcome": "success"} for name in ("bye", "human")]
    values = [{"name": "n", "type": "integer", "minimum": 0, "maximum": 9999, "visibility": "context"}]
    spec = procedure(*nodes, *ends, start="ask0", anywhere=[{"to": "human", "when": "A person."}], variables=values)
    graph, plan = Graph(spec), plan_for(spec, 100)
    counts = Counter(hop for each in plan for hop in anywhere_hops(graph, each.path))
    assert counts.total() <= 0.1 * len(plan) + FLOOR
    assert len(counts) >= 8
    assert max(counts.values()) <= 3


def test_a_model_that_plays_the_customer_is_asked_for_the_edge_and_not_for_the_node() -> None:
    prompts = prompts_for(DELIVERY)
    turns = [
        (spec, position)
        for spec in plan_for(DELIVERY.spec, 150, PAID)
        for position in range(len(spec.path))
        if leaves_at(DELIVERY, spec.path, position)
    ]
    assert turns
    for spec, position in turns:
        words = prompts.turn(spec, position, []).messages[0]["content"]
        edge = DELIVERY.edge(spec.path[position], spec.path[position + 1])
        assert edge is not None
        assert f"<instruction>\n{LEAVES}\n</instruction>" in words
        assert f"<decision>\n{edge.when}\n</decision>" in words
        assert spec.customer.twist is None or spec.customer.twist.position != position
        for decision in spec.audited:
            if decision.position == position:
                assert edge.when in prompts.branch_reading(spec, decision, []).messages[0]["content"]


def test_scripted_customers_ask_for_a_person_in_more_than_the_examples() -> None:
    import random

    phrasing, rng = CustomerPhrasing(DELIVERY, held_out=False), random.Random(3)
    said = {phrasing.line("day", "handover", {}, rng) for _ in range(60)}
    assert said & set(DELIVERY.spec.anywhere[0].examples)
    assert said - set(DELIVERY.spec.anywhere[0].examples)
