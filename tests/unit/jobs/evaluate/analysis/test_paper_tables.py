"""The paper's tables: each figure as computed by hand, and each way to fail recognized in a transcript made for it."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from subterra_core.procedure.graph import Path
from subterra_core.procedure.template import render, variables_of
from subterra_jobs.evaluate.analysis.paper_tables.arm_kinds import kind_of, reference_arm, uses_base_model
from subterra_jobs.evaluate.analysis.paper_tables.effort import effort_of, paper_price, with_ratios
from subterra_jobs.evaluate.analysis.paper_tables.failure_modes import FailureMode, failure_modes, failure_table
from subterra_jobs.evaluate.analysis.paper_tables.hub_accuracy import hub_table
from subterra_jobs.evaluate.analysis.paper_tables.score_tables import compare_runs, effect_sizes, percent_of, scores_by_judge
from subterra_jobs.evaluate.analysis.paper_tables.tables import paper_tables
from subterra_jobs.evaluate.judge.conformance import replay
from subterra_jobs.evaluate.judge.results import ACCURACY, CRITERIA, TASK, Judgement, Result
from subterra_jobs.evaluate.judge.rule_judge import judge_by_rules
from subterra_jobs.evaluate.scenarios.scenario import Scenario
from subterra_jobs.evaluate.simulate.conversation import Conversation
from subterra_jobs.evaluate.simulate.vllm_client import Reply
from subterra_testkit.runs.reports import GRAPH, LABELLER

VALUES = {"destination": "Lisbon", "dates": "3 May to 9 May", "travellers": "4", "budget": "$1,250", "wish": "with a pool"}
DIRECT: Path = ("greet", "ask_trip", "trip", "ask_budget", "budget", "options", "choice", "confirm", "confirmation", "booked")
TURNS = (("greet", "ask_trip"), ("ask_budget",), ("options",), ("confirm",), ("booked",))
"""The agent's turns on the direct path."""


def words(*nodes: str, **values: str) -> str:
    texts = [GRAPH.nodes[node].examples[0] for node in nodes]
    return " ".join(render(text, {name: (VALUES | values)[name] for name in variables_of(text)}) for text in texts)


def said(*turns: Sequence[str]) -> list[str]:
    return [words(*nodes) for nodes in turns]


def result(texts: Sequence[str], error: str | None = None, path: Path = DIRECT, **reply: object) -> Result:
    """The rule judge's result of an agent that said this on a path."""
    replies = tuple(replace(Reply(text, 0.5, 100, 10, "stop"), **reply) for text in texts)  # type: ignore[arg-type]
    scenario = Scenario(str(len(texts)), False, path, VALUES, None, ("Hello.",), True)
    conversation = Conversation(tuple({"role": "assistant", "content": text} for text in texts), replies, error)
    replayed = replay(GRAPH, path, VALUES, [LABELLER.label(text) for text in texts])
    return Result(scenario, conversation, replayed, (judge_by_rules(path, scenario.lines, conversation, replayed),))


def with_scores(*scores: int | None, like: Result | None = None) -> Result:
    """A result with one score for all criteria by each judge."""
    given = tuple(None if score is None else Judgement(dict.fromkeys(CRITERIA, score), True, ()) for score in scores)
    return replace(like or result(said(*TURNS)), judgements=given)


@pytest.mark.parametrize(
    ("texts", "modes"),
    [
        (said(*TURNS), []),
        (said(*TURNS[:3], ("handover",)), ["routingError"]),  # the customer accepted
        (said(*TURNS[:2], ("booked",)), ["endedEarly"]),  # nothing was offered yet, and no branch leads there
        (said(TURNS[0], ("confirm",), *TURNS[2:]), ["skippedStep"]),
        (said(*TURNS[:2], ("ask_budget",), *TURNS[3:]), ["repeatedQuestion"]),
        (said(*TURNS[:2], ("alternatives",), *TURNS[3:]), ["otherStep"]),
        ([*said(*TURNS[:2]), "Let me sing.", *said(*TURNS[3:])], ["unrecognized"]),
        ([*said(*TURNS[:2]), " ", *said(*TURNS[3:])], ["noReply"]),
        (said(*TURNS[:3]), ["notFinished"]),
        (
            [words(*nodes, destination="Rome") if nodes in {("options",), ("confirm",)} else words(*nodes) for nodes in TURNS],
            ["lostFact"],
        ),
        (said(*TURNS[:3], ("alternatives",), ("options",)), ["routingError", "repeatedQuestion"]),
    ],
    ids=lambda given: "" if given and " " in given[0] else "+".join(given) or "nothing wrong",
)
def test_what_went_wrong_is_read_from_the_transcript_in_its_order(texts: list[str], modes: list[FailureMode]) -> None:
    assert failure_modes(GRAPH, result(texts)) == modes


