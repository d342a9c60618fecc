"""How long a turn may be, for whoever writes it: teacher, compiled model or reference."""

from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_jobs.dialogue.scripted import agent_templates

TURN_TOKENS = 400
"""Longest turn of a conversation."""


def max_reply_tokens(procedure: ProcedureSpec) -> int:
    """Token limit of a compiled agent's reply: one per character of its longest step, so that no tokenizer truncates it."""
    steps = (text for node in procedure.nodes if node.role == "agent" for text in agent_templates(node))
    return max(TURN_TOKENS, *map(len, steps), 0)
