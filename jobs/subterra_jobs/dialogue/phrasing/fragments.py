"""Clauses with one variable each, taken out of an author's examples and put together again in another order."""

import random
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from subterra_core.procedure.template import variables_of
from subterra_jobs.dialogue.phrasing.phrasebook import Grammar, normal_form

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")
_CLAUSE_END = re.compile(r"\s*[,;:]\s+")
_END_MARKS = ".!?,;: "
_TOKEN = re.compile(r"[\w']+")
_CONTRACTED = re.compile(r"\w+'(m|re|d|ll|s|ve)$")


@dataclass(frozen=True)
class Fragment:
    """A clause about one variable, beginning with a small letter where its first word allows it."""

    text: str
    variable: str
    sentence: bool
    """True if it can stand alone; other fragments are phrases such as "for {{travellers}} people"."""
    question: bool = False


class FragmentReader:
    """Takes sentences apart with the words of a locale."""

    def __init__(self, grammar: Grammar, common_words: frozenset[str]) -> None:
        self._grammar, self._common = grammar, common_words
        self.takes_value, self.please = grammar.takes_value, grammar.please
        prepositions, subjects = (
            "|".join(map(re.escape, sorted(words, key=len, reverse=True))) for words in (grammar.prepositions, grammar.subjects)
        )
        conjunctions = "|".join(map(re.escape, grammar.conjunctions))
        between = rf"\s+(?=(?:{prepositions})\s(?:[\w']+\s)?\{{\{{)"
        clause = rf"\s+(?:{conjunctions})\s+(?=(?:{subjects})\s)"
        self._inner = re.compile(rf"{between}|{clause}", re.IGNORECASE)
        self._leading = re.compile(rf"^(?:{conjunctions})\s+(?=(?:{subjects})\s)", re.IGNORECASE)
        please = re.escape(grammar.please)
        self._please = re.compile(rf"^{please},?\s+(?=\{{\{{)|,?\s+{please}$", re.IGNORECASE)
        self._courtesy = {normal_form(word) for word in grammar.courtesy}

    def read(self, examples: Iterable[str], variables: Iterable[str]) -> dict[str, tuple[Fragment, ...]]:
        """The fragments for each of `variables`. An example that says more than values gives none: the rest may be what counts."""
        found: defaultdict[str, dict[Fragment, None]] = defaultdict(dict)
        wanted = set(variables)
        for example in examples:
            for fragment in self._of_example(example):
                if fragment.variable in wanted:
                    found[fragment.variable][fragment] = None
        return {name: tuple(fragments) for name, fragments in found.items()}

    def fragment(self, text: str, variable: str) -> Fragment:
        """`text`, which holds `variable` alone, as a fragment."""
        return Fragment(self.lowered(text), variable, self._is_sentence(text))

    def lowered(self, text: str) -> str:
        """`text` with a small first letter, unless its first word is a name or a pronoun that is written large."""
        word = _TOKEN.match(text)
        if word is None or word.group().lower() in self._grammar.pronouns or word.group().lower() not in self._common:
            return text
        return text[0].lower() + text[1:]

    def starts_small(self, text: str) -> bool:
        """True if another word can stand before `text` in one sentence."""
        lowered = self.lowered(text)
        word = _TOKEN.match(lowered)
        return not lowered[:1].isupper() or (word is not None and word.group().lower() in self._grammar.pronouns)

    def _of_example(self, example: str) -> list[Fragment]:
        fragments: list[Fragment] = []
        for sentence in _SENTENCE_END.split(example.strip()):
            asks = sentence.endswith("?")
            for index, clause in enumerate(_CLAUSE_END.split(sentence.strip(_END_MARKS))):
                pieces = self._inner.split(clause) if len(variables_of(clause)) > 1 else [clause]
                for number, piece in enumerate(pieces):
                    text = self._please.sub("", self._leading.sub("", piece.strip(_END_MARKS)))
                    names = variables_of(text)
                    if not names and normal_form(text) not in self._courtesy:
                        return []
                    if len(names) == 1:
                        question = asks and index == number == 0 and self._asks(text)
                        fragments.append(Fragment(self.lowered(text), names[0], self._is_sentence(text), question))
        return fragments

    def _asks(self, text: str) -> bool:
        word = _TOKEN.match(text)
        return word is not None and word.group().lower() in self._grammar.questions

    def _is_sentence(self, text: str) -> bool:
        words = [word.lower() for word in _TOKEN.findall(text)]
        return any(word in self._grammar.finite or _CONTRACTED.match(word) for word in words)


def join_fragments(fragments: Sequence[Fragment], connectors: Sequence[str], rng: random.Random) -> tuple[str, list[str]]:
    """The fragments as sentences, phrases attached to the one before, and the connectors that were used."""
    sentences: list[tuple[str, bool]] = []
    for fragment in fragments:
        if sentences and not fragment.sentence:
            text, question = sentences[-1]
            sentences[-1] = f"{text}, {fragment.text}", question
        else:
            sentences.append((fragment.text, fragment.question))
    line, used = "", list[str]()
    for index, (text, question) in enumerate(sentences):
        last = index + 1 == len(sentences)
        joinable = not last and not question and not sentences[index + 1][1] and not used
        connector = rng.choice(connectors) if joinable and rng.random() < 0.3 else ""
        starts = not line or line.endswith((". ", "? "))
        line += capitalized(text) if starts else text
        line += connector or ("?" if question else ".") + ("" if last else " ")
        used += [connector] if connector else []
    return line, used


def capitalized(text: str) -> str:
    """`text` with a large first letter, if it begins with a letter of its own and not with a variable."""
    return text[:1].upper() + text[1:]
