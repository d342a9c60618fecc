"""What a customer may say at any turn, and what the agent knows, in a procedure with calls: whose holds where."""

from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_core.procedure.graph import Graph
from subterra_testkit.called_procedures import CHECK, bank, ending, expanded, flat, identity
from subterra_testkit.procedures import Json, end

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
