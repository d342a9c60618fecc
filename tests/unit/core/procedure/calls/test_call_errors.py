"""Every error in a procedure's calls is named with its node, field and fix, and none without bound."""

import pytest

from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_core.procedure.calls.called import MAX_CALLED, Unavailable, called_names_in, gather
from subterra_core.procedure.calls.expansion import SHOWN_OF_EACH
from subterra_testkit.called_procedures import CHECK, TIER, bank, call, ending, expanded, identity
from subterra_testkit.procedures import Json, agent, branch, end, fact_hub, procedure, user, way


def errors(spec: ProcedureSpec, **called: ProcedureSpec | Unavailable) -> list[str]:
    return [f"{each} [{each.field}]" for each in expanded(spec, **called).analyse().errors]


WRONG: list[tuple[Json, str]] = [
    ({"procedure": None}, "node check: names no procedure; set it to the name of the called Procedure [spec.nodes[1].procedure]"),
    ({"procedure": "id"}, "node check: calls id, which does not exist; create it, or correct the name [spec.nodes[1].procedure]"),
    ({"examples": ["Hi"]}, "node check: has examples, but the nodes of another procedure stand here; remove it"),
    ({"decidedBy": "fact", "fact": "x"}, "node check: has decidedBy, but the nodes of another procedure stand here"),
    (
        {"maxVisits": 3},
        "node check: has maxVisits, but the nodes of another procedure stand here; remove it, or write it at a node",
    ),
    (
        {"next": [ending("pay") | {"when": "Yes."}]},
        "edge check → pay: has when, but the ending of the called procedure decides here",
    ),
    (
        {"next": [ending("pay", "success")]},
        "node check: procedure identity can also end at refused (abandonment), after which no edge is taken; "
        "add an edge with outcome: refused, or one without outcome for all endings that are left [spec.nodes[1].next]",
    ),
    (
        {"next": [ending("pay", "verifed"), ending("stop")]},
        "edge check → pay: procedure identity has no ending 'verifed'; use one of its "
        "terminals (verified, refused) or outcomes (abandonment, success); did you mean verified? [spec.nodes[1].next[0].outcome]",
    ),
    ({"next": [ending("pay"), ending("stop")]}, "edge check → stop: another edge has no outcome either; give each edge its own"),
    ({"next": [ending("pay", "success"), ending("stop", "refused"), ending("pay")]}, "edge check → pay: is taken after no ending"),
    (
        {"next": [ending("pay", "success"), ending("gone")]},
        "edge check → gone: there is no node 'gone'; add that node or correct the edge [spec.nodes[1].next[1].to]",
    ),
    ({"inputs": [{"name": "why", "value": "x"}]}, "node check: procedure identity has no variable 'why'; use one of code, reason"),
    (
        {"inputs": [{"name": "reason", "value": "a gift"}]},
        "node check: 'a gift' is not a value of reason in identity; use one of a payment",
    ),
    (
        {"inputs": [{"name": "reason", "value": "for {{x}}"}]},
        "node check: mixes text and variables in 'for {{x}}'; write one variable",
    ),
    (
        {"inputs": [{"name": "reason", "value": "{{x}}"}]},
        "node check: gives {{x}}, which is not declared; add it to spec.variables",
    ),
    (
        {"inputs": [{"name": "reason", "value": "{{amount}}"}]},
        "node check: gives amount of type integer for reason, whose type is string",
    ),
    (
        {"inputs": [CHECK["inputs"][0]] * 2},
        "node check: gives reason more than once; keep one of them [spec.nodes[1].inputs[0].name]",
    ),
    (
        {"outputs": [{"name": "pin", "value": "{{cod}}"}]},
        "node check: procedure identity has no variable 'cod'; use one of code, reason",
    ),
    (
        {"outputs": [{"name": "amount", "value": "{{code}}"}]},
        "node check: amount is declared in this procedure too; remove it from "
        "spec.variables, or give it in inputs as {name: code, value: '{{amount}}'} [spec.nodes[1].outputs[0].name]",
    ),
    ({"outputs": [{"name": "a", "value": "{{reason}}"}]}, "node check: reason is also one of its inputs; remove it from outputs"),
]


@pytest.mark.parametrize(("changes", "words"), WRONG, ids=[words[:70] for _, words in WRONG])
def test_a_wrong_call_is_named_with_its_field_and_fix(changes: Json, words: str) -> None:
    amount = {"name": "amount", "type": "integer", "minimum": 1, "maximum": 9}
    spec = bank(CHECK | changes, variables=[amount])
    assert [each for each in errors(spec, identity=identity()) if each.startswith(words)]


def test_all_errors_of_all_calls_are_named_at_once() -> None:
    found = errors(bank(CHECK | {"procedure": "lost", "examples": ["Hi"]}, CHECK | {"id": "again", "next": [ending("pay", "x")]}))
    assert len(found) == 4, found


def test_fields_of_calls_on_other_nodes_are_refused() -> None:
    spec = procedure(agent("hello", ending("bye", "success"), procedure="identity"), end())
    assert errors(spec) == [
        "node hello: has procedure, but its role is not call; set role: call, or remove it [spec.nodes[0].procedure]",
        "edge hello → bye: has an outcome, but no procedure is called here; set role: call, or remove it "
        "[spec.nodes[0].next[0].outcome]",
    ]


def test_a_guard_that_names_a_call_as_hub_is_refused() -> None:
    guarded = agent("hello", {"to": "check", "guards": [{"hub": "check", "took": ["pay"]}]})
    assert (
        "edge hello → check: its guard names check, which calls a procedure and is not a hub"
        in errors(procedure(guarded, CHECK, end("pay"), end("stop")))[0]
    )


