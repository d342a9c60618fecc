"""The labeller by sentence embeddings: rules first, then similar examples, and the flowchart between similar steps."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from subterra_core.procedure.graph import Graph
from subterra_jobs.dialogue.similarity.closest_examples import Templates
from subterra_jobs.dialogue.similarity.mentioned_values import masked, mentioned_values
from subterra_jobs.dialogue.similarity.sentence_encoder import MODEL
from subterra_jobs.errors import InvalidInputError
from subterra_jobs.evaluate.judge.conformance import replay
from subterra_jobs.evaluate.judge.free_words.embedding_labeller import (
    EmbeddingLabeller,
    labelling_quality,
    make_labeller,
)
from subterra_jobs.evaluate.judge.judges import examine_by_rules
from subterra_jobs.evaluate.judge.rule_labeller import Label, RuleLabeller
from subterra_jobs.evaluate.scenarios.scenario import Scenario
from subterra_jobs.evaluate.simulate.conversation import Conversation
from subterra_jobs.evaluate.simulate.vllm_client import Reply
from subterra_testkit.procedures import agent, branch, end, procedure, user
from subterra_testkit.runs.word_counts import WordCounts

VARIABLES = [
    {"name": "drink", "values": ["green tea", "coffee"]},
    {"name": "count", "type": "integer", "minimum": 1, "maximum": 9},
]
GRAPH = Graph(
    procedure(
        agent("hello", "wish", examples=["Welcome to the shop, what would you like to drink?"]),
        user("wish", branch("sell", "I would like {{count}} {{drink}} please."), branch("bye", "Nothing, I am leaving.")),
        agent("sell", "answer", examples=["So {{count}} cups of {{drink}}, shall I pour them now?", "Do you take {{drink}}?"]),
        user("answer", branch("done", "Yes, pour them."), branch("bye", "No, I am leaving.")),
        end("done", examples=["Here you are, enjoy your cups of {{drink}}!"]),
        end("bye", examples=["Goodbye, see you another day."]),
        variables=VARIABLES,
    )
)
VALUES = {"drink": "green tea", "count": "2"}
PATH = ("hello", "wish", "sell", "answer", "done")


def labeller() -> EmbeddingLabeller:
    return EmbeddingLabeller(GRAPH, WordCounts())


def nodes(labels: Sequence[Label]) -> list[tuple[str, ...]]:
    return [label.nodes for label in labels]


def messages(*texts: str) -> list[dict[str, str]]:
    return [{"role": ("assistant", "user")[index % 2], "content": text} for index, text in enumerate(texts)]


def test_a_reply_in_the_authors_words_keeps_the_label_of_the_rules() -> None:
    encoder = WordCounts()
    by_similarity = EmbeddingLabeller(GRAPH, encoder)
    reply = "So 3 cups of coffee, shall I pour them now?"
    assert by_similarity.label(reply, VALUES) == RuleLabeller(GRAPH).label(reply)
    assert by_similarity.labels([reply], VALUES) == [RuleLabeller(GRAPH).label(reply)]
    assert encoder.asked == []


def test_free_words_take_the_step_of_the_most_similar_example_with_the_values_they_state() -> None:
    (label,) = labeller().label("All right, 2 cups of green tea, shall I go and pour them?", VALUES)
    assert label == Label(("sell",), (("count", "2"), ("drink", "green tea")))


def test_another_value_of_the_list_is_a_wrong_value() -> None:
    (label,) = labeller().label("Well then, enjoy your cups of coffee!", VALUES)
    assert label == Label(("done",), (("drink", "coffee"),))


def test_words_like_no_example_take_no_step() -> None:
    assert labeller().label("Bananas are rich in potassium", VALUES) == []
    assert labeller().label("", VALUES) == []


def test_a_reply_close_to_two_steps_is_right_if_one_of_them_is_due() -> None:
    """Half of the words are those of `done`, half those of `bye`."""
    both = "enjoy your cups, goodbye, see you"
    labels = labeller().label(both, VALUES)
    assert {*nodes(labels)} == {("done",), ("bye",)}
    hello = labeller().label("Welcome, what would you like to drink?", VALUES)
    sell = labeller().label("2 cups of green tea, shall I pour?", VALUES)
    assert replay(GRAPH, PATH, VALUES, [hello, sell, labels]).conformant
    assert replay(GRAPH, ("hello", "wish", "bye"), VALUES, [hello, labels]).conformant


def test_a_reply_that_is_clearly_another_step_is_a_violation() -> None:
    replies = ["Welcome, what would you like to drink?", "Goodbye then, see you on another day."]
    violation = replay(GRAPH, PATH, VALUES, labeller().labels(replies, VALUES)).violation
    assert violation is not None
    assert (violation.turn, violation.expected, violation.got) == (1, ("sell",), ("bye",))


def test_the_rule_judge_accepts_free_words_with_this_labeller_only() -> None:
    chat = messages(
        "Welcome to us, what would you like to drink?",
        "2 green tea",
        "2 cups of green tea then, shall I pour them?",
        "Yes",
        "Enjoy your cups of green tea!",
    )
    replies = tuple(Reply(each["content"], 0.1, 10, 5, "stop") for each in chat if each["role"] == "assistant")
    scenario = Scenario("s", False, PATH, VALUES, None, ("2 green tea", "Yes"), True)
    played = scenario, Conversation(tuple(chat), replies)
    assert examine_by_rules(GRAPH, labeller(), *played).conformant
    assert not examine_by_rules(GRAPH, RuleLabeller(GRAPH), *played).conformant


def test_what_the_agent_does_next_decides_between_ways_that_the_customer_leaves_open() -> None:
    start = ("Welcome, what would you like to drink?", "please, I am leaving, I would like nothing")
    sold = labeller().align(messages(*start, "Do you take green tea then?"), VALUES)
    left = labeller().align(messages(*start, "Goodbye, see you another day!"), VALUES)
    assert (sold.path[:3], left.path) == (("hello", "wish", "sell"), ("hello", "wish", "bye"))


def test_the_phrasing_of_a_turn_does_not_help_to_label_it_when_accuracy_is_measured(tmp_path: Path) -> None:
    """Each of the agent's nodes has one example; what is left without it, the prompt, is not similar enough."""
    chat = messages("Welcome to the shop, what would you like to drink?", "Nothing, I am leaving.", "Goodbye, see you another day.")
    measured = labeller()
    assert measured.sources(chat, VALUES)[2] == Templates(["Goodbye, see you another day."])
    assert measured.align(chat, VALUES).path == ("hello", "wish", "bye")
    row = {"id": "c", "path": ["hello", "wish", "bye"], "values": VALUES, "heldOut": True, "turns": [["hello"], ["wish"], ["bye"]]}
    (tmp_path / "labels.jsonl").write_text(json.dumps(row) + "\n")
    (tmp_path / "heldout.jsonl").write_text(json.dumps({"id": "c", "messages": chat}) + "\n")
    quality = labelling_quality(measured, tmp_path, seed=7)
    assert quality.labeller == "rules, and word counts for words that they do not recognize"
    assert quality.accuracy is not None
    assert (quality.accuracy.agent.hits, quality.accuracy.agent.of) == (0, 2)


