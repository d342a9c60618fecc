"""What one more reply shows: decisions, outcomes and values, each counted in one record alone."""

import random
from collections import Counter

import pytest

from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_core.procedure.graph import Graph
from subterra_jobs.dialogue.sampling import fit_values_to_path, sample_path, sample_values, system_message
from subterra_jobs.dialogue.scripted import chat_messages, scripted_utterances
from subterra_jobs.evaluate.analysis.served.chat_check import ChatCheck, Finding
from subterra_jobs.evaluate.analysis.served.recorded_chat import Chat, chat_of
from subterra_jobs.evaluate.judge.free_words.embedding_labeller import EmbeddingLabeller
from subterra_jobs.evaluate.judge.rule_labeller import RuleLabeller
from subterra_testkit.procedures import PLAN, agent, branch, end, fact_hub, procedure, user, way
from subterra_testkit.repository import EXAMPLES
from subterra_testkit.runs.word_counts import WordCounts
from subterra_testkit.yaml_reader import read_yaml

SHOP = Graph(
    procedure(
        agent("hello", "wish", examples=["Welcome to the shop, what would you like to drink?"]),
        user("wish", branch("sell", "I would like {{count}} {{drink}} please."), branch("bye", "Nothing, I am leaving.")),
        agent("sell", "answer", examples=["So {{count}} cups of {{drink}}, shall I pour them now?"]),
        user("answer", branch("done", "Yes, pour them."), branch("bye", "No, I am leaving.")),
        end("done", examples=["Here you are, enjoy your cups of {{drink}}!"]),
        end("bye", examples=["Goodbye, see you another day."]),
        variables=[
            {"name": "drink", "values": ["green tea", "coffee"]},
            {"name": "count", "type": "integer", "minimum": 1, "maximum": 9},
        ],
    )
)
RULES, SIMILARITY = ChatCheck(SHOP, RuleLabeller(SHOP)), ChatCheck(SHOP, EmbeddingLabeller(SHOP, WordCounts()))
WELCOME, WISH = "Welcome to the shop, what would you like to drink?", "I would like 2 green tea please."
POUR, BYE = "So 2 cups of green tea, shall I pour them now?", "Goodbye, see you another day."
DONE = "Here you are, enjoy your cups of green tea!"


def chat(*texts: str, system: str = "") -> Chat:
    """A conversation that the agent begins."""
    turns = [{"role": ("assistant", "user")[index % 2], "content": text} for index, text in enumerate(texts)]
    return chat_of([{"role": "system", "content": system}, *turns])


def records(whole: Chat) -> list[Chat]:
    """The conversation as each of its requests has it."""
    return [Chat(whole.turns[: index + 1], whole.context) for index, turn in enumerate(whole.turns) if turn["role"] == "assistant"]


def outcomes(check: ChatCheck, whole: Chat) -> list[str]:
    return [finding.outcome for each in records(whole) if (finding := check.check(each)).outcome]


@pytest.mark.parametrize("check", [RULES, SIMILARITY])
def test_a_conversation_that_comes_to_the_right_end_is_conformant_once(check: ChatCheck) -> None:
    found = [check.check(each) for each in records(chat(WELCOME, WISH, POUR, "Yes, pour them.", DONE))]
    assert [each.outcome for each in found] == [None, None, "conformant"]
    assert [each.hub for each in found] == [None, "wish", "answer"]
    assert [each.ending for each in found] == [None, None, "done"]
    assert found[-1].steps == (("hello",), ("wish",), ("sell",), ("answer",), ("done",))


def test_the_first_wrong_reply_counts_where_it_was_given_and_later_ones_do_not() -> None:
    whole = chat(WELCOME, WISH, BYE, "Yes, pour them.", DONE)
    found = [RULES.check(each) for each in records(whole)]
    assert [(each.outcome, each.wrong_at) for each in found] == [(None, None), ("violation", "wish"), (None, None)]


def test_a_reply_like_no_example_is_a_wrong_one() -> None:
    found = RULES.check(chat(WELCOME, WISH, "The weather is nice."))
    assert (found.outcome, found.wrong_at) == ("violation", "wish")


