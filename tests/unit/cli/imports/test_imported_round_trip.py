"""What was imported, drawn as Mermaid and imported again has the same nodes, speakers, endings, edges and conditions."""

import json
from pathlib import Path
from typing import Any

import pytest

from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_cli.imports.bpmn import bpmn_flow
from subterra_cli.imports.bpmn.bpmn_xml import read_model
from subterra_cli.imports.dialogflow import dialogflow_flow
from subterra_cli.imports.dialogflow.dialogflow_agent import read_agent
from subterra_cli.imports.drafts.draft import Draft
from subterra_cli.imports.drafts.draft_procedure import to_procedure
from subterra_cli.imports.mermaid_flow import to_procedure as from_mermaid
from subterra_cli.imports.mermaid_text import parse_flowchart
from subterra_cli.imports.rasa import rasa_flow
from subterra_cli.imports.rasa.rasa_project import read_project
from subterra_cli.output.mermaid import mermaid
from subterra_core.drawing.graph_summary import condition_label

_BPMN = """<definitions xmlns="http://www.omg.org/spec/BPMN/20100524/MODEL"><process id="p">
<startEvent id="s" name="My parcel is late"/><serviceTask id="t" name="Look up parcel"/><exclusiveGateway id="g" name="Found?"/>
<task id="a" name="Say where it is"/><task id="b" name="Ask for the number"/><exclusiveGateway id="h" default="h_e"/>
<endEvent id="e" name="Goodbye"/><endEvent id="x"/>
<sequenceFlow id="s_t" sourceRef="s" targetRef="t"/><sequenceFlow id="t_g" sourceRef="t" targetRef="g"/>
<sequenceFlow id="g_a" name="yes" sourceRef="g" targetRef="a"/><sequenceFlow id="g_b" name="no" sourceRef="g" targetRef="b"/>
<sequenceFlow id="b_h" sourceRef="b" targetRef="h"/><sequenceFlow id="h_t" name="gives it" sourceRef="h" targetRef="t"/>
<sequenceFlow id="h_e" sourceRef="h" targetRef="e"/><sequenceFlow id="a_x" sourceRef="a" targetRef="x"/></process></definitions>"""
_RASA = """
slots: {kind: {type: categorical, values: [card, cash]}, paid: {type: bool}}
flows:
  pay:
    description: pay a bill
    steps:
      - collect: kind
        next: [{if: slots.kind is 'card', then: charge}, {else: [{action: utter_cash, next: END}]}]
      - id: charge
        action: action_charge
        next: [{if: slots.paid, then: [{action: utter_paid, next: END}]}, {else: [{link: pattern_human_handoff}]}]
  ask:
    description: ask something
    steps: [{action: utter_answer}]
"""
_AGENT: dict[str, Any] = {
    "agent.json": {"startFlow": "Main"},
    "flows/Main/Main.json": {
        "displayName": "Main",
        "transitionRoutes": [
            {"name": "a", "intent": "hi", "triggerFulfillment": {"messages": [{"text": {"text": ["Hello."]}}]}},
            {"name": "b", "intent": "buy", "targetPage": "Buy"},
        ],
    },
    "flows/Main/pages/Buy.json": {
        "displayName": "Buy",
        "form": {"parameters": [{"displayName": "size", "required": True, "entityType": "@Size"}]},
        "transitionRoutes": [{"name": "c", "condition": '$page.params.status = "FINAL"', "targetPage": "End Session"}],
    },
    "intents/hi/hi.json": {"displayName": "hi"},
    "intents/buy/buy.json": {"displayName": "buy"},
}


def read_bpmn(folder: Path) -> Draft:
    (folder / "p.bpmn").write_text(_BPMN)
    return bpmn_flow.to_draft(read_model(folder / "p.bpmn"), "p.bpmn")


def read_rasa(folder: Path) -> Draft:
    (folder / "flows.yml").write_text(_RASA)
    return rasa_flow.to_draft(read_project(folder))


def read_dialogflow(folder: Path) -> Draft:
    for name, data in _AGENT.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps(data))
    return dialogflow_flow.to_draft(read_agent(folder))


def drawn(spec: ProcedureSpec) -> tuple[Any, ...]:
    """Nodes and edges with their labels."""
    nodes = [(node.id, node.role, node.outcome, node.decided_by if len(node.next) > 1 else None) for node in spec.nodes]
    return spec.start, nodes, [(node.id, edge.to, condition_label(node, edge)) for node in spec.nodes for edge in node.next]


@pytest.mark.parametrize("read", [read_bpmn, read_rasa, read_dialogflow])
def test_an_import_survives_being_drawn(read: Any, tmp_path: Path) -> None:
    spec = ProcedureSpec.model_validate(to_procedure(read(tmp_path), "shop")["spec"])
    again = from_mermaid(parse_flowchart(mermaid(spec)), "shop")
    assert len(spec.nodes) >= 5
    assert drawn(ProcedureSpec.model_validate(again["spec"])) == drawn(spec)


@pytest.mark.parametrize("read", [read_bpmn, read_rasa, read_dialogflow])
def test_the_same_source_becomes_the_same_procedure(read: Any, tmp_path: Path) -> None:
    assert to_procedure(read(tmp_path), "shop") == to_procedure(read(tmp_path), "shop")