def test_a_circle_of_calls_is_named() -> None:
    back = procedure(agent("a", "b"), call("b", procedure="bank"), start="a")
    found = errors(bank(CHECK | {"next": []}), identity=back, bank=bank(CHECK | {"next": []}))
    assert found == [
        "node check, in procedure identity: node b (spec.nodes[1].procedure): calls bank, which leads back to itself: "
        "bank → identity → bank; remove one of these calls [spec.nodes[1].procedure]"
    ]


def test_a_missing_procedure_alone_is_incomplete_and_anything_else_is_wrong() -> None:
    assert expanded(bank(CHECK | {"procedure": "lost"})).is_incomplete
    assert not expanded(bank(CHECK | {"procedure": "lost", "examples": ["Hi"]})).is_incomplete
    assert not expanded(bank(CHECK), identity=Unavailable("has errors", "correct them")).is_incomplete


def test_errors_within_a_called_procedure_name_the_callers_node_and_the_field_there() -> None:
    broken = identity(agent("lost", "verified", prompt=" "))
    found = errors(bank(CHECK), identity=broken)
    assert found == [
        "node check, in procedure identity: node lost (spec.nodes[4]): cannot be reached from the start; "
        "add an edge to it or remove it [spec.nodes[1].procedure]",
        "node check, in procedure identity: node lost (spec.nodes[4].prompt): has no prompt; "
        "describe what the agent should do here [spec.nodes[1].procedure]",
    ]


def test_errors_within_a_called_procedure_have_its_own_names_in_their_words() -> None:
    twice = [branch("verified", "Yes."), branch("refused", "Yes.")]
    broken = identity(user("lost", *twice))
    found = errors(bank(CHECK), identity=broken)
    assert any("'Yes.' is also an example of the branch to verified, so it decides nothing" in each for each in found)


def test_errors_two_calls_deep_name_both_calls() -> None:
    outer = procedure(agent("begin", "who"), call("who", inputs=CHECK["inputs"]), start="begin")
    [found] = errors(bank(CHECK | {"procedure": "outer", "inputs": []}), outer=outer, identity=identity(agent("lost", "verified")))
    assert found.startswith(
        "node check, in procedure outer: node who, in procedure identity: node lost (spec.nodes[4]): cannot be reached"
    )


def test_a_variable_that_both_declare_in_different_ways_is_named_with_what_differs() -> None:
    callee = identity()
    callee = callee.model_copy(update={"variables": (*callee.variables, *procedure(end(), end("b"), variables=[TIER]).variables)})
    [found] = errors(bank(CHECK, variables=[TIER | {"values": ["gold"]}]), identity=callee)
    assert found.startswith(
        "node check: variable tier of procedure identity has another values than here; declare tier alike in both"
    )


def test_a_fixed_text_cannot_stand_for_what_decides_in_the_called_procedure() -> None:
    callee = procedure(
        fact_hub("ask", way("yes", "gold"), way("no"), fact="tier"), end("yes"), end("no"), start="ask", variables=[TIER]
    )
    [found] = errors(bank(CHECK | {"inputs": [{"name": "tier", "value": "gold"}], "next": [ending("pay")]}), identity=callee)
    assert found.startswith("node check: gives a fixed text for tier, which decides at node ask of identity; give a variable")


def test_a_name_that_gets_too_long_or_is_taken_is_named() -> None:
    found = "\n".join(errors(bank(CHECK | {"id": "c" * 60})))
    assert f"node {'c' * 60}, in procedure identity: spec.nodes[1].id: has 68 characters; shorten it to at most 63" in found
    taken = bank(CHECK, agent("check__ask", "pay"))
    assert "node check: a node of identity is check__ask here, which is also the id of a node of this procedure" in errors(taken)[0]


def test_what_is_too_large_or_nested_too_deep_is_refused() -> None:
    large = procedure(*(agent(f"n{index}", f"n{index + 1}") for index in range(260)), end("n260"), start="n0")
    calls = [call(f"c{index}", ending(f"c{index + 1}" if index < 1 else "pay"), procedure="large") for index in range(2)]
    assert errors(bank(*calls), large=large)[0].startswith(
        "spec.nodes: has 525 entries with those of called procedures; the limit is 500"
    )
    chain = {f"p{level}": procedure(agent("a", "b"), call("b", procedure=f"p{level + 1}"), start="a") for level in range(6)}
    deep = errors(bank(call("c", procedure="p0")), **chain, p6=identity())
    assert "has calls within calls, 6 deep; the limit is 5" in deep[0]


def test_errors_of_calls_within_calls_do_not_multiply_without_bound() -> None:
    chain = {
        f"p{level}": procedure(*(call(f"c{index}", procedure=f"p{level + 1}") for index in range(60)), start="c0")
        for level in range(3)
    }
    assert len(expanded(bank(call("c", procedure="p0")), **chain).findings) == SHOWN_OF_EACH


def test_procedures_are_gathered_once_and_no_more_than_the_limit() -> None:
    asked: list[str] = []

    def find(name: str) -> ProcedureSpec:
        asked.append(name)
        number = int(name[1:])
        return procedure(agent("a", "b"), call("b", procedure=f"p{number + 1}"), call("c", procedure=f"p{number + 1}"), start="a")

    found = gather(bank(call("c", procedure="p0")), find)
    assert asked == [f"p{number}" for number in range(MAX_CALLED)]
    assert isinstance(found[f"p{MAX_CALLED}"], Unavailable)


def test_called_names_are_read_from_any_json() -> None:
    assert called_names_in({"nodes": [CHECK, CHECK, {"role": "call", "procedure": 3}, "x", {"procedure": "no"}]}) == ["identity"]
    assert called_names_in({"nodes": {"a": 1}}) == called_names_in({}) == []