def test_words_of_its_own_in_the_dataset_leave_nothing_out() -> None:
    assert labeller().sources(messages("Welcome, dear customer!", "Hm"), VALUES) == [Templates(), Templates()]


def test_without_the_encoder_rules_label_and_say_so(tmp_path: Path) -> None:
    by_rules = make_labeller(GRAPH, tmp_path)
    assert labelling_quality(by_rules, tmp_path, 7).labeller == "rules: words of its own count as unrecognized"
    assert by_rules.labels(["Do you take coffee?", "Coffee?"], VALUES) == [[Label(("sell",), (("drink", "coffee"),))], []]


def test_an_incomplete_encoder_is_refused_with_the_fix(tmp_path: Path) -> None:
    (tmp_path / MODEL).mkdir()
    (tmp_path / MODEL / "config.json").touch()
    with pytest.raises(InvalidInputError, match=r"has no model\.safetensors, tokenizer\.json; put the files of sentence-transf"):
        make_labeller(GRAPH, tmp_path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2 of you, 2 May to 5 May.", "count of you, dates."),
        ("2 MAY TO 5 MAY", "dates"),
        ("12 of you", "12 of you"),
        ("Nothing", "Nothing"),
    ],
)
def test_values_are_masked_as_whole_words_and_the_longest_first(text: str, expected: str) -> None:
    assert masked(text, {"count": "2", "dates": "2 May to 5 May", "unset": ""}) == expected


def test_a_number_inside_of_a_date_is_no_mention_of_the_number() -> None:
    values = {"drink": "coffee", "count": "2", "dates": "2 May"}
    assert mentioned_values("On 2 May.", GRAPH.spec.variables, values) == ()
    assert mentioned_values("2 on 2 May.", GRAPH.spec.variables, values) == (("count", "2"),)
