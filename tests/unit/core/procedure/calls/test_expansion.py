"""A procedure with calls becomes one flat procedure, or every error in its calls is named with its fix."""

from typing import Any

import pytest

from subterra_api.digest import procedure_digest
from subterra_api.v1alpha1.procedure import Node, ProcedureSpec
from subterra_core.procedure.calls.called import MAX_CALLED, Unavailable, called_names_in, gather
from subterra_core.procedure.calls.expansion import SHOWN_OF_EACH, Expansion, expand
from subterra_core.procedure.graph import Graph
from subterra_testkit.procedures import Json, agent, branch, end, fact_hub, procedure, user, way

CODE: Json = {"name": "code", "type": "integer", "minimum": 1000, "maximum": 9999}
TIER: Json = {"name": "tier", "visibility": "context", "values": ["gold", "basic"]}
FOUND: Json = {"name": "found", "visibility": "result", "values": ["ok", "unknown"]}
LOOK_UP: Json = {"name": "look_up", "parameters": [{"name": "code"}], "outcome": "found"}


def call(node: str, *to: Json, **more: Any) -> Json:
    return {"id": node, "role": "call", "procedure": "identity", "next": list(to)} | more


def ending(to: str, outcome: str | None = None) -> Json:
    return {"to": to, **({"outcome": outcome} if outcome else {})}


def identity(*more_nodes: Json, **more: Any) -> ProcedureSpec:
    """Asks for a code, and ends at `verified` (success) or `refused` (abandonment)."""
    return procedure(
        agent("ask", "answer", prompt="Ask for the code because of {{reason}}."),
        user("answer", branch("verified", "It is {{code}}."), branch("refused", "I will not say.")),
        end("verified", prompt="Say that {{code}} is right."),
        end("refused", outcome="abandonment"),
        *more_nodes,
        start="ask",
        variables=[CODE, {"name": "reason", "visibility": "hidden", "values": ["a payment", "an address"]}],
        **more,
    )


def bank(*calls: Json, **more: Any) -> ProcedureSpec:
    """Greets, and goes on to the first call; `pay` and `stop` are where it ends."""
    return procedure(agent("hello", calls[0]["id"]), *calls, end("pay"), end("stop", outcome="abandonment"), **more)


def expanded(spec: ProcedureSpec, **called: ProcedureSpec | Unavailable) -> Expansion:
    return expand("bank", spec, called or {"identity": identity()})


def flat(spec: ProcedureSpec, **called: ProcedureSpec | Unavailable) -> ProcedureSpec:
    expansion = expanded(spec, **called)
    assert not expansion.findings, [str(each) for each in expansion.findings]
    return expansion.spec


def node(spec: ProcedureSpec, name: str) -> Node:
    return next(each for each in spec.nodes if each.id == name)


CHECK = call("check", ending("pay", "success"), ending("stop"), inputs=[{"name": "reason", "value": "a payment"}])


def test_called_nodes_stand_where_the_call_was_and_their_endings_lead_on() -> None:
    spec = flat(bank(CHECK))
    assert [each.id for each in spec.nodes] == [
        "hello",
        *(f"check__{name}" for name in ("ask", "answer", "verified", "refused")),
        "pay",
        "stop",
    ]
    assert [edge.to for edge in node(spec, "hello").next] == ["check__ask"]
    assert [edge.to for edge in node(spec, "check__answer").next] == ["check__verified", "check__refused"]
    assert [(edge.to, node(spec, "check__verified").outcome) for edge in node(spec, "check__verified").next] == [("pay", None)]
    assert [edge.to for edge in node(spec, "check__refused").next] == ["stop"]
    assert len(list(Graph(spec).paths())) == 2


def test_a_flat_procedure_has_no_errors_of_its_own() -> None:
    analysis = expanded(bank(CHECK)).analyse()
    assert not analysis.errors
    assert (analysis.nodes, analysis.path_count) == (7, "2")


def test_own_variables_have_the_calls_prefix_and_fixed_texts_stand_in_the_words() -> None:
    spec = flat(bank(CHECK))
    assert [variable.name for variable in spec.variables] == ["check__code"]
    assert node(spec, "check__ask").prompt == "Ask for the code because of a payment."
    assert node(spec, "check__verified").prompt == "Say that {{check__code}} is right."


