"""Every example passes the audit of its branches, so that a training starts."""

from pathlib import Path

import pytest

from subterra_api.job_contract.messages import Generation
from subterra_api.v1alpha1.compilerun import Provider
from subterra_cli.files.lint_report import load_spec
from subterra_core.procedure.graph import Graph
from subterra_jobs.generate.check.branch_audit import audit_branches
from subterra_jobs.generate.plan.plan import plan_conversations
from subterra_jobs.generate.write.scripted_reader import RuleReader
from subterra_jobs.generate.write.scripted_teacher import ScriptedTeacher
from subterra_jobs.generate.write.writer import Writer
from subterra_jobs.generate.written_conversation import Conversation
from subterra_testkit.repository import ROOT

GENERATION = Generation(teacher=Provider(), conversations=200, seeds=(42,), held_out_percent=5)
FILES = sorted((ROOT / "examples").glob("*/procedure.yaml"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.parent.name)
async def test_the_customers_words_tell_the_branches_of_every_example_apart(file: Path) -> None:
    graph = Graph(load_spec(file))
    pilot = [planned for planned in plan_conversations(graph.spec, GENERATION) if planned.audited]
    audit = audit_branches([await Writer(graph, ScriptedTeacher(graph)).finish(Conversation(planned)) for planned in pilot])
    assert [hub for hub in audit.hubs if hub.undecidable] == []


def test_of_two_values_that_were_offered_the_one_that_the_customer_says_is_taken() -> None:
    reader = RuleReader(Graph(load_spec(ROOT / "examples/appointment/procedure.yaml")))
    offered = {"early": "8:15", "late": "13:30"}
    options = ("book_early", "book_late", "neither")
    said = ("8:15, please.", "13:30, please.", "I'll take 13:30.", "Neither of them works for me.", "Perhaps.")
    guesses = [reader.guess("choice", options, words, offered) for words in said]
    assert guesses == ["book_early", "book_late", "book_late", "neither", ""]
