"""Procedures that are not in English: customers have the author's words alone, and nothing is tested in English."""

import asyncio
from decimal import Decimal
from pathlib import Path

import pytest

from subterra_api.job_contract.defaults import generation_of
from subterra_api.job_contract.messages import Evaluation
from subterra_api.v1alpha1.compilerun import GenerationSettings, Provider
from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_cli.files.lint_report import load_spec
from subterra_core.procedure.calls.expansion import expand
from subterra_core.procedure.graph import Graph
from subterra_core.procedure.template import render
from subterra_jobs.dialogue.phrasing.language import NOT_ENGLISH, speaks_english
from subterra_jobs.evaluate.robustness_run import customer_sources
from subterra_jobs.evaluate.scenarios.robustness import build_robustness
from subterra_jobs.generate.sample.sample_run import SampleRun, planned_sample
from subterra_jobs.generate.write.writer import messages
from subterra_testkit.procedures import agent, branch, end, procedure, user
from subterra_testkit.repository import ROOT

GERMAN = procedure(
    agent("gruss", "wer", examples=["Guten Morgen! Welches Kind möchten Sie heute krankmelden?"]),
    user("wer", "klasse", examples=["Es geht um {{kind}}.", "{{kind}} ist leider krank."]),
    agent("klasse", "welche", examples=["Danke. In welche Klasse geht {{kind}} denn?"]),
    user("welche", branch("ende", "In die {{klasse}}."), branch("hilfe", "Das weiß ich gerade nicht.")),
    end("ende", examples=["{{kind}} aus der {{klasse}} ist entschuldigt. Gute Besserung!"]),
    end("hilfe", examples=["Dann verbinde ich Sie mit dem Sekretariat, einen Moment bitte."]),
    variables=[
        {"name": "kind", "values": ["Lena Groß", "Mehmet Yılmaz"], "open": True},
        {"name": "klasse", "values": ["1a", "2b", "4c"]},
    ],
    openers=["Guten Tag"],
    start="gruss",
    questions=[{"question": "Öffnungszeiten", "examples": ["Wann haben Sie geöffnet?"], "answer": "Von 8 bis 12 Uhr."}],
)
SPANISH = procedure(
    agent("hola", "datos", examples=["Hola, ¿en qué puedo ayudarle?"]),
    {
        "id": "datos",
        "role": "collect",
        "prompt": "Pregunta.",
        "examples": ["¿Me dice {{missing}}?"],
        "collects": [
            {"variable": "dia", "ask": "el día", "examples": ["el {{dia}}"]},
            {"variable": "hora", "ask": "la hora", "examples": ["a {{hora}}"]},
        ],
        "next": [{"to": "hecho"}],
    },
    end("hecho", examples=["Hecho: el {{dia}} a {{hora}}."]),
    variables=[{"name": "dia", "values": ["lunes", "martes"]}, {"name": "hora", "values": ["las 9", "las 10"]}],
    openers=["Hola"],
    start="hola",
)
"""Of few words, and with a node whose sentences are joined from parts."""
JAPANESE = procedure(
    agent("a", "b", examples=["アレルギーはございますか。"]),
    user("b", branch("c", "{{kind}}がだめです。"), branch("d", "ありません。")),
    end("c", examples=["かしこまりました。{{kind}}ですね。"]),
    end("d", examples=["お席へどうぞ。"]),
    variables=[{"name": "kind", "values": ["卵", "そば"]}],
    openers=["こんにちは"],
    start="a",
)


@pytest.mark.parametrize("spec", [GERMAN, JAPANESE, expand("cita", SPANISH, {}).spec], ids=["German", "Japanese", "Spanish"])
def test_customers_of_a_procedure_in_another_language_say_the_authors_examples_alone(spec: ProcedureSpec) -> None:
    graph, generation = Graph(spec), generation_of(GenerationSettings(), "bundled")
    plan = planned_sample(graph, generation, 60)
    sample = asyncio.run(SampleRun(graph, plan, generation, None, Decimal(1), lambda _: None).write())
    own = {text for node in spec.nodes for text in (*node.examples, *(text for edge in node.next for text in edge.examples))}
    asked = [text for each in spec.questions for text in each.examples]
    for each in sample.conversations:
        allowed = {*spec.openers, *asked, *(render(text, each.conversation.spec.values) for text in own)}
        said = [message["content"] for message in messages(graph, each.conversation) if message["role"] == "user"]
        assert {*said} <= allowed


def test_numbers_of_a_procedure_in_another_language_are_not_in_english_words() -> None:
    age = {"name": "alter", "type": "integer", "minimum": 1, "maximum": 90}
    nodes = [node.model_dump(by_alias=True, exclude_unset=True) for node in GERMAN.nodes]
    nodes[1]["examples"] = ["Es geht um {{kind}}, {{alter}} Jahre alt.", "{{kind}}, {{alter}}, ist leider krank."]
    spec = ProcedureSpec.model_validate({**GERMAN.dump(), "nodes": nodes, "variables": [*GERMAN.dump()["variables"], age]})
    plan = planned_sample(Graph(spec), generation_of(GenerationSettings(), "bundled"), 200)
    assert all(each.values["alter"].isdecimal() for each in plan)


def test_robustness_customers_who_only_speak_english_are_left_out_and_the_report_says_why() -> None:
    graph = Graph(GERMAN)
    settings = Evaluation(simulator=Provider(), judge=Provider(), scenarios=60, seed=7)
    block = build_robustness(graph, settings, customer_sources(graph))
    assert block.scenarios == ()
    assert {*block.untested.values()} == {NOT_ENGLISH}


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*/procedure.yaml")), ids=lambda path: path.parent.name)
def test_every_example_is_known_to_be_in_english(path: Path) -> None:
    assert speaks_english(load_spec(path))


def test_a_procedure_of_a_few_words_counts_as_english() -> None:
    assert speaks_english(
        procedure(agent("a", "b", examples=["Hallo."]), user("b", "c", examples=["Ja."]), end("c", examples=["Gut."]), start="a")
    )
