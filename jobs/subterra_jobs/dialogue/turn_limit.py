"""Token limit of a turn, the same for teacher, compiled model and reference."""

from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_core.procedure.tools import call_text, tool_nodes
from subterra_jobs.dialogue.scripted import agent_templates

TURN_TOKENS = 400
"""Longest turn of a conversation."""
_VALUE_LENGTH = 80
"""Assumed length of an argument of a tool call, and of the words before the call."""


def max_reply_tokens(procedure: ProcedureSpec) -> int:
    """Token limit of a compiled agent's reply: one per character of its longest step, so that no tokenizer truncates it."""
    steps = (text for node in procedure.nodes if node.role == "agent" for text in agent_templates(node))
    calls = (len(call_text(node)) + _VALUE_LENGTH * (1 + len(node.arguments)) for node in tool_nodes(procedure))
    longest = max(map(len, steps), default=0)
    answers = (len(each.answer) + longest for each in procedure.questions)  # the step's question is asked again
    return max(TURN_TOKENS, longest, *answers, *calls)
