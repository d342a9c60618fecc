"""Rasa's flows become a procedure: questions, answers, branches and calls as they are, code as tools, the rest as gaps."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_cli.imports.drafts.draft_procedure import to_procedure
from subterra_cli.imports.rasa.rasa_conditions import Test as Condition
from subterra_cli.imports.rasa.rasa_conditions import parse_test
from subterra_cli.imports.rasa.rasa_flow import to_draft
from subterra_cli.imports.rasa.rasa_project import RasaError, read_project
from subterra_cli.main import app
from subterra_core.procedure.lint.analyse import analyse

TRANSFER = """\
flows:
  transfer_money:
    description: send money to a friend
    nlu_trigger: [{intent: {name: send_money, confidence_threshold: 0.5}}]
    steps:
      - collect: recipient
        description: a person's name
      - id: ask_amount
        collect: amount
        rejections: [{if: slots.amount < 1, utter: utter_too_little}]
      - action: action_check_funds
        next:
          - if: not slots.enough
            then:
              - action: utter_not_enough
              - set_slots: [{amount: null}]
                next: ask_amount
          - else: confirm
      - id: confirm
        collect: confirmed
        next:
          - if: slots.confirmed
            then: [{action: utter_done, next: END}]
          - else: [{link: pattern_human_handoff}]
"""
DOMAIN = """\
version: "3.1"
slots:
  recipient: {type: text, mappings: [{type: from_llm}]}
  amount: {type: float}
  enough: {type: bool}
  confirmed: {type: bool}
  kind: {type: categorical, values: [card, cash]}
responses:
  utter_ask_recipient: [{text: Who gets it?}, {text: Who is it for?}]
  utter_ask_amount: [{text: How much?}]
  utter_too_little: [{text: That is too little.}]
  utter_not_enough: [{text: You have not got that much.}]
  utter_ask_confirmed:
    - text: Send {amount} to {recipient}?
      buttons:
        - {title: Yes please, payload: "/SetSlots(confirmed=true)"}
        - {title: No thanks, payload: "/SetSlots(confirmed=false)"}
  utter_done: [{text: "Sent {amount} to {recipient}."}]
  utter_bye: [{text: Bye.}]
  utter_card: [{text: By card.}]
  utter_cash: [{text: In cash.}]
nlu:
  - intent: send_money
    examples: |
      - Send money to [Ann](person)
      - I want to pay a friend
