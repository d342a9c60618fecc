"""The bench of the paper's tables: its stand-ins make the flaws that they name, the table finds them, and agent files fit."""

from pathlib import Path

import pytest
import yaml
from bench.evaluation.paper import plan
from bench.evaluation.paper.checks import made_flaws, problems
from bench.evaluation.paper.stand_ins import FLAWS, FlawedAgent, KnownFlaws, draw, lines_of
from bench.evaluation.paper.tables import lines

from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_core.procedure.graph import Graph
from subterra_jobs.evaluate.analysis.paper_tables.failure_modes import FailureMode, failure_modes
from subterra_jobs.evaluate.analysis.paper_tables.score_tables import compare_runs
from subterra_jobs.evaluate.judge.judges import examine_by_rules
from subterra_jobs.evaluate.judge.results import Result
from subterra_jobs.evaluate.judge.rule_labeller import RuleLabeller
from subterra_jobs.evaluate.report.html import render_html
from subterra_jobs.evaluate.report.report import build_report
from subterra_jobs.evaluate.report.transcripts import transcript_row
from subterra_jobs.evaluate.scenarios.build import build_scenarios
from subterra_jobs.evaluate.scenarios.scenario import Scenario
from subterra_jobs.evaluate.simulate.conversation import Conversation
from subterra_jobs.evaluate.simulate.vllm_client import Reply
from subterra_testkit.procedures import agent, end, procedure, user
from subterra_testkit.repository import EXAMPLES
from subterra_testkit.runs.evaluation_runs import run_input
from subterra_testkit.runs.generation_inputs import example, travel
from subterra_testkit.runs.reports import GRAPH, PROVENANCE, evaluated, paired

TRAVEL = travel()
QUESTIONS = procedure(
    agent("hello", {"to": "what"}, examples=["What is it?"]),
    *(user(node, {"to": to}, examples=[f"It is {node}."]) for node, to in {"what": "ask", "when": "more", "where": "last"}.items()),
    agent("ask", {"to": "when"}, examples=["And when?"]),
    agent("more", {"to": "where"}, examples=["And where?"]),
    agent("last", {"to": "who"}, examples=["And who?"]),
    user("who", {"to": "bye"}, examples=["It is who."]),
    end(examples=["Thank you, goodbye."]),
)
"""Without any choice, so that it is certain which step comes next."""
SCRIPTED = {"simulator": {"name": "scripted"}, "judge": {"name": "scripted"}}


def played(spec: ProcedureSpec, player: FlawedAgent, count: int = 40) -> list[Result]:
    """Scripted customers' conversations with the agent, examined by rules."""
    graph = Graph(spec)
    labeller = RuleLabeller(graph)
    scenarios = build_scenarios(graph, run_input(Path("/nowhere"), spec, scenarios=count, **SCRIPTED).evaluation)
    return [examine_by_rules(graph, labeller, each, conversation(player, each)) for each in scenarios]


def conversation(player: FlawedAgent, scenario: Scenario) -> Conversation:
    chat: list[dict[str, str]] = []
    replies: list[Reply] = []
    for line in (None, *scenario.lines) if scenario.agent_first else scenario.lines:
        chat += [] if line is None else [{"role": "user", "content": line}]
        text = player.respond(chat)
        if text is None:
            return Conversation(tuple(chat), tuple(replies), "the model said nothing")
        replies.append(Reply(text, 0.1, 10, 5, "stop"))
        chat.append({"role": "assistant", "content": text})
    return Conversation(tuple(chat), tuple(replies))


@pytest.mark.parametrize("mode", FLAWS)
def test_a_stand_in_with_a_flaw_has_it_first_in_every_conversation_that_allows_it(mode: FailureMode) -> None:
    spec, known = QUESTIONS if mode == "skippedStep" else TRAVEL, KnownFlaws()
    results = played(spec, FlawedAgent(spec, 1.0, known, (mode,)))
    flawed = [each for each in results if known.first(lines_of([*each.conversation.chat])) is not None]
    assert flawed
    assert {tuple(failure_modes(Graph(spec), each)[:1]) for each in flawed} == {(mode,)}
    assert not any(failure_modes(Graph(spec), each) for each in results if each not in flawed)


def test_a_stand_in_without_flaws_follows_the_procedure() -> None:
    assert all(each.conformant for each in played(TRAVEL, FlawedAgent(TRAVEL, 0.0, KnownFlaws()), 20))
    drawn = [draw([str(number)], 0.3) for number in range(1000)]
    assert 250 < sum(mode is not None for mode in drawn) < 350
    assert {*drawn} == {None, *FLAWS}


def test_a_count_that_is_not_that_of_the_flaws_made_is_a_problem() -> None:
    known = KnownFlaws()
    rows = [
        {"arm": "candidate"} | transcript_row(each)
        for each in played(TRAVEL, FlawedAgent(TRAVEL, 0.5, known, ("noReply", "unrecognized")))
    ]
    causes: dict[str, int] = {}
    report = {"arms": ["candidate"], "scenarios": rows, "paper": {"failures": {"candidate": {"causes": causes}}}}
    made = made_flaws(report, rows, known)
    assert set(made["candidate"]) == {"noReply", "unrecognized"}
    assert len([*problems(report, made)]) == 2
    causes |= made["candidate"]
    assert not [*problems(report, made)]


def test_a_report_with_baselines_becomes_tables_and_a_section_of_the_page() -> None:
    sample = paired(60)
    report = build_report(evaluated(sample, PROVENANCE))
    text = "\n".join(lines(report, report, compare_runs(report["scenarios"], report["scenarios"])))
    for title in (
        "Means by judge",
        "Effect sizes",
        "another evaluation",
        "Causes of failures",
        "decision hubs",
        "Effort and price",
    ):
        assert title in text
    assert "| in-context | % of in-context |  | 100.0 | 100.0 | 100.0 | 100.0 | 100.0 |" in text
    html = render_html(report, GRAPH, sample[1])
    assert "<h2>As in the paper</h2>" in html
    assert html.count('<table class="together">') == len(report["paper"]["sideBySide"]) > 0


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("paper/*.yaml")), ids=lambda file: file.stem)
def test_an_agent_file_of_the_paper_gets_the_papers_baselines(file: Path, tmp_path: Path) -> None:
    agent = yaml.safe_load(file.read_text())
    settings = plan.agent_evaluation(agent, "http://127.0.0.1:8001/v1", 12)
    run = plan.planned_run(example("travel"), settings, plan.base_model(agent), tmp_path, None)
    assert [each.kind for each in run.evaluation.baselines] == ["InContext", "Orchestrator", "InContext"]
    assert run.evaluation.baselines[0].provider == run.evaluation.simulator
    assert (run.evaluation.scenarios, run.evaluation.baselines[2].provider.model) == (12, plan.base_model(agent))


def test_an_agent_file_without_hosted_models_is_refused_with_the_fix() -> None:
    with pytest.raises(plan.PlanError, match=r"examples/models/agent\.yaml"):
        plan.agent_evaluation(yaml.safe_load((EXAMPLES / "travel/agent.yaml").read_text()), None, None)
