"""Token limit of a turn, the same for teacher, compiled model and reference."""

from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_core.procedure.tools import call_text, tool_nodes
from subterra_jobs.dialogue.scripted import agent_templates

TURN_TOKENS = 400
"""Longest turn of a conversation."""
_VALUE_LENGTH = 80
"""Assumed length of an argument of a tool call, and of the words before the call."""


def max_reply_tokens(procedure: ProcedureSpec) -> int:
    """Token limit of a compiled agent's reply: one per byte of its longest step, so that no tokenizer truncates it.

    A tokenizer that has seen little of a language has up to four tokens for one of its characters.
    """
    steps = (text for node in procedure.nodes if node.role == "agent" for text in agent_templates(node))
    calls = (_bytes(call_text(node)) + _VALUE_LENGTH * (1 + len(node.arguments)) for node in tool_nodes(procedure))
    longest = max(map(_bytes, steps), default=0)
    answers = (_bytes(each.answer) + longest for each in procedure.questions)  # the step's question is asked again
    return max(TURN_TOKENS, longest, *answers, *calls)


def _bytes(text: str) -> int:
    return len(text.encode())
