"""The report: several arms side by side, what judges and labeller are worth, and nothing of what models wrote as markup."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from subterra_api.v1alpha1.scores import Proportion
from subterra_jobs.evaluate.analysis.arms import (
    agreement_summary,
    arm_summary,
    compare_with,
    cost_per_conversation,
    judge_fingerprints,
)
from subterra_jobs.evaluate.analysis.summary import traversal_counts
from subterra_jobs.evaluate.judge.results import CRITERIA, TASK, Accuracy, Result
from subterra_jobs.evaluate.report.graph_heatmap import draw_heatmap
from subterra_jobs.evaluate.report.html import render_html
from subterra_jobs.evaluate.report.report import build_report, write_report
from subterra_testkit.runs.reports import GRAPH, HOSTILE, JUDGES, Sample, evaluated, page, paired, single


@pytest.fixture(scope="module")
def alone() -> Sample:
    return single()


@pytest.fixture(scope="module")
def beside() -> Sample:
    return paired()


@pytest.fixture(scope="module")
def page_alone(alone: Sample) -> str:
    return page(alone)


@pytest.fixture(scope="module")
def page_beside(beside: Sample) -> str:
    return page(beside)


def built(sample: Sample) -> dict[str, object]:
    return build_report(evaluated(sample, {"run": "r"}))


def scored(result: Result, score: int) -> Result:
    given = tuple(each and replace(each, scores=dict.fromkeys(CRITERIA, score)) for each in result.judgements)
    return replace(result, judgements=given)


def test_every_arm_has_its_figures_and_the_candidate_is_compared_with_each_other_one(beside: Sample) -> None:
    data = json.loads(json.dumps(built(beside)))
    names = ["candidate", "serving", "anchor", "in-context", "orchestrator (claude-sonnet-4-5)"]
    assert list(data["arms"]) == names
    assert [each["against"] for each in data["against"]] == names[1:]
    assert all(
        each["wins"] + each["ties"] + each["losses"] == each["n"] for one in data["against"] for each in one["criteria"].values()
    )
    assert data["arms"]["in-context"]["takes"]["usd"] > 0
    assert data["arms"]["candidate"]["takes"]["usd"] is None


def test_a_candidate_alone_is_compared_with_nobody(alone: Sample, page_alone: str) -> None:
    data = built(alone)
    assert data["against"] == []
    assert "side by side" not in page_alone


def test_touched_and_unplayed_scenarios_are_not_compared_and_a_gap_counts_as_in_the_gate(alone: Sample) -> None:
    results = alone[1]["candidate"][:40]
    other = [
        replace(results[0], scenario=replace(results[0].scenario, affected_by_edit=True)),
        replace(results[1], conversation=replace(results[1].conversation, error="lost")),
        replace(results[2], judgements=(None,)),
        *results[3:],
    ]
    found = compare_with(results, other, "serving", 1)
    assert (found["compared"], found["touched"]) == (38, 1)
    assert compare_with(other, results, "serving", 1)["compared"] == 38


def test_wins_and_differences_are_the_candidates(alone: Sample) -> None:
    results = alone[1]["candidate"][:40]
    found = compare_with([scored(each, 4) for each in results], [scored(each, 3) for each in results], "serving", 1)
    row = found["criteria"][TASK]
    assert (row["wins"], row["losses"], row["difference"]["mean"]) == (40, 0, 1.0)
    assert row["p"] < 0.001
    assert found["failures"] == {"onlyCandidate": 0, "onlyOther": 40, "both": 0}


def test_scores_of_unlike_judges_are_never_compared(beside: Sample) -> None:
    run, arms, judging = beside
    given = arms["serving"][0].judgements
    other = replace(arms["serving"][0], judgements=tuple(each and replace(each, judge="other rubric") for each in given))
    mixed = {**arms, "serving": [other, *arms["serving"][1:]]}
    assert judge_fingerprints(arms) == tuple(f"{name[:4]}0123" for name in JUDGES)
    with pytest.raises(ValueError, match="different fingerprints"):
        build_report(evaluated((run, mixed, judging), {}))


def test_judges_are_told_apart_with_agreement_and_repeats(beside: Sample) -> None:
    _, arms, judging = beside
    found = agreement_summary(arms, judging.repeats, judging.judges, 7)
    assert [each["name"] for each in found["judges"]] == list(JUDGES)
    assert all(0 < each["repeatSd"] < 1 for each in found["judges"])
    assert all(0 < found["kappa"][name]["mean"] < 1 for name in CRITERIA)
    assert sum(each["missing"] for each in found["judges"]) > 0
    assert agreement_summary({"candidate": arms["candidate"][:20]}, (), JUDGES, 7)["kappa"] == {}  # too few to tell


def test_turns_with_exactly_one_question_are_counted(alone: Sample) -> None:
    result = alone[1]["candidate"][0]
    replies = tuple(replace(result.conversation.replies[0], text=text) for text in ("Where to?", "Why? When?", "Fine.", "何時？"))
    found = cost_per_conversation([replace(result, conversation=replace(result.conversation, replies=replies))])
    assert (found["turns"], found["oneQuestion"], found["words"]) == (4.0, 0.5, 1.5)


def test_figures_of_an_arm_that_never_answered_are_defined(alone: Sample) -> None:
    lost = [replace(each, conversation=replace(each.conversation, error="lost", replies=())) for each in alone[1]["candidate"][:12]]
    found = arm_summary(lost, 1)
    assert found["unplayed"] == 12
    assert set(found["takes"].values()) == {None}
    assert found["conformance"]["mean"] == 0


def test_the_graph_counts_conversations_and_failures_once_for_each_edge(alone: Sample) -> None:
    results = alone[1]["candidate"]
    counted = traversal_counts(results)
    assert counted.failures is not None
    assert counted.nodes["greet"] == counted.conversations == len(results)
    assert counted.failures.nodes["greet"] == sum(result.failed for result in results) > 0
    assert all(counted.failures.edges.get(hop, 0) <= count for hop, count in counted.edges.items())


def test_the_page_begins_with_the_decision_and_says_whose_it_is(page_beside: str) -> None:
    verdict, tiles, scores = map(page_beside.index, ('class="verdict', 'class="tiles"', "Scores side by side"))
    assert verdict < tiles < scores
    assert "Verdict at the time of the report: first attempt at this procedure" in page_beside


def test_what_rests_on_a_labeller_that_is_right_too_rarely_says_so(beside: Sample, page_beside: str) -> None:
    run, arms, judging = beside
    doubt = "which is below 95 %: what rests on its labels is uncertain"
    assert doubt not in page_beside  # right on 93 of 96 turns
    assert judging.accuracy is not None
    poor = replace(judging, accuracy=replace(judging.accuracy, agent=Proportion(hits=90, of=96)))
    text = page((run, arms, poor))
    assert "right on only 93.8 % of the agent's turns" in text
    assert text.count(doubt) == 3  # illegal steps, how conversations failed, and reliability
    assert "uncertain: the labeller was right on too few turns" in text  # conformance


def test_conformance_by_rules_does_not_rest_on_the_labeller_of_free_words(alone: Sample) -> None:
    run, arms, judging = alone
    accuracy = Accuracy(Proportion(hits=90, of=96), Proportion(hits=88, of=91), Proportion(hits=17, of=20))
    text = page((run, arms, replace(judging, labeller="rules and all-MiniLM-L6-v2", accuracy=accuracy)))
    assert text.count("what rests on its labels is uncertain") == 1
    assert "uncertain: the labeller" not in text


def test_quotes_names_and_replies_are_escaped(beside: Sample) -> None:
    run, arms, judging = beside
    evil = [*arms["candidate"]]
    evil[0] = replace(evil[0], conversation=replace(evil[0].conversation, fault=HOSTILE, error=HOSTILE))
    sample = run, {**arms, "candidate": evil, HOSTILE: arms["serving"]}, replace(judging, judges=(HOSTILE, "b"), labeller=HOSTILE)
    text = page(sample)
    assert HOSTILE.replace("<", "&lt;").replace(">", "&gt;").replace("'", "&#39;") in text
    assert not re.search(r"<(script|img)", text)


def test_a_procedures_own_texts_cannot_leave_the_picture(alone: Sample) -> None:
    spec = GRAPH.spec.model_copy(
        update={"nodes": tuple(node.model_copy(update={"prompt": "</title><script>x</script>"}) for node in GRAPH.spec.nodes)}
    )
    assert "<script" not in draw_heatmap(type(GRAPH)(spec), alone[1]["candidate"]).svg


def test_the_page_needs_nothing_from_outside(page_alone: str) -> None:
    assert not re.search(r"(src|href)=|url\(|@import|https?://(?!www\.w3\.org/2000/svg)", page_alone)
    assert "default-src 'none'" in page_alone


def test_the_files_hold_every_arms_conversations_with_the_judges_words(beside: Sample, tmp_path: Path) -> None:
    run, arms, _ = beside
    write_report(tmp_path, evaluated(beside, {}))
    rows = [json.loads(line) for line in (tmp_path / "transcripts.jsonl").read_text().splitlines()]
    assert len(rows) == len(arms) * run.evaluation.scenarios
    assert {row["arm"] for row in rows} == set(arms)
    assert any(HOSTILE in each["evidence"][TASK]["quotes"] for row in rows for each in row["judgements"] if each)
    assert {each["judge"] for row in rows for each in row["judgements"] if each} == set(judge_fingerprints(arms))
    scenarios = json.loads((tmp_path / "report.json").read_text())["scenarios"]
    assert set(scenarios[0]["elsewhere"]) == set(arms) - {"candidate"}


def test_the_report_warns_of_a_model_that_retires_soon(alone: Sample, page_alone: str) -> None:
    warning = "evaluation.secondJudge.model: gpt-4.1 retires on 2027-01-14; use <gpt-6-luna>"
    told = replace(evaluated(alone, {"run": "r"}), retiring=(warning,))
    shown = render_html(build_report(told), told.graph, told.arms)
    assert "gpt-4.1 retires on 2027-01-14; use &lt;gpt-6-luna&gt;: a later run with this model is refused" in shown
    assert "is refused" not in page_alone
