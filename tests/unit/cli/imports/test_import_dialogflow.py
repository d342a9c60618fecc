"""A Dialogflow CX agent becomes a procedure: pages, forms and routes as they are, webhooks as tools, computed words as gaps."""

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_cli.imports.dialogflow.dialogflow_agent import DialogflowError, read_agent
from subterra_cli.imports.dialogflow.dialogflow_flow import to_draft
from subterra_cli.imports.drafts.draft_procedure import to_procedure
from subterra_cli.main import app
from subterra_core.procedure.lint.analyse import analyse

Json = dict[str, Any]
START = "Default Start Flow"


def says(*texts: str, **more: Any) -> Json:
    return {"messages": [{"text": {"text": list(texts)}, "languageCode": "en"}] if texts else [], **more}


def route(name: str, **fields: Any) -> Json:
    return {"name": name, **fields}


def parameter(name: str, entity: str, *texts: str) -> Json:
    return {"displayName": name, "entityType": entity, "required": True, "fillBehavior": {"initialPromptFulfillment": says(*texts)}}


class Export:
    """Files of an exported agent."""

    def __init__(self) -> None:
        self.files: dict[str, Any] = {"agent.json": {"startFlow": START, "defaultLanguageCode": "en"}}
        self.flow(START)

    def flow(self, name: str, *routes: Json, **more: Any) -> "Export":
        self.files[f"flows/{name}/{name}.json"] = {"displayName": name, "transitionRoutes": routes, **more}
        return self

    def page(self, name: str, *routes: Json, flow: str = START, **more: Any) -> "Export":
        self.files[f"flows/{flow}/pages/{name}.json"] = {"displayName": name, "transitionRoutes": routes, **more}
        return self

    def intent(self, name: str, *phrases: str | list[Json], **more: Any) -> "Export":
        parts = [{"parts": [{"text": each}] if isinstance(each, str) else each} for each in phrases]
        self.files[f"intents/{name}/{name}.json"] = {"displayName": name, **more}
        self.files[f"intents/{name}/trainingPhrases/en.json"] = {"trainingPhrases": parts}
        return self

    def entity(self, name: str, *values: str) -> "Export":
        self.files[f"entityTypes/{name}/{name}.json"] = {"displayName": name, "kind": "KIND_MAP"}
        self.files[f"entityTypes/{name}/entities/en.json"] = {"entities": [{"value": value} for value in values]}
        return self

    def write(self, folder: Path) -> Path:
        for name, data in self.files.items():
            file = folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(data if isinstance(data, str) else json.dumps(data))
        return folder


def spec_of(export: Export, folder: Path, flow: str | None = None) -> Json:
    """The spec of the procedure that an agent becomes; lint finds nothing in it but gaps."""
    spec: Json = to_procedure(to_draft(read_agent(export.write(folder)), flow), "shop")["spec"]
    problems = [str(each) for each in analyse(ProcedureSpec.model_validate(spec)).errors if "a gap left" not in each.problem]
    assert problems == []
    return spec


def nodes_of(export: Export, folder: Path, flow: str | None = None) -> dict[str, Json]:
    return {node["id"]: node for node in spec_of(export, folder, flow)["nodes"]}


def pizza() -> Export:
    form = {"parameters": [parameter("size", "@Size", "Which size?", "How big?"), parameter("street", "@sys.address", "Where to?")]}
    done = route(
        "r3", condition='$page.params.status = "FINAL"', triggerFulfillment=says("A $session.params.size one."), targetPage="Done"
    )
    no_match = {"event": "sys.no-match-default", "triggerFulfillment": says("Say that again?")}
    order = route("r1", intent="order", triggerFulfillment=says("Gladly."), targetPage="Order")
    bye = route("r2", intent="bye", triggerFulfillment=says("Bye."), targetPage="End Session")
    export = Export().flow(START, order, bye, eventHandlers=[no_match])
    export.page("Order", done, entryFulfillment=says("Let me ask you something."), form=form)
    export.page("Done", route("r4", condition="true", targetPage="End Session"), entryFulfillment=says("It is on its way."))
    export.intent("order", "A pizza please", [{"text": "A "}, {"text": "big", "parameterId": "size"}, {"text": " pizza"}])
    return export.intent("bye", "Bye", description="The customer leaves").entity("Size", "small", "big")


def test_routes_with_intents_are_the_customers_to_decide_in_the_training_phrases(tmp_path: Path) -> None:
    first = spec_of(pizza(), tmp_path)["nodes"][0]
    assert first["role"] == "user"
    assert [(edge["when"], edge["examples"]) for edge in first["next"]] == [
        ("The customer means this: order", ["A pizza please", "A big pizza"]),
        ("The customer means this: The customer leaves", ["Bye"]),
    ]


