"""Conversations that the simulated customer left early: neither the agent's gain nor its loss, and counted."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from subterra_jobs.errors import InvalidInputError
from subterra_jobs.evaluate.analysis.arms import arm_summary, compare_with
from subterra_jobs.evaluate.analysis.gate_statistics import gate_statistics
from subterra_jobs.evaluate.analysis.summary import summarise
from subterra_jobs.evaluate.judge.results import Result, counted
from subterra_jobs.evaluate.main import _require_counted
from subterra_jobs.evaluate.progress import closing_message
from subterra_jobs.evaluate.report.report import build_report
from subterra_jobs.evaluate.scenarios.scenario import Scenario
from subterra_jobs.evaluate.simulate.conversation import LEFT_EARLY, NOT_STORED, Conversation
from subterra_testkit.runs.reports import Sample, evaluated, judged_by_rules, page, scripted_conversation, single


@pytest.fixture(scope="module")
def sample() -> Sample:
    return single(60)


def cut(conversation: Conversation, replies: int) -> Conversation:
    """The conversation up to so many replies, after which the customer left early."""
    agent_turns = [index for index, turn in enumerate(conversation.chat) if turn["role"] == "assistant"]
    chat = conversation.chat[: agent_turns[replies - 1] + 1]
    return Conversation(chat, conversation.replies[:replies], fault=LEFT_EARLY)


def left(scenario: Scenario, damage: str = "none", replies: int = 2) -> Result:
    return judged_by_rules(scenario, cut(scripted_conversation(scenario, damage), replies))


def with_left(results: Sequence[Result], *indexes: int) -> list[Result]:
    return [left(each.scenario, replies=1) if index in indexes else each for index, each in enumerate(results)]


def test_a_conversation_that_was_right_until_the_customer_left_is_left_out(sample: Sample) -> None:
    result = left(sample[1]["candidate"][0].scenario)
    assert result.left_out
    assert not result.conformant


def test_an_agent_that_had_gone_wrong_before_is_not_excused(sample: Sample) -> None:
    scenario = next(each.scenario for each in sample[1]["candidate"] if each.replay.conformant)
    assert not left(scenario, "garbled").left_out
    hasty = scripted_conversation(scenario, "hasty")
    ended = next(index for index, reply in enumerate(hasty.replies, 1) if "human colleague" in reply.text)
    assert not judged_by_rules(scenario, cut(hasty, ended)).left_out


def test_a_customer_who_leaves_when_all_is_said_and_done_leaves_nothing_out(sample: Sample) -> None:
    result = next(each for each in sample[1]["candidate"] if each.replay.conformant)
    whole = replace(result, conversation=replace(result.conversation, fault=LEFT_EARLY))
    assert whole.conformant
    assert not whole.left_out


def test_steps_that_nobody_could_label_are_not_excused(sample: Sample) -> None:
    result = left(sample[1]["candidate"][0].scenario)
    assert not replace(result, replay=replace(result.replay, labelled=0)).left_out


def test_what_is_left_out_counts_neither_for_nor_against_the_candidate(sample: Sample) -> None:
    results = sample[1]["candidate"]
    arms = {"candidate": with_left(results, 0, 1)}
    found, rest = gate_statistics(arms), gate_statistics({"candidate": results[2:]})
    assert (found.criteria, found.failures, found.conformance) == (rest.criteria, rest.failures, rest.conformance)
    scores = summarise(arms, 7)
    assert scores.scenarios == 60
    assert scores.conformance == summarise({"candidate": results[2:]}, 7).conformance
    assert "in 2 the simulated customer left early; they are left out" in closing_message(arms, scores)


def test_a_scenario_that_either_side_lost_to_its_customer_is_not_compared(sample: Sample) -> None:
    results = sample[1]["candidate"]
    arms = {"candidate": with_left(results, 0), "serving": with_left(results, 0, 4, 5)}
    (compared,) = gate_statistics(arms).comparisons
    assert compared.failures.of == 57
    assert {sample.count for name, sample in compared.criteria.items() if name != "gracefulHandling"} == {57}
    assert compare_with(arms["candidate"], arms["serving"], "serving", 1)["compared"] == 57


def test_the_report_counts_what_is_left_out_in_every_arm(sample: Sample) -> None:
    run, arms, quality = sample
    one = (run, {"candidate": with_left(arms["candidate"], 0, 1)}, quality)
    data = build_report(evaluated(one, {}))
    assert data["leftOut"] == {"candidate": 2}
    assert [row["leftOut"] for row in data["scenarios"][:3]] == [True, True, False]
    assert arm_summary(one[1]["candidate"], 1)["leftOut"] == 2
    assert "2 (candidate) conversations say nothing about the agent and are left out" in page(one)


def test_an_evaluation_in_which_every_customer_left_early_says_so(sample: Sample) -> None:
    results = [left(each.scenario, replies=1) for each in sample[1]["candidate"]]
    assert counted(results) == []
    assert gate_statistics({"candidate": results}).conformance.of == 0
    with pytest.raises(InvalidInputError, match="left early in all 60 conversations with candidate"):
        _require_counted({"candidate": results})


def absent(result: Result) -> Result:
    return judged_by_rules(result.scenario, Conversation((), (), NOT_STORED))


def test_an_anchor_is_compared_where_its_conversations_are_in_the_store_and_has_failed_nowhere_else(sample: Sample) -> None:
    results = sample[1]["candidate"]
    arms = {"candidate": results, "anchor": [*results[:40], *map(absent, results[40:])]}
    [found] = gate_statistics(arms).comparisons
    assert (found.scenarios, found.common, found.failures.of) == (60, 40, 40)
    assert {each.mean for each in found.criteria.values()} == {0.0}
    assert found.failures.better == 0
    assert len(counted(arms["anchor"])) == 40


def test_an_anchor_without_any_conversation_is_named_and_shown_nowhere(sample: Sample) -> None:
    results = sample[1]["candidate"]
    arms = {"candidate": results, "anchor": [*map(absent, results)]}
    [found] = gate_statistics(arms).comparisons
    assert (found.criteria, found.failures.of, found.common) == ({}, 0, 0)
    assert [*_require_counted(arms, {"anchor"})] == ["candidate"]


def test_where_an_edit_applies_the_candidate_is_compared_with_the_first_in_context_baseline(sample: Sample) -> None:
    results = (sample[1]["candidate"] * 2)[:100]
    serving = [replace(each, scenario=replace(each.scenario, affected_by_edit=index >= 40)) for index, each in enumerate(results)]
    found = gate_statistics({"candidate": results, "serving": serving, "in-context m": results, "in-context n": results}).affected
    assert found is not None
    assert set(found.criteria) == set(found.in_context) == {"taskSuccess", "informationAccuracy"}
    assert {each.mean for each in found.in_context.values()} == {0.0}
    assert gate_statistics({"candidate": results, "serving": results}).affected is None