def test_an_input_is_the_callers_variable_under_the_callers_name() -> None:
    topic = {"name": "topic", "values": ["a refund", "a card"]}
    spec = flat(bank(CHECK | {"inputs": [{"name": "reason", "value": "{{topic}}"}]}, variables=[topic]))
    assert node(spec, "check__ask").prompt == "Ask for the code because of {{topic}}."
    assert [variable.name for variable in spec.variables] == ["topic", "check__code"]


def test_an_output_is_known_to_the_caller_under_its_own_name() -> None:
    spec = flat(bank(CHECK | {"outputs": [{"name": "pin", "value": "{{code}}"}]}))
    assert [(variable.name, variable.maximum) for variable in spec.variables] == [("pin", 9999)]
    assert node(spec, "check__answer").next[0].examples == ("It is {{pin}}.",)


def test_two_calls_of_one_procedure_have_their_own_nodes_and_values() -> None:
    again = CHECK | {"id": "again"}
    spec = flat(bank(CHECK | {"next": [ending("again", "success"), ending("stop")]}, again))
    assert [edge.to for edge in node(spec, "check__verified").next] == ["again__ask"]
    assert [edge.to for edge in node(spec, "again__verified").next] == ["pay"]
    assert [variable.name for variable in spec.variables] == ["check__code", "again__code"]
    assert not expanded(bank(CHECK | {"next": [ending("again", "success"), ending("stop")]}, again)).analyse().errors


def test_a_call_within_a_called_procedure_is_expanded_too() -> None:
    outer = procedure(
        agent("begin", "who"),
        call("who", ending("done", "success"), ending("gone"), inputs=CHECK["inputs"]),
        end("done"),
        end("gone", outcome="escalation"),
        start="begin",
    )
    spec = flat(bank(CHECK | {"procedure": "outer", "inputs": []}), outer=outer, identity=identity())
    assert [edge.to for edge in node(spec, "check__begin").next] == ["check__who__ask"]
    assert [edge.to for edge in node(spec, "check__who__refused").next] == ["check__gone"]
    assert [edge.to for edge in node(spec, "check__gone").next] == ["stop"]


def test_a_terminals_id_goes_before_its_outcome_and_an_edge_without_outcome_takes_the_rest() -> None:
    callee = identity(end("late", outcome="abandonment"))
    spec = flat(bank(CHECK | {"next": [ending("pay", "refused"), ending("stop", "abandonment"), ending("pay")]}), identity=callee)
    assert {name: node(spec, f"check__{name}").next[0].to for name in ("refused", "late", "verified")} == {
        "refused": "pay",
        "late": "stop",
        "verified": "pay",
    }


def test_a_call_without_edges_ends_the_conversation_as_the_called_procedure_does() -> None:
    spec = flat(bank(CHECK | {"next": []}))
    assert [(each.id, each.outcome) for each in spec.nodes if not each.next][:2] == [
        ("check__verified", "success"),
        ("check__refused", "abandonment"),
    ]


def test_a_procedure_can_begin_with_a_call_and_guards_may_name_one_as_a_branch() -> None:
    guarded = {"to": "stop", "when": "No.", "guards": [{"hub": "choice", "took": ["check"]}]}
    spec = flat(
        procedure(
            call("check", ending("choice"), inputs=CHECK["inputs"]),
            user("choice", branch("check", "Once more."), {"to": "stop", "when": "Stop."}, {**guarded, "to": "pay"}),
            end("pay"),
            end("stop"),
            start="check",
        )
    )
    assert spec.start == "check__ask"
    assert node(spec, "choice").next[2].guards[0].took == ("check__ask",)


def test_context_facts_and_tools_keep_their_names_and_are_declared_once() -> None:
    parts = {"variables": [TIER, FOUND, CODE], "tools": [LOOK_UP]}
    callee = procedure(
        user("say", "find", examples=["It is {{code}}."]),
        {
            "id": "find",
            "role": "tool",
            "tool": "look_up",
            "arguments": [{"name": "code", "value": "{{code}}"}],
            "decidedBy": "fact",
            "fact": "found",
            "next": [way("good", "ok"), way("bad")],
        },
        end("good", prompt="Greet a {{tier}} customer."),
        end("bad", outcome="escalation"),
        start="say",
        **parts,
    )
    calls = [call(name, ending(to, "success"), ending("stop")) for name, to in (("one", "two"), ("two", "pay"))]
    expansion = expanded(bank(*calls, variables=[TIER]), identity=callee)
    assert [tool.name for tool in expansion.spec.tools] == ["look_up"]
    assert [variable.name for variable in expansion.spec.variables] == ["tier", "found", "one__code", "two__code"]
    assert node(expansion.spec, "two__find").arguments[0].value == "{{two__code}}"
    assert node(expansion.spec, "two__find").fact == "found"
    assert not expansion.analyse().errors


