"""Which question a reply answers, and whether it then takes up what the agent had asked before. Pure but for the encoder.

Answers are the author's own words, so these are looked for first. An answer in other words counts if it has all figures of the
author's, and most of its other words, or is more similar to it than to any other answer.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_core.procedure.otherwise import answer_texts, question_percents
from subterra_jobs.dialogue.detours import question_of
from subterra_jobs.dialogue.questions import content_words, ways_to_go_on
from subterra_jobs.evaluate.judge.free_words.quotes import normalize

if TYPE_CHECKING:  # rules need no numpy
    from subterra_jobs.dialogue.similarity.sentence_encoder import Encoder

MOST_WORDS = 0.6
"""Share of an answer's words that a reply in other words has at least."""
MIN_SIMILARITY = 0.6
"""Similarity of a reply to an answer below which it is none."""
_FIGURE = re.compile(r"\d+(?:[.,:]\d+)*")
_MARKS = re.compile(r"[^\w\s]+")


@dataclass(frozen=True)
class AnswerReading:
    """What a reply to a question says."""

    names: frozenset[str]
    """The questions that it answers: several, if these have the same answer; none, if it is no answer."""
    takes_up: bool
    """Whether it repeats the question that the agent had asked before, word for word."""


class AnswerReader:
    """Reads the replies to questions of one procedure; without an `encoder`, by their words alone."""

    def __init__(self, spec: ProcedureSpec, encoder: "Encoder | None" = None) -> None:
        self._answers = [(name, text) for name in question_percents(spec) for text in answer_texts(spec, name)]
        self._plain = {text: _plain(text) for _, text in self._answers}
        self._going_on = [_plain(text) for text in ways_to_go_on()]
        self._encoder = encoder

    def read(self, reply: str, previous: str) -> AnswerReading:
        """The reading of a reply; `previous` is the agent's reply before it, empty if there is none."""
        question = _plain(question_of(" ".join(previous.split()))) if previous.strip() else ""
        text = _plain(reply)
        takes_up = not question or f" {text} ".endswith(f" {question} ")
        if takes_up and question:
            text = text[: len(text) - len(question)].rstrip()
        text = next((text.removesuffix(each).rstrip() for each in self._going_on if text.endswith(each)), text)
        found = self._quoted(text) or self._paraphrased(text) or self._similar(text)
        return AnswerReading(frozenset(name for name, answer in self._answers if answer in found), takes_up)

    def _quoted(self, text: str) -> list[str]:
        """The longest of the answers that the text has word for word."""
        found = [answer for answer, plain in self._plain.items() if f" {plain} " in f" {text} "]
        longest = max(map(len, found), default=0)
        return [answer for answer in found if len(answer) == longest]

    def _paraphrased(self, text: str) -> list[str]:
        """The answer whose words the text has most of, if it has all of its figures."""
        shares = {answer: _share(content_words(plain), content_words(text)) for answer, plain in self._with_figures(text).items()}
        best = max(shares.values(), default=0.0)
        return [answer for answer, share in shares.items() if share == best] if best >= MOST_WORDS else []

    def _similar(self, text: str) -> list[str]:
        if self._encoder is None or not text:
            return []
        known = self._with_figures(text)
        if not known:
            return []
        vectors = self._encoder.encode([*known, text])
        similarities: Sequence[float] = [float(each) for each in vectors[:-1] @ vectors[-1]]
        best = max(similarities)
        alike = zip(known, similarities, strict=True)
        return [answer for answer, similarity in alike if similarity == best] if best >= MIN_SIMILARITY else []

    def _with_figures(self, text: str) -> Mapping[str, str]:
        """The answers all of whose figures the text has."""
        figures = {*_FIGURE.findall(text)}
        return {answer: plain for answer, plain in self._plain.items() if figures.issuperset(_FIGURE.findall(plain))}


def _share(words: frozenset[str], said: frozenset[str]) -> float:
    return len(words & said) / len(words) if words else 0.0


def _plain(text: str) -> str:
    """The words of a text without case and marks; figures keep theirs."""
    words = (word.strip(".,;:!?\"'()") if _FIGURE.search(word) else _MARKS.sub(" ", word) for word in normalize(text).split())
    return " ".join(" ".join(words).split())
