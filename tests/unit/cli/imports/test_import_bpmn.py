"""A BPMN process becomes a procedure: elements as they are drawn, what it does not say as a gap, bad files with their fix."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_cli.imports.bpmn.bpmn_flow import to_draft
from subterra_cli.imports.bpmn.bpmn_xml import BpmnError, parse_xml, read_model
from subterra_cli.imports.drafts.draft_procedure import to_procedure
from subterra_cli.main import app
from subterra_core.procedure.lint.analyse import analyse

_HEAD = '<definitions xmlns="http://www.omg.org/spec/BPMN/20100524/MODEL" xmlns:x="http://camunda.org/schema/1.0/bpmn">'


def flow(source: str, target: str, name: str = "", condition: str = "") -> str:
    key = f"{source}_{target}"
    inside = f"<conditionExpression>{condition}</conditionExpression>" if condition else ""
    return f'<sequenceFlow id="{key}" sourceRef="{source}" targetRef="{target}" name="{name}">{inside}</sequenceFlow>'


def chain(*keys: str) -> str:
    return "".join(flow(one, other) for one, other in pairwise(keys))


def process(*elements: str, before: str = "") -> str:
    return f'{_HEAD}{before}<process id="p">{"".join(elements)}</process></definitions>'


def spec_of(text: str, tmp_path: Path, **options: Any) -> dict[str, Any]:
    """The spec of the procedure that a process becomes; lint finds nothing in it but gaps."""
    file = tmp_path / "shop.bpmn"
    file.write_text(text)
    spec: dict[str, Any] = to_procedure(to_draft(read_model(file), str(file), **options), "shop")["spec"]
    problems = [str(each) for each in analyse(ProcedureSpec.model_validate(spec)).errors if "a gap left" not in each.problem]
    assert problems == []
    return spec


def nodes_of(text: str, tmp_path: Path, **options: Any) -> dict[str, dict[str, Any]]:
    return {node["id"]: node for node in spec_of(text, tmp_path, **options)["nodes"]}


def ways(node: dict[str, Any]) -> list[tuple[str, str | None]]:
    return [(edge["to"], edge.get("when")) for edge in node.get("next", [])]


def test_tasks_are_turns_and_an_exclusive_gateway_is_the_customers_to_decide(tmp_path: Path) -> None:
    nodes = nodes_of(
        process(
            '<startEvent id="s"/><task id="ask" name="Ask for the receipt"><documentation>Be polite.</documentation></task>',
            '<exclusiveGateway id="g" name="Receipt there?" default="g_no"/>',
            '<userTask id="refund" name="Refund"/><task id="no" name="Explain why not"/><endEvent id="e"/>',
            chain("s", "ask", "g"),
            flow("g", "refund", "yes"),
            flow("g", "no"),
            chain("refund", "e"),
            chain("no", "e"),
        ),
        tmp_path,
    )
    assert nodes["ask_for_the_receipt"]["prompt"] == "Ask for the receipt. Be polite."
    assert nodes["receipt_there"]["role"] == "user"
    assert ways(nodes["receipt_there"]) == [
        ("refund", "Receipt there? yes"),
        ("explain_why_not", "None of these: Receipt there? yes"),
    ]
    assert (nodes["refund"]["outcome"], nodes["refund"].get("next")) == ("success", None)


def test_an_unnamed_branch_is_a_gap_and_a_condition_names_one(tmp_path: Path) -> None:
    nodes = nodes_of(
        process(
            '<task id="a" name="Ask"/><exclusiveGateway id="g"/><task id="b" name="Sell"/><task id="c" name="Stop"/>',
            chain("a", "g"),
            flow("g", "b", condition="${wants == true}"),
            flow("g", "c"),
        ),
        tmp_path,
    )
    branches = [edge["when"] for node in nodes.values() if node["role"] == "user" for edge in node["next"]]
    assert branches == ["wants == true", "GAP: what the customer says to get to 'Stop'"]


def test_a_service_task_is_a_call_whose_result_decides_at_the_gateway_behind_it(tmp_path: Path) -> None:
    mapping = '<extensionElements><x:inputOutput><x:inputParameter name="order">${order}</x:inputParameter>'
    spec = spec_of(
        process(
            '<task id="a" name="Greet"/><serviceTask id="t" name="Look up order">',
            f"{mapping}</x:inputOutput></extensionElements></serviceTask>",
            '<exclusiveGateway id="g" name="In stock?"/><task id="b" name="Sell"/><task id="c" name="Stop"/>',
            chain("a", "t", "g"),
            flow("g", "b", "yes"),
            flow("g", "c", "no"),
        ),
        tmp_path,
    )
    call = next(node for node in spec["nodes"] if node["role"] == "tool")
    assert call["tool"] == "look_up_order"
    assert call["arguments"] == [{"name": "order", "value": "{{order}}"}]
    assert (call["decidedBy"], call["fact"]) == ("fact", "in_stock_case")
    assert [(edge["to"], edge["values"]) for edge in call["next"]] == [("sell", ["yes"]), ("stop", ["no"])]
    assert spec["tools"] == [
        {"name": "look_up_order", "description": "Look up order", "parameters": [{"name": "order"}], "results": ["in_stock_case"]}
    ]


def test_a_call_without_declared_arguments_is_a_gap_that_lint_and_plan_refuse(tmp_path: Path) -> None:
    file = tmp_path / "p.bpmn"
    file.write_text(
        process('<task id="a" name="Greet"/><serviceTask id="t" name="Book"/><task id="b" name="Bye"/>', chain("a", "t", "b"))
    )
    made = CliRunner().invoke(app, ["import", "bpmn", str(file)])
    assert made.exit_code == 0, made.output
    assert f"{file}: 3 nodes, 2 of them without a gap; 2 gaps to fill in; `subterra lint FILE` lists them" in made.stderr
    document = tmp_path / "p.yaml"
    document.write_text(made.stdout)
    told = CliRunner().invoke(app, ["lint", str(document)])
    assert told.exit_code == 1
    assert "error: spec.tools[0].description" in told.stderr or "tool book: still contains 'GAP: parameters" in told.stderr
    assert CliRunner().invoke(app, ["plan", str(document)]).exit_code != 0


def test_a_call_at_the_beginning_and_before_the_customer_gets_words(tmp_path: Path) -> None:
    nodes = nodes_of(
        process(
            '<startEvent id="s" name="I want my money back"/><serviceTask id="t" name="Look up"/>',
            '<receiveTask id="r" name="Tell the reason"/><endEvent id="e" name="Goodbye"/>',
            chain("s", "t", "r", "e"),
        ),
        tmp_path,
    )
    assert [*nodes] == ["opening", "look_up", "after_look_up", "tell_the_reason", "goodbye"]
    assert nodes["opening"]["prompt"] == "I want my money back"
    assert nodes["after_look_up"]["prompt"] == "GAP: what the agent says after calling 'look_up'"
    assert (nodes["tell_the_reason"]["role"], nodes["goodbye"]["outcome"]) == ("user", "success")


def test_parallel_branches_follow_each_other(tmp_path: Path) -> None:
    nodes = nodes_of(
        process(
            '<task id="a" name="A"/><parallelGateway id="f"/><task id="b" name="B"/><task id="c" name="C"/>',
            '<task id="d" name="D"/><parallelGateway id="j"/><task id="z" name="Z"/>',
            chain("a", "f", "b", "c", "j", "z"),
            chain("f", "d", "j"),
        ),
        tmp_path,
    )
    assert [node["next"][0]["to"] for node in nodes.values() if "next" in node] == ["b", "c", "d", "z"]


def test_a_parallel_branch_that_never_ends_is_left_out_with_a_note(tmp_path: Path) -> None:
    file = tmp_path / "p.bpmn"
    file.write_text(
        process(
            '<task id="a" name="A"/><parallelGateway id="f"/><task id="b" name="B"/><receiveTask id="c" name="Where is it?"/>',
            '<task id="d" name="Calm"/>',
            chain("a", "f", "b"),
            chain("f", "c", "d", "c"),
        )
    )
    made = CliRunner().invoke(app, ["import", "bpmn", str(file)])
    assert [node["id"] for node in yaml.safe_load(made.stdout)["spec"]["nodes"]] == ["a", "b"]
    assert "left out: Where is it?: a parallel branch that never ends" in made.stderr


def test_an_inclusive_gateway_is_a_gap_because_a_conversation_takes_one_way(tmp_path: Path) -> None:
    nodes = nodes_of(
        process(
            '<task id="a" name="A"/><inclusiveGateway id="g" name="Extras?"/><task id="b" name="B"/><task id="c" name="C"/>',
            chain("a", "g"),
            flow("g", "b", "towels"),
            flow("g", "c", "breakfast"),
        ),
        tmp_path,
    )
    assert nodes["extras"]["prompt"].startswith("GAP: Extras?; several of these may hold at once")


def test_events_behind_an_event_gateway_are_what_the_customer_may_do(tmp_path: Path) -> None:
    nodes = nodes_of(
        process(
            '<task id="a" name="Offer"/><eventBasedGateway id="g" name="Answer"/>',
            '<intermediateCatchEvent id="m" name="Offer accepted"><messageEventDefinition/></intermediateCatchEvent>',
            '<intermediateCatchEvent id="t" name="2 days"><timerEventDefinition/></intermediateCatchEvent>',
            '<task id="b" name="Book"/><task id="c" name="Remind"/>',
            chain("a", "g", "m", "b"),
            chain("g", "t", "c"),
        ),
        tmp_path,
    )
    assert ways(nodes["answer"]) == [("book", "Offer accepted"), ("remind", "The customer does not answer: 2 days")]


def test_sub_processes_and_called_processes_are_expanded(tmp_path: Path) -> None:
    inner = '<startEvent id="s2"/><task id="x" name="Inside"/><endEvent id="e2"/>' + chain("s2", "x", "e2")
    called = '<process id="q"><startEvent id="s3"/><task id="y" name="Called"/><endEvent id="e3"/>' + chain("s3", "y", "e3")
    nodes = nodes_of(
        process(
            '<task id="a" name="A"/><subProcess id="sub" name="Part">',
            inner,
            '</subProcess><callActivity id="call" name="Elsewhere" calledElement="q"/><task id="z" name="Z"/>',
            chain("a", "sub", "call", "z"),
            before=f"{called}</process>",
        ),
        tmp_path,
    )
    assert [*nodes] == ["a", "inside", "called", "z"]


def test_an_error_at_the_border_of_a_sub_process_is_where_its_error_end_leads(tmp_path: Path) -> None:
    nodes = nodes_of(
        process(
            '<task id="a" name="A"/><subProcess id="sub" name="Pay"><startEvent id="s2"/><task id="x" name="Ask for the card"/>',
            '<exclusiveGateway id="g" name="Valid?"/><endEvent id="ok"/><endEvent id="bad"><errorEventDefinition/></endEvent>',
            chain("s2", "x", "g"),
            flow("g", "ok", "yes"),
            flow("g", "bad", "no"),
            '</subProcess><boundaryEvent id="b" attachedToRef="sub"><errorEventDefinition/></boundaryEvent>',
            '<task id="done" name="Thank"/><task id="sorry" name="Apologize"/>',
            chain("a", "sub", "done"),
            chain("b", "sorry"),
        ),
        tmp_path,
    )
    assert ways(nodes["valid"]) == [("thank", "Valid? yes"), ("apologize", "Valid? no")]


def test_a_call_that_fails_leads_where_its_border_event_leads(tmp_path: Path) -> None:
    nodes = nodes_of(
        process(
            '<task id="a" name="A"/><serviceTask id="t" name="Charge"/>',
            '<boundaryEvent id="b" name="declined" attachedToRef="t"><errorEventDefinition/></boundaryEvent>',
            '<task id="done" name="Thank"/><task id="sorry" name="Apologize"/>',
            chain("a", "t", "done"),
            chain("b", "sorry"),
        ),
        tmp_path,
    )
    assert [(edge["to"], edge["values"]) for edge in nodes["charge"]["next"]] == [
        ("thank", ["otherwise"]),
        ("apologize", ["declined"]),
    ]


def test_the_customers_lane_speaks_as_the_customer_and_other_names_can_be_given(tmp_path: Path) -> None:
    text = process(
        '<laneSet id="l"><lane id="l1" name="Customer"><flowNodeRef>b</flowNodeRef></lane>',
        '<lane id="l2" name="Clerk"><flowNodeRef>a</flowNodeRef><flowNodeRef>c</flowNodeRef></lane></laneSet>',
        '<task id="a" name="A"/><task id="b" name="B"/><task id="c" name="C"/>',
        chain("a", "b", "c"),
    )
    assert [node["role"] for node in nodes_of(text, tmp_path).values()] == ["agent", "user", "agent"]
    named = nodes_of(text, tmp_path, customers=["Clerk"])
    assert [node["role"] for node in named.values()] == ["user", "agent", "user", "agent"]


def test_of_several_pools_the_customers_is_not_the_agent_and_others_are_chosen_by_name(tmp_path: Path) -> None:
    pools = '<collaboration id="c"><participant id="p1" name="Customer" processRef="q"/>'
    pools += (
        '<participant id="p2" name="Shop" processRef="p"/></collaboration><process id="q"><task id="o" name="Order"/></process>'
    )
    text = process('<task id="a" name="A"/><task id="b" name="B"/>', chain("a", "b"), before=pools)
    assert [*nodes_of(text, tmp_path)] == ["a", "b"]
    two = text.replace('name="Customer"', 'name="Carrier"')
    with pytest.raises(BpmnError, match="2 processes in it; choose one with --process: Carrier, Shop"):
        nodes_of(two, tmp_path)
    assert [*nodes_of(two, tmp_path, process="Shop")] == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('<!DOCTYPE d [<!ENTITY a "aaaa">]><d>&a;</d>', "line 1: <!DOCTYPE> is refused; remove it"),
        (f"{_HEAD}<process>", "line 1: is not XML"),
        ("<svg/>", "<svg> is not BPMN 2.0; export the diagram as BPMN 2.0 XML"),
        (process('<task name="A"/>'), "<task> has no id; add it"),
        (process('<task id="a"/><task id="a"/>'), "id 'a' is used twice; give each element its own"),
        (process('<task id="a"/>', chain("a", "b")), "sequenceFlow 'a_b' leads to or from 'b', which is not a task"),
        (process('<boundaryEvent id="b" attachedToRef="x"/>'), "is attached to 'x', which is not there"),
        (process(), "no process with tasks in it"),
        (f"{_HEAD}{'<a>' * 200}{'</a>' * 200}</definitions>", "is nested more than 100 levels deep"),
        (process('<task id="a" name="A"/>'), "fewer than two steps can be reached"),
    ],
)
def test_a_bad_file_is_refused_with_the_place_and_the_fix(text: str, told: str, tmp_path: Path) -> None:
    file = tmp_path / "bad.bpmn"
    file.write_text(text)
    result = CliRunner().invoke(app, ["import", "bpmn", str(file)])
    assert result.exit_code == 2
    assert told in result.stderr.replace("\n", " ")
    assert "Traceback" not in result.output


def test_a_document_type_is_refused_in_every_encoding() -> None:
    text = '<?xml version="1.0" encoding="utf-16"?><!DOCTYPE d SYSTEM "file:///etc/passwd"><d/>'
    with pytest.raises(BpmnError, match="DOCTYPE"):
        parse_xml(text.encode("utf-16"))


def test_what_calls_itself_twice_over_is_refused_instead_of_growing_without_end(tmp_path: Path) -> None:
    def called(level: int) -> str:
        calls = (
            f'<callActivity id="l{level}" calledElement="q{level + 1}"/><callActivity id="r{level}" calledElement="q{level + 1}"/>'
        )
        return f'<process id="q{level}">{calls}{chain(f"l{level}", f"r{level}")}</process>'

    deep = "".join(called(level) for level in range(20))
    text = process('<callActivity id="c" calledElement="q0"/><task id="z" name="Z"/>', chain("c", "z"), before=deep)
    with pytest.raises(Exception, match="more than 5,000 steps"):
        nodes_of(text, tmp_path, process="p")
