"""Whether a procedure speaks English, the only language in which customers say more than the author's examples. Pure."""

from collections.abc import Iterator
from functools import lru_cache

from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_core.procedure.calls.spoken_language import ENGLISH, guessed_language, in_latin_letters, spoken_words

NOT_ENGLISH = "scripted customers have words of their own in English only, and the examples are in another language"
# fmt: off
_ENGLISH = frozenset({
    "the", "and", "you", "your", "that", "it", "with", "what", "are", "this", "have", "my", "can", "would", "please", "not", "how",
    "which", "from", "when", "be", "there", "thank", "thanks", "yes",
})
# fmt: on
"""Frequent words that other languages hardly have."""
_LEAST_SHARE = 0.03
_FEWEST_WORDS = 30
"""Of fewer words of Latin letters a share tells nothing; then it counts whether another language has more of them."""


@lru_cache(maxsize=64)
def speaks_english(spec: ProcedureSpec) -> bool:
    """Whether the examples are in English, or too few to tell."""
    words = spoken_words(_examples(spec))
    if not in_latin_letters(words):
        return False
    if len(words) < _FEWEST_WORDS:
        return guessed_language(spec) == ENGLISH
    return sum(word in _ENGLISH for word in words) >= _LEAST_SHARE * len(words)


def _examples(spec: ProcedureSpec) -> Iterator[str]:
    for node in spec.nodes:
        yield from node.examples
        yield from (text for edge in node.next for text in edge.examples)
    for edge in spec.anywhere:
        yield from edge.examples
    for question in spec.questions:
        yield from question.examples
