"""Conversations changed in ways that should not matter to a judge, and how often its score moves all the same. Pure."""

from collections.abc import Sequence

from subterra_api.v1alpha1.judging import BiasKind, JudgeBias
from subterra_core.gate.branch_failures import binomial_tail

Turns = Sequence[tuple[str, str]]
"""Speaker (`customer` or `agent`) and text."""
AGENT = "agent"
BEFORE, AFTER = "Thank you very much for your message.", "Please take all the time that you need; I am always glad to be of help."
"""Sentences without content, before and after each of the agent's turns."""
OTHER_MODEL = "Nimbus 2"
"""A model that no judge is."""
LEVEL = 0.05
"""Of the test for a direction."""


def padded(turns: Turns) -> Turns:
    """The conversation with polite sentences without content in all of the agent's turns."""
    return [(speaker, f"{BEFORE} {text} {AFTER}" if speaker == AGENT else text) for speaker, text in turns]


def formatted(turns: Turns) -> Turns:
    """The conversation with the agent's turns in Markdown's bold, each a list item."""
    return [(speaker, f"- **{text}**" if speaker == AGENT else text) for speaker, text in turns]


def naming(turns: Turns, model: str) -> Turns:
    """The conversation in which the agent's first turn says which model it is."""
    first = next((index for index, (speaker, _) in enumerate(turns) if speaker == AGENT), None)
    return [(speaker, f"This is {model}. {text}" if index == first else text) for index, (speaker, text) in enumerate(turns)]


def count_moves(judge: str, kind: BiasKind, scores: Sequence[tuple[float | None, float | None]]) -> JudgeBias:
    """How often the second score is higher or lower than the first, where both are known."""
    known = [(before, after) for before, after in scores if before is not None and after is not None]
    higher, lower = sum(after > before for before, after in known), sum(after < before for before, after in known)
    return JudgeBias(judge=judge, kind=kind, higher=higher, lower=lower, of=len(known))


def sign_test(bias: JudgeBias) -> float:
    """Probability of moves that are at least as one-sided by chance: the exact two-sided sign test."""
    moved = bias.higher + bias.lower
    return min(1.0, 2 * binomial_tail(max(bias.higher, bias.lower), moved, 0.5)) if moved else 1.0


def direction(bias: JudgeBias) -> str | None:
    """`higher` or `lower` where the scores move in one direction more often than chance explains."""
    if sign_test(bias) >= LEVEL:
        return None
    return "higher" if bias.higher > bias.lower else "lower"