PERSON: Json = {"to": "person", "when": "The customer asks for a person.", "examples": ["A person, please."]}


def test_anywhere_edges_of_the_caller_are_open_in_called_procedures_unless_it_excepts_the_call() -> None:
    spec = flat(bank(CHECK, anywhere=[PERSON | {"to": "stop"}]))
    assert list(Graph(spec).anywhere) == ["check__answer"]
    spec = flat(bank(CHECK, anywhere=[PERSON | {"to": "stop", "except": ["check"]}]))
    assert spec.anywhere[0].except_ == ("check__answer",)


def test_anywhere_edges_of_a_called_procedure_are_open_only_within_each_of_its_calls() -> None:
    callee = identity(end("person", outcome="escalation"), anywhere=[PERSON])
    again = CHECK | {"id": "again"}
    expansion = expanded(bank(CHECK | {"next": [ending("again", "success"), ending("stop")]}, again), identity=callee)
    assert {name: [edge.to for edge in edges] for name, edges in Graph(expansion.spec).anywhere.items()} == {
        "check__answer": ["check__person"],
        "again__answer": ["again__person"],
    }
    assert not expansion.analyse().errors


def test_a_request_that_both_procedures_expect_anywhere_leads_where_the_caller_says() -> None:
    callee = identity(end("person", outcome="escalation"), anywhere=[PERSON])
    spec = bank(
        CHECK | {"next": [ending("pay", "success"), ending("stop", "abandonment")]},
        end("clerk"),
        anywhere=[PERSON | {"to": "clerk"}],
    )
    expansion = expanded(spec, identity=callee)
    assert [edge.to for edge in expansion.spec.anywhere] == ["clerk"]
    assert "check__person" not in {each.id for each in expansion.spec.nodes}
    assert not expansion.analyse().errors


WHY = {"id": "why", "question": "Why the code is asked.", "examples": ["Why do you ask?"], "answer": "To protect you."}
OPEN = {"question": "Opening hours.", "examples": ["When do you open?"], "answer": "At nine."}


def asked_at(spec: ProcedureSpec) -> dict[str, set[str]]:
    customers = {node.id for node in spec.nodes if node.role == "user"}
    return {each.question: customers - set(each.except_) for each in spec.questions}


def test_questions_of_the_caller_are_asked_in_called_procedures_and_theirs_only_there() -> None:
    callee = identity(questions=[WHY])
    spec = flat(bank(CHECK, questions=[OPEN]), identity=callee)
    assert asked_at(spec) == {"Opening hours.": {"check__answer"}, "Why the code is asked.": {"check__answer"}}
    assert [each.id for each in spec.questions] == [None, "check__why"]
    spec = flat(bank(CHECK, questions=[OPEN | {"except": ["check"]}]), identity=callee)
    assert asked_at(spec)["Opening hours."] == set()


def test_a_question_that_the_caller_answers_itself_is_asked_once() -> None:
    spec = flat(bank(CHECK, questions=[WHY | {"id": "own", "answer": "Because we must."}]), identity=identity(questions=[WHY]))
    assert [each.answer for each in spec.questions] == ["Because we must."]


def test_knowledge_is_gathered_and_said_once() -> None:
    fact = {"id": "hours", "text": "We are open from 8 to 6."}
    again = CHECK | {"id": "again"}
    spec = flat(bank(CHECK | {"next": [ending("again")]}, again), identity=identity(knowledge=[fact]))
    assert [each.text for each in spec.knowledge] == [fact["text"]]


def test_a_procedure_without_calls_is_its_own_expansion() -> None:
    spec = identity()
    assert expand("identity", spec, {}).spec is spec


def test_the_digest_covers_what_the_called_procedure_says_and_nothing_else_of_it() -> None:
    spec, before = bank(CHECK), procedure_digest(flat(bank(CHECK)))
    assert procedure_digest(flat(spec, identity=identity(openers=["Good morning."]))) == before
    assert procedure_digest(flat(spec, identity=identity(knowledge=[{"id": "a", "text": "Codes have four digits."}]))) != before


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
        "terminals (verified, refused) or outcomes (abandonment, success) [spec.nodes[1].next[0].outcome]",
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
        "node check: 'a gift' is no value of reason in identity; use one of a payment",
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
        "edge hello → check: its guard names check, which calls a procedure and is no hub"
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