def test_every_outcome_counts_in_one_record_whichever_pod_sees_it() -> None:
    """A checker that has seen only one record of a conversation finds the same as one that has seen all."""
    whole = chat(WELCOME, WISH, POUR, "No, I am leaving.", DONE)
    alone = [ChatCheck(SHOP, RuleLabeller(SHOP)).check(each) for each in records(whole)]
    assert alone == [RULES.check(each) for each in records(whole)]
    assert Counter(each.outcome for each in alone) == {None: 2, "violation": 1}


def test_a_conversation_that_is_not_over_has_no_outcome() -> None:
    assert outcomes(RULES, chat(WELCOME, WISH, POUR)) == []


def test_words_like_no_example_are_unrecognized_at_their_hub() -> None:
    found = SIMILARITY.check(chat(WELCOME, "xyzzy plugh", WELCOME))
    assert (found.hub, found.recognized) == ("wish", False)
    assert SIMILARITY.check(chat(WELCOME, "I would like some coffee please", POUR)).recognized


def test_what_the_agent_says_is_out_of_place_counts_nowhere() -> None:
    aside = (WELCOME, "What is the capital of France?", f"I'm sorry, I can't help with that here. {WELCOME}")
    assert RULES.check(chat(*aside)) == Finding(steps=(("hello",),))
    assert outcomes(RULES, chat(*aside, "Nothing, I am leaving.", BYE)) == ["conformant"]


def test_a_value_that_nobody_gave_is_fabricated_and_counts_with_its_reply() -> None:
    wrong = RULES.check(chat(WELCOME, WISH, "So 2 cups of coffee, shall I pour them now?"))
    assert (wrong.values.asserted, wrong.values.fabricated) == (2, 1)
    later = RULES.check(chat(WELCOME, WISH, "So 2 cups of coffee, shall I pour them now?", "Yes, pour them.", DONE))
    assert (later.values.asserted, later.values.fabricated) == (1, 0)


def test_facts_of_the_system_message_decide() -> None:
    plans = procedure(
        agent("hello", "ask", examples=["Hello."]),
        user("ask", "check", examples=["Help me."]),
        fact_hub("check", way("pro", "Pro", "Business"), way("free")),
        end("pro", examples=["A person will call you."]),
        end("free", examples=["Please read our pages."]),
        variables=[PLAN],
    )
    nodes = [node.model_copy(update={"examples": ("Let me see.",)}) if node.id == "check" else node for node in plans.nodes]
    check = ChatCheck(graph := Graph(plans.model_copy(update={"nodes": tuple(nodes)})), RuleLabeller(graph))
    said = ("Hello.", "Help me.", "Let me see. Please read our pages.")
    assert outcomes(check, chat(*said, system="You help.\nplan: Free")) == ["conformant"]
    assert outcomes(check, chat(*said, system="You help.\nplan: Pro")) == ["violation"]
    assert outcomes(check, chat(*said)) == ["conformant"], "an unknown fact excludes nothing"


def written(graph: Graph, seed: int) -> Chat:
    """A conversation in the author's words along a random path."""
    rng = random.Random(seed)
    path = sample_path(graph, rng)
    values = fit_values_to_path(graph, path, sample_values(graph.spec.variables, rng, unseen=False), rng)
    return chat_of(chat_messages(system_message(graph.spec, values), None, scripted_utterances(graph, path, values, rng)))


@pytest.mark.parametrize("name", ["travel", "zoom"])
def test_conversations_in_the_authors_words_are_recognized_without_their_values_and_paths(name: str) -> None:
    spec = ProcedureSpec.model_validate(read_yaml((EXAMPLES / name / "procedure.yaml").read_text())["spec"])
    graph = Graph(spec)
    check = ChatCheck(graph, RuleLabeller(graph))
    chats = [written(graph, seed) for seed in range(12)]
    found = Counter(tuple(outcomes(check, each)) for each in chats)
    assert found == {("conformant",): 12}
    assert all(check.check(each).recognized for whole in chats for each in records(whole))