def test_a_form_is_a_question_and_an_answer_for_each_parameter(tmp_path: Path) -> None:
    spec = spec_of(pizza(), tmp_path)
    nodes = {node["id"]: node for node in spec["nodes"]}
    asked = ["ask_size", "size", "ask_street", "street"]
    assert [*nodes] == ["default_start_flow_answer", "reply_order", "order", *asked, "reply_done", "done", "reply_bye"]
    assert nodes["ask_size"]["examples"] == ["Which size?", "How big?"]
    assert nodes["size"]["examples"] == ["{{size}}"]
    assert nodes["reply_done"]["prompt"] == "A {{size}} one."
    variables = {each["name"]: each for each in spec["variables"]}
    assert variables["size"]["values"] == ["small", "big"]
    assert variables["street"]["values"] == ["GAP: examples of street (sys.address)"]


def test_an_end_without_words_ends_with_the_turn_before_it_and_no_match_is_off_topic(tmp_path: Path) -> None:
    spec = spec_of(pizza(), tmp_path)
    assert {node["id"]: node["outcome"] for node in spec["nodes"] if "outcome" in node} == {
        "done": "success",
        "reply_bye": "success",
    }
    assert spec["otherwise"] == {"offTopic": ["Say that again?"]}


def test_an_agent_in_a_zip_file_is_read_as_its_folder_is(tmp_path: Path) -> None:
    folder = pizza().write(tmp_path / "agent")
    archive = tmp_path / "agent.zip"
    with zipfile.ZipFile(archive, "w") as written:
        for file in folder.rglob("*.json"):
            written.write(file, f"exported/{file.relative_to(folder)}")
    one, other = (CliRunner().invoke(app, ["import", "dialogflow", str(path)]) for path in (folder, archive))
    assert one.exit_code == 0, one.output
    assert "10 nodes, 10 of them without a gap; 2 gaps to fill in" in one.stderr
    assert yaml.safe_load(one.stdout) == yaml.safe_load(other.stdout)


def test_conditions_on_one_parameter_decide_by_its_values_and_others_as_they_are(tmp_path: Path) -> None:
    checks = (
        route("a", condition='$session.params.state = "open"', targetPage="Open"),
        route("b", condition='$session.params.state = "closed"', targetPage="Closed"),
    )
    export = Export().flow(
        START, route("r", intent="ask", triggerFulfillment=says("I look.", webhook="shop", tag="look-up"), targetPage="Check")
    )
    export.intent("ask", "Is it open?").page("Check", *checks)
    for name in ("Open", "Closed"):
        export.page(name, route("e", condition="true", targetPage="End Session"), entryFulfillment=says(f"It is {name}."))
    export.files["webhooks/shop.json"] = {
        "displayName": "shop",
        "genericWebService": {"parameterMapping": [{"key": "state", "value": "s"}]},
    }
    spec = spec_of(export, tmp_path)
    hub = next(node for node in spec["nodes"] if "fact" in node)
    assert [edge.get("values") for edge in hub["next"]] == [["open"], ["closed"]]
    assert spec["tools"] == [{"name": "look_up", "description": "shop, tag look-up", "results": ["state"]}]


def test_a_webhook_with_a_body_is_called_with_what_the_body_names(tmp_path: Path) -> None:
    ask = {"parameters": [parameter("phone", "@sys.phone-number", "Your number?")]}
    done = route(
        "f", condition='$page.params.status = "FINAL"', triggerFulfillment=says("Done.", webhook="shop"), targetPage="End Session"
    )
    export = Export().flow(START, route("r", intent="ask", targetPage="Form")).intent("ask", "Hi").page("Form", done, form=ask)
    body = {"requestBody": '{"p": "$session.params.phone"}'}
    export.files["webhooks/shop.json"] = {"displayName": "shop", "genericWebService": body}
    call = next(node for node in spec_of(export, tmp_path)["nodes"] if node["role"] == "tool")
    assert call["arguments"] == [{"name": "phone", "value": "{{phone}}"}]


def test_conditional_words_are_a_branch_and_computed_words_a_gap(tmp_path: Path) -> None:
    def case(condition: str, text: str) -> Json:
        return {"condition": condition, "caseContent": [{"message": says(text)["messages"][0]}]}

    cases = [{"cases": [case('$session.params.vip = "true"', "Dear guest."), case("true", "Hello.")]}]
    computed = says("It costs $sys.func.ADD($session.params.price, 1).", conditionalCases=cases)
    export = (
        Export().flow(START, route("r", intent="ask", triggerFulfillment=computed, targetPage="End Session")).intent("ask", "Hi")
    )
    nodes = nodes_of(export, tmp_path)
    prompts = [node["prompt"] for node in nodes.values() if node["role"] == "agent"]
    assert prompts[0].startswith("GAP: what replaces the computed parts of: It costs $sys.func.ADD(")
    assert prompts[1:] == ["Dear guest.", "Hello."]


