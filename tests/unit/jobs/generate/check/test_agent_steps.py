"""What the agent says in the pilot is held against the node that was due."""

from collections.abc import Sequence

import pytest

from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_core.procedure.graph import Graph
from subterra_jobs.dialogue.scripted import Utterance
from subterra_jobs.errors import InvalidInputError
from subterra_jobs.generate.check.agent_steps import AgentAudit, audit_agent, require_followed
from subterra_jobs.generate.plan.conversation_spec import ConversationSpec
from subterra_jobs.generate.plan.customer_style import CustomerStyle
from subterra_jobs.generate.plan.pilot import BranchDecision
from subterra_jobs.generate.written_conversation import Conversation
from subterra_testkit.procedures import agent, branch, end, procedure, user
from subterra_testkit.runs.word_counts import WordCounts

FOLLOWS, LEAVES, NONSENSE = "Which size of pizza do you want?", "Thank you for the order, goodbye.", "Bananas have potassium."


def pizza(**more: object) -> ProcedureSpec:
    return procedure(
        agent("ask_size", "size", prompt="Ask which size of pizza the customer wants.", **more),
        user("size", branch("bye", "A big one.")),
        end("bye", prompt="Thank for the order and say goodbye."),
        start="ask_size",
    )


def written(*texts: str, values: dict[str, str] | None = None, dropped: str | None = None) -> list[Conversation]:
    """One conversation per text, which the agent says at `ask_size`."""
    decision = (BranchDecision(1, ("bye",)),)
    return [
        Conversation(
            ConversationSpec(f"s1-{number}", 1, ("ask_size",), values or {}, "", False, CustomerStyle(), decision),
            (Utterance("ask_size", "agent", text, "size"),),
            drop_reason=dropped,
        )
        for number, text in enumerate(texts)
    ]


def audited(conversations: Sequence[Conversation]) -> AgentAudit:
    return audit_agent(Graph(pizza()), conversations, WordCounts())


def test_words_for_the_node_follow_it_without_any_example_of_the_author() -> None:
    audit = audited(written(*[FOLLOWS] * 4))
    assert audit.message == "agent audit: 4/4 turns of the pilot follow their node"
    require_followed(audit)


def test_words_for_another_node_leave_it_and_the_message_has_node_counts_example_and_fix() -> None:
    with pytest.raises(
        InvalidInputError, match=r"node ask_size: 1 of 4 turns follow it \(25%, needed 60%\); it reads as bye"
    ) as told:
        require_followed(audited(written(FOLLOWS, LEAVES, LEAVES, LEAVES)))
    assert f'for example in s1-1: "{LEAVES}"' in str(told.value)
    assert "use another model" in str(told.value)


def test_words_like_no_node_leave_it_too() -> None:
    (node,) = audited(written(*[NONSENSE] * 3)).nodes
    assert (node.is_left, node.like) == (True, "")


@pytest.mark.parametrize("texts", [[LEAVES, LEAVES], [LEAVES] * 3 + [FOLLOWS] * 6], ids=["two turns", "a third of them"])
def test_a_few_turns_that_may_be_misread_blame_nobody(texts: list[str]) -> None:
    require_followed(audited(written(*texts)))


def test_a_long_turn_follows_its_node_by_one_of_its_sentences() -> None:
    long = f"Good evening. {FOLLOWS} Our oven is hot, our dough has rested for a day, and the tomatoes come from Naples."
    assert audited(written(*[long] * 3)).nodes[0].followed == 3


def test_dropped_conversations_do_not_count() -> None:
    assert audited(written(*[LEAVES] * 3, dropped="node ask_size is empty")).nodes == ()