def test_a_reply_that_never_came_is_a_mode_of_its_own_after_what_was_wrong_before() -> None:
    assert failure_modes(GRAPH, result(said(*TURNS[:2]), error="the server answered 400")) == ["noReply"]
    assert failure_modes(GRAPH, result(said(TURNS[0], ("handover",)), error="no edge is open")) == ["routingError", "noReply"]


def test_judges_may_see_a_failure_or_a_lost_fact_where_no_step_shows_it() -> None:
    fine = result(said(*TURNS))
    assert failure_modes(GRAPH, with_scores(2, like=fine)) == ["judgesOnly"]
    given = Judgement({**dict.fromkeys(CRITERIA, 5), ACCURACY: 2}, True, (), judge="a model")
    no_values = replace(fine, replay=replace(fine.replay, mentions=()), judgements=(given,))
    assert failure_modes(GRAPH, no_values) == ["lostFact"]


def test_failures_are_counted_by_their_cause_and_modes_wherever_they_occur() -> None:
    results = [
        result(said(*TURNS)),
        result(said(*TURNS[:3], ("alternatives",), ("options",))),
        with_scores(2, like=result(said(*TURNS[:2], ("ask_budget",), *TURNS[3:]))),
        with_scores(5, like=result(said(*TURNS[:2], ("ask_budget",), *TURNS[3:]))),
    ]
    found = failure_table(GRAPH, results)
    assert (found["conversations"], found["failures"], found["offTrack"]) == (4, 2, 3)
    assert found["causes"] == {"routingError": 1, "repeatedQuestion": 1}
    assert found["occurring"] == {"routingError": 1, "repeatedQuestion": 3}


def test_hub_accuracy_counts_decisions_that_were_reached_and_the_routers_own() -> None:
    """The path decides at trip, choice and confirmation."""
    right = result(said(*TURNS))
    wrong = result(said(*TURNS[:3], ("handover",)))
    found = hub_table(GRAPH, [right, wrong])
    assert (found["replies"]["hits"], found["replies"]["of"]) == (4, 5)
    assert found["replies"]["hubs"]["choice"] == {"hits": 1, "of": 2}
    assert found["router"] is None
    routes = ((("trip", "ask_budget"),), (), (("choice", "alternatives"), ("choice", "confirm")))
    replies = tuple(replace(each, route=hops) for each, hops in zip(right.conversation.replies, routes, strict=False))
    routed = replace(right, conversation=replace(right.conversation, replies=replies))
    router = hub_table(GRAPH, [routed])["router"]
    assert (router["hits"], router["of"], router["share"]["mean"]) == (1, 2, 0.5)  # behind the wrong one nothing counts


def test_each_judge_has_means_of_its_own_and_arms_are_in_percent_of_the_in_context_arm() -> None:
    mine = [with_scores(5, 4), with_scores(4, None), with_scores(3, 2), *[with_scores(4, 3)] * 2]
    first, second = scores_by_judge(mine, ("one", "other"), 7)
    assert (first["judge"], first["n"], first["criteria"][TASK]["mean"]) == ("one", 5, 4.0)
    assert (second["judge"], second["n"], second["criteria"][TASK]["mean"]) == ("other", 4, 3.0)
    theirs = [with_scores(5, 5)] * 5
    assert percent_of(mine, theirs)[TASK] == 72.0  # the judges' means 4.5, 4, 2.5, 3.5, 3.5 are 3.6 on average, of 5
    assert percent_of(theirs, theirs) == dict.fromkeys(CRITERIA, 100.0)