def test_a_flow_goes_on_where_it_was_entered_and_names_how_it_ended(tmp_path: Path) -> None:
    enter = route("r", intent="pay", triggerFulfillment=says("Let us pay."), targetFlow="Pay")
    done = route("d", intent="paid", triggerFulfillment=says("Paid."), targetPage="End Flow")
    person = route(
        "p", intent="person", triggerFulfillment=says("I call one."), targetPage="End Flow With Failure Human Escalation"
    )
    leave = route("l", intent="bye", triggerFulfillment=says("Bye."), targetPage="End Session")
    export = Export().flow(START, enter, leave).flow("Pay", done, person)
    for name in ("pay", "paid", "person", "bye"):
        export.intent(name, f"I say {name}")
    nodes = nodes_of(export, tmp_path / "whole")
    assert nodes["reply_paid"]["next"] == [{"to": "default_start_flow_answer"}]
    alone = nodes_of(export, tmp_path / "part", "Pay")
    assert (alone["reply_paid"]["outcome"], alone["reply_person"]["outcome"]) == ("success", "escalation")


def test_an_agent_that_never_ends_gets_a_way_out_that_is_a_gap(tmp_path: Path) -> None:
    export = Export().flow(START, route("r", intent="ask", triggerFulfillment=says("Yes."))).intent("ask", "Are you there?")
    first = spec_of(export, tmp_path)["nodes"][0]
    assert [edge["when"] for edge in first["next"]][1:] == ["GAP: what the customer says when the conversation is over"]


def test_an_intent_on_a_page_with_a_form_may_be_said_instead_of_an_answer(tmp_path: Path) -> None:
    export = pizza()
    cancel = route("c", intent="bye", triggerFulfillment=says("Cancelled."), targetPage="End Session")
    export.files[f"flows/{START}/pages/Order.json"]["transitionRoutes"] += (cancel,)
    nodes = nodes_of(export, tmp_path)
    assert [nodes[edge["to"]]["prompt"] for edge in nodes["size"]["next"]] == ["Where to?", "Cancelled."]


def test_a_route_that_leads_nowhere_in_the_export_is_a_gap(tmp_path: Path) -> None:
    export = Export().flow(START, route("r", intent="ask", triggerFulfillment=says("Yes."), targetPage="Gone")).intent("ask", "Hi")
    assert "GAP: what happens at the page Gone, which is not in the export" in [
        node.get("prompt") for node in nodes_of(export, tmp_path).values()
    ]


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("agent.json", "{", "agent.json: is not JSON"),
        ("agent.json", "[]", "agent.json: is not a JSON object"),
        ("agent.json", '{"startFlow": "Main"}', "the start flow 'Main' is not among its flows"),
        ("intents/a/a.json", "{}", "intents/a/a.json: has no displayName; export the agent again"),
        ("webhooks/a.json", '{"a": ' * 100_000, "webhooks/a.json: is not JSON"),
    ],
)
def test_a_bad_file_is_refused_with_its_name_and_the_fix(name: str, text: str, told: str, tmp_path: Path) -> None:
    export = pizza()
    export.files[name] = text
    result = CliRunner().invoke(app, ["import", "dialogflow", str(export.write(tmp_path))])
    assert result.exit_code == 2
    assert told in result.stderr.replace("\n", " ")
    assert "Traceback" not in result.output


def test_folders_and_archives_that_are_no_export_or_lead_out_of_it_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DialogflowError, match=r"no agent.json in it; export the agent"):
        read_agent(tmp_path)
    with pytest.raises(DialogflowError, match="does not exist"):
        read_agent(tmp_path / "missing")
    (tmp_path / "a.zip").write_text("no zip")
    with pytest.raises(DialogflowError, match="cannot be read as a zip file"):
        read_agent(tmp_path / "a.zip")
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        archive.writestr("../agent.json", "{}")
    with pytest.raises(DialogflowError, match=r"'\.\./agent.json' leads out of the archive"):
        read_agent(tmp_path / "b.zip")
    with zipfile.ZipFile(tmp_path / "c.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("agent.json", " " * (5 * 1024 * 1024))
    with pytest.raises(DialogflowError, match="more than the limit of 4,194,304"):
        read_agent(tmp_path / "c.zip")


def test_links_that_lead_out_of_the_folder_are_not_followed(tmp_path: Path) -> None:
    folder = pizza().write(tmp_path / "agent")
    (tmp_path / "secret.json").write_text('{"displayName": "secret"}')
    (folder / "webhooks").mkdir()
    (folder / "webhooks/secret.json").symlink_to(tmp_path / "secret.json")
    assert read_agent(folder).webhooks == {}


def test_an_unknown_flow_is_refused_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(DialogflowError, match=f"there is no flow 'Pay'; --flow is one of {START}"):
        to_draft(read_agent(pizza().write(tmp_path)), "Pay")
