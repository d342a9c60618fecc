"""A procedure with calls becomes one flat procedure with the nodes, variables and tools of all."""

from subterra_api.digest import procedure_digest
from subterra_core.procedure.calls.expansion import expand
from subterra_core.procedure.graph import Graph
from subterra_testkit.called_procedures import CHECK, CODE, TIER, bank, call, ending, expanded, flat, identity, node
from subterra_testkit.procedures import Json, agent, branch, end, procedure, user, way

FOUND: Json = {"name": "found", "visibility": "result", "values": ["ok", "unknown"]}
LOOK_UP: Json = {"name": "look_up", "parameters": [{"name": "code"}], "outcome": "found"}


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


def test_a_procedure_without_calls_is_its_own_expansion() -> None:
    spec = identity()
    assert expand("identity", spec, {}).spec is spec


def test_the_digest_covers_what_the_called_procedure_says_and_nothing_else_of_it() -> None:
    spec, before = bank(CHECK), procedure_digest(flat(bank(CHECK)))
    assert procedure_digest(flat(spec, identity=identity(openers=["Good morning."]))) == before
    assert procedure_digest(flat(spec, identity=identity(knowledge=[{"id": "a", "text": "Codes have four digits."}]))) != before