"""


_BOMB = "b0: &b0 [x, x]\n" + "".join(f"b{level + 1}: &b{level + 1} [{', '.join([f'*b{level}'] * 60)}]\n" for level in range(9))


def spec_of(tmp_path: Path, flows: str, *wanted: str, domain: str = DOMAIN) -> dict[str, Any]:
    """The spec of the procedure that flows become; lint finds nothing in it but gaps."""
    (tmp_path / "flows.yml").write_text(flows)
    (tmp_path / "domain.yml").write_text(domain)
    spec: dict[str, Any] = to_procedure(to_draft(read_project(tmp_path), wanted), "bank")["spec"]
    problems = [str(each) for each in analyse(ProcedureSpec.model_validate(spec)).errors if "a gap left" not in each.problem]
    assert problems == []
    return spec


def nodes_of(tmp_path: Path, flows: str, *wanted: str, domain: str = DOMAIN) -> dict[str, dict[str, Any]]:
    return {node["id"]: node for node in spec_of(tmp_path, flows, *wanted, domain=domain)["nodes"]}


def flow(*steps: str, name: str = "one", more: str = "") -> str:
    listed = "\n".join(f"      - {step}" for step in steps)
    return f"  {name}:\n    description: wants {name}\n{more}    steps:\n{listed}\n"


def test_a_collect_is_a_question_in_the_domains_words_and_an_answer(tmp_path: Path) -> None:
    nodes = nodes_of(tmp_path, TRANSFER)
    assert nodes["ask_recipient"]["examples"] == ["Who gets it?", "Who is it for?"]
    assert nodes["recipient"] == {
        "id": "recipient",
        "role": "user",
        "prompt": "Answer with recipient (a person's name): {{recipient}}",
        "examples": ["{{recipient}}"],
        "next": [{"to": "ask_amount"}],
    }


def test_the_conversation_begins_with_what_starts_the_flow(tmp_path: Path) -> None:
    spec = spec_of(tmp_path, TRANSFER)
    first = spec["nodes"][0]
    assert spec["start"] == first["id"] == "request"
    assert (first["role"], first["prompt"]) == ("user", "send money to a friend")
    assert first["examples"] == ["Send money to Ann", "I want to pay a friend"]


def test_an_action_is_a_tool_with_what_was_said_and_returns_the_slot_that_decides(tmp_path: Path) -> None:
    spec = spec_of(tmp_path, TRANSFER)
    call = next(node for node in spec["nodes"] if node["role"] == "tool")
    assert [each["value"] for each in call["arguments"]] == ["{{recipient}}", "{{amount}}"]
    assert (call["decidedBy"], call["fact"]) == ("fact", "enough")
    assert [(edge["to"], edge.get("values")) for edge in call["next"]] == [("not_enough", ["no"]), ("ask_confirmed", None)]
    assert spec["tools"][0]["results"] == ["enough"]
    assert next(each for each in spec["variables"] if each["name"] == "enough")["visibility"] == "result"


def test_a_yes_or_no_is_decided_by_the_customer_in_the_buttons_words(tmp_path: Path) -> None:
    answer = nodes_of(tmp_path, TRANSFER)["confirmed"]
    assert [(edge["to"], edge["when"], edge["examples"]) for edge in answer["next"]] == [
        ("done", "The customer says yes to: confirmed.", ["Yes please"]),
        ("handoff", "The customer says no to: confirmed.", ["No thanks"]),
    ]


def test_a_rejection_leads_back_to_the_question_and_a_handoff_is_an_escalation(tmp_path: Path) -> None:
    nodes = nodes_of(tmp_path, TRANSFER)
    assert [edge["to"] for edge in nodes["amount"]["next"]] == ["too_little", "check_funds"]
    assert nodes["too_little"]["next"] == [{"to": "ask_amount"}]
    assert nodes["handoff"]["outcome"] == "escalation"


def test_values_of_a_list_decide_as_a_fact(tmp_path: Path) -> None:
    steps = "collect: kind\n        next: [{if: slots.kind is 'card', then: [{action: utter_card, next: END}]}, {else: bye}]"
    nodes = nodes_of(tmp_path, "flows:\n" + flow(steps, "id: bye\n        action: utter_cash"))
    assert (nodes["kind"]["decidedBy"], nodes["kind"]["fact"]) == ("fact", "kind")
    assert [(edge["to"], edge.get("values")) for edge in nodes["kind"]["next"]] == [("card", ["card"]), ("cash", None)]


def test_of_several_flows_the_customers_first_turn_decides_and_guarded_ones_are_only_called(tmp_path: Path) -> None:
    flows = "flows:\n" + flow("action: utter_bye") + flow("call: three", "action: utter_card", name="two")
    flows += flow("action: utter_cash", name="three", more="    if: False\n") + flow("action: utter_bye", name="pattern_x")
    nodes = nodes_of(tmp_path, flows)
    assert [(edge["to"], edge["when"]) for edge in nodes["request"]["next"]] == [
        ("bye", "The customer wants this: wants one"),
        ("cash", "The customer wants this: wants two"),
    ]
    assert nodes["cash"]["next"] == [{"to": "card"}]
    assert [*nodes_of(tmp_path, flows, "two")] == ["request", "cash", "card"]


def test_a_link_shares_the_flow_and_a_circle_of_calls_ends(tmp_path: Path) -> None:
    flows = "flows:\n" + flow("action: utter_bye", "link: two") + flow("action: utter_card", "call: two", name="two")
    assert [*nodes_of(tmp_path, flows, "one")] == ["request", "bye", "card"]


def test_a_condition_on_several_slots_is_a_fact_of_its_own(tmp_path: Path) -> None:
    branch = "next: [{if: slots.enough and slots.amount > 5, then: [{action: utter_card, next: END}]}, {else: bye}]"
    spec = spec_of(tmp_path, "flows:\n" + flow(f"action: look_up\n        {branch}", "id: bye\n        action: utter_bye"))
    call = next(node for node in spec["nodes"] if node["role"] == "tool")
    assert [edge["values"] for edge in call["next"]] == [["enough and amount > 5"], ["otherwise"]]
    assert spec["tools"][0]["results"] == [call["fact"]]


def test_a_tool_of_an_mcp_server_has_the_arguments_and_results_of_its_mapping(tmp_path: Path) -> None:
    mapping = "mapping: {input: [{param: to, slot: recipient}], output: [{slot: enough, value: ok}]}"
    steps = ("collect: recipient", f"call: look_up\n        mcp_server: shop\n        {mapping}", "action: utter_bye")
    spec = spec_of(tmp_path, "flows:\n" + flow(*steps))
    call = next(node for node in spec["nodes"] if node["role"] == "tool")
    assert (call["tool"], call["arguments"]) == ("look_up", [{"name": "to", "value": "{{recipient}}"}])


def test_what_the_files_do_not_have_is_a_gap(tmp_path: Path) -> None:
    steps = ("action: utter_unknown", "action: action_trigger_search", "call: other_agent", "link: missing")
    nodes = nodes_of(tmp_path, "flows:\n" + flow(*steps))
    assert [node["prompt"].split(",")[0] for node in nodes.values() if node["role"] == "agent"] == [
        "GAP: what the agent says at utter_unknown",
        "GAP: the facts with which the agent answers; the source searches documents for them",
        "GAP: what the agent says at 'other_agent'",
        "GAP: what happens in the flow 'missing'",
    ]


def test_a_file_is_read_with_the_domain_near_it(tmp_path: Path) -> None:
    (tmp_path / "data/flows").mkdir(parents=True)
    (tmp_path / "data/flows/bank.yml").write_text(TRANSFER)
    (tmp_path / "domain").mkdir()
    (tmp_path / "domain/bank.yml").write_text(DOMAIN)
    made = CliRunner().invoke(app, ["import", "rasa", str(tmp_path / "data/flows/bank.yml")])
    assert made.exit_code == 0, made.output
    document = yaml.safe_load(made.stdout)
    assert document["metadata"]["name"] == "bank"
    assert "Who gets it?" in made.stdout
    assert "12 nodes, 12 of them without a gap; 3 gaps to fill in" in made.stderr


def test_links_that_lead_out_of_the_folder_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret.yml").write_text("flows:\n" + flow("action: utter_bye", name="secret"))
    inside = tmp_path / "bot"
    inside.mkdir()
    (inside / "flows.yml").write_text("flows:\n" + flow("action: utter_bye"))
    (inside / "linked.yml").symlink_to(tmp_path / "secret.yml")
    assert [*read_project(inside).flows] == ["one"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("rules: []", "no flows in it; a file of Rasa CALM has them below `flows:`"),
        ("flows: [a]", "flows.yml: flows is not a mapping"),
        ("flows:\n  a: {description: x}", "flow 'a' has no list of steps; add steps"),
        ("flows:\n" + flow("hello"), "flow 'one': step 1 of a list is 'hello', no mapping"),
        ("flows:\n" + flow("action: utter_a\n        next: nowhere"), "next leads to 'nowhere', which is not an id of its steps"),
        ("flows:\n" + flow("noop: true\n        next: [{then: END}]"), "each entry is `if:` with `then:`, or `else:`"),
        ("flows:\n" + flow("say: hello"), "a step has only say; use collect, action, link"),
        ("flows:\n" + flow("action: utter_a", more="    if: False\n"), "no flow can be started by a customer"),
        ("flows:\n  a: {steps: [}", "flows.yml:2: "),
        ("flows: &a\n  b: *a", "has an anchor that contains itself"),
        ("flows:\n  a: {steps: []}\n" + _BOMB, "through its anchors; use fewer anchors"),
    ],
)
def test_a_bad_file_is_refused_with_the_place_and_the_fix(text: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "flows.yml").write_text(text)
    result = CliRunner().invoke(app, ["import", "rasa", str(tmp_path)])
    assert result.exit_code == 2
    assert told in result.stderr.replace("\n", " ")
    assert "Traceback" not in result.output


def test_a_flow_that_is_there_twice_and_one_that_is_not_there_are_refused(tmp_path: Path) -> None:
    for name in ("a.yml", "b.yml"):
        (tmp_path / name).write_text("flows:\n" + flow("action: utter_bye"))
    with pytest.raises(RasaError, match=r"b.yml: flow 'one' is in .*a.yml too"):
        read_project(tmp_path)
    (tmp_path / "b.yml").unlink()
    with pytest.raises(RasaError, match="there is no flow 'two'; --flow is one of one"):
        to_draft(read_project(tmp_path), ["two"])


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("slots.a", Condition("a", "is", "yes")),
        ("not slots.a", Condition("a", "is", "no")),
        ("slots.a is true", Condition("a", "is", "yes")),
        ("slots.a == False", Condition("a", "is", "no")),
        ("slots.a is not null", Condition("a", "is", "yes")),
        ("slots.a = 'two words'", Condition("a", "is", "two words")),
        ("not slots.a is 'x'", Condition("a", "is not", "x")),
        ('slots.a < "3"', Condition("a", "is less than", "3")),
        ("slots.a and slots.b", None),
        ("slots.a > slots.b", None),
    ],
)
def test_conditions_on_one_slot_are_read(text: str, found: Condition | None) -> None:
    assert parse_test(text) == found