def test_pooled_d_and_dz_are_two_figures_and_u_is_that_of_unpaired_scores() -> None:
    mine, theirs = ([with_scores(score) for score in scores] for scores in ((5, 4, 5, 4), (4, 4, 3, 3)))
    found = effect_sizes(mine, theirs)[TASK]
    assert (found["n"], found["difference"], found["mannWhitneyU"]) == (4, 1.0, 14.0)
    assert found["pooledD"] == pytest.approx(1 / (1 / 3) ** 0.5)  # both variances are 1/3
    assert found["dz"] == pytest.approx(1 / (2 / 3) ** 0.5)  # the differences are 1, 0, 2, 1


def test_candidates_of_two_evaluations_are_compared_without_pairs_and_without_what_is_left_out() -> None:
    rows = [{"leftOut": False, "challenged": False, "scores": dict.fromkeys(CRITERIA, score)} for score in (5, 5, 4)]
    others = [{"leftOut": score == 1, "challenged": True, "scores": dict.fromkeys(CRITERIA, score)} for score in (3, 4, 1)]
    found = compare_runs(rows, others)
    assert list(found) == [name for name in CRITERIA if name != "gracefulHandling"]  # nobody was challenged in one of them
    assert (found[TASK]["n"], found[TASK]["otherN"], found[TASK]["mannWhitneyU"]) == (3, 2, 5.5)
    assert found[TASK]["difference"] == round(14 / 3 - 3.5, 4)


def test_effort_is_the_mean_of_a_conversation_and_own_hardware_has_the_papers_price() -> None:
    own = effort_of([result(["Where to? When?", "Fine."], prompt_tokens=500, completion_tokens=50)])
    assert (own["turns"], own["words"], own["questions"], own["seconds"]) == (2.0, 4.0, 2.0, 1.0)
    assert (own["tokensIn"], own["tokensOut"], own["ownHardware"]) == (1000.0, 100.0, True)
    price = paper_price()
    assert (round(float(price.input), 4), round(float(price.output), 4)) == (0.0463, 0.2315)
    assert own["usd"] == pytest.approx((1000 * 2.5 / 3600 / 15000) + (100 * 2.5 / 3600 / 3000), abs=1e-9)
    hosted = effort_of([result(["Yes?"], prompt_tokens=4000, completion_tokens=20, usd="0.0139", cache_read=3500, calls=2)])
    assert (hosted["usd"], hosted["cacheRead"], hosted["calls"], hosted["ownHardware"]) == (0.0139, 3500.0, 2.0, False)
    rows = with_ratios({"candidate": own, "in-context x": hosted}, "in-context x")
    assert (rows["candidate"]["tokensInRatio"], rows["candidate"]["secondsRatio"]) == (0.25, 2.0)
    assert rows["in-context x"]["timesCandidateUsd"] == pytest.approx(0.0139 / own["usd"], abs=1e-3)
    assert effort_of([result([], error="lost")])["usd"] is None


def test_arms_are_known_by_their_names_and_ratios_refer_to_another_model_than_the_base_model() -> None:
    names = ("candidate", "serving", "in-context Qwen/Qwen2.5-3B-Instruct", "in-context claude-sonnet-5-5", "orchestrator x")
    assert [*map(kind_of, names)] == ["compiled", "reference", "in-context", "in-context", "orchestrator"]
    assert uses_base_model(names[2], "hf://Qwen/Qwen2.5-3B-Instruct")
    assert reference_arm(names, "hf://Qwen/Qwen2.5-3B-Instruct") == names[3]
    assert reference_arm(names[:3], "hf://Qwen/Qwen2.5-3B-Instruct") == names[2]
    assert reference_arm(names[:2], "scratch") is None


def test_without_a_baseline_there_are_no_tables_and_with_one_the_arms_differ_most_in_what_is_shown_first() -> None:
    good, bad = with_scores(5), with_scores(1, like=result(said(*TURNS[:3], ("handover",))))
    assert paper_tables(GRAPH, {"candidate": [good], "serving": [bad]}, ("rules",), "scratch", 7) is None
    arms = {"candidate": [good, good], "in-context x": [good, bad]}
    found = paper_tables(GRAPH, arms, ("rules",), "scratch", 7)
    assert found is not None
    assert [each["index"] for each in found["sideBySide"]] == [1, 0]
    assert found["sideBySide"][0]["arms"]["in-context x"] == {"taskSuccess": 1.0, "modes": ["routingError"]}
