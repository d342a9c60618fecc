"""The language that a procedure's speakers use, guessed from frequent words, and how it joins the last two of a list. Pure."""

import re
from collections.abc import Iterable, Iterator, Sequence

from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_core.procedure.template import split

ENGLISH = "en"
UNKNOWN = ""
"""A language of other letters than Latin ones."""
_AND = {ENGLISH: "and", "de": "und", "es": "y", "fr": "et", "it": "e", "nl": "en", "pt": "e"}
_FREQUENT = {
    ENGLISH: "a and are can do for have how i is it my not of on please thanks that the to what which with yes you your",
    "de": "bitte das dem den der die ein eine für haben ich ihr ihre ist mit nicht sie und was welche wie",
    "es": "con cuál el es está gracias la las los me mi para por qué que quiero su tiene una usted y",
    "fr": "avec bonjour ce des est et je la le les merci mon ne pas pour que quel quelle une votre vous",
    "it": "che con da di è gli grazie ho il la le mi non per può quale sono una vorrei",
    "nl": "de dit een en graag het heeft hoe ik kan met mijn niet u uw van voor wat wij",
    "pt": "a com é meu minha não o obrigado os para por qual quero sua seu tem uma você",
}
"""Those that are one of several languages' count for each of them."""
_WORD = re.compile(r"[^\W\d_]+")
_LATIN_END = "\u024f"
_STOPS = (".", "?", "!", "…", "。", "？", "！")
_FULL_STOP = re.compile(r"(?<!\.\w)[.。]$")
_EAST_ASIAN = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]")
_FEWEST = 2
"""Fewer words of another language tell nothing."""


def guessed_language(spec: ProcedureSpec) -> str:
    """The language of what is said; English where nothing tells, `UNKNOWN` where the letters are not Latin."""
    words = spoken_words(_spoken_texts(spec))
    if not in_latin_letters(words):
        return UNKNOWN
    found = {name: sum(word in frequent for word in words) for name, frequent in _frequent().items()}
    best = max(found, key=lambda name: (found[name], name == ENGLISH))
    return best if found[best] >= _FEWEST else ENGLISH


def spoken_words(texts: Iterable[str]) -> list[str]:
    """The words of the texts in small letters, without their placeholders."""
    return [word for text in texts for part in split(text)[::2] for word in _WORD.findall(part.lower())]


def in_latin_letters(words: Iterable[str]) -> bool:
    """Whether at least half of the letters are Latin ones."""
    letters = "".join(words)
    return 2 * sum(letter > _LATIN_END for letter in letters) <= len(letters)


def listed(parts: Sequence[str], language: str = ENGLISH) -> str:
    """``parts`` as the language lists them: "a, b and c"."""
    if len(parts) < 2 or language not in _AND:
        return ("、" if any(map(_EAST_ASIAN.search, parts)) else ", ").join(parts)
    return f"{', '.join(parts[:-1])} {_AND[language]} {parts[-1]}"


def sentence(text: str) -> str:
    """The text with a capital letter and a full stop, unless it has a mark at its end."""
    stop = "" if text.endswith(_STOPS) else "。" if _EAST_ASIAN.search(text) else "."
    return text[:1].upper() + text[1:] + stop


def without_stop(text: str) -> str:
    """The text as part of a longer sentence; the dot of "p.m." stays."""
    return _FULL_STOP.sub("", text)


def _frequent() -> dict[str, frozenset[str]]:
    return {name: frozenset(words.split()) for name, words in _FREQUENT.items()}


def _spoken_texts(spec: ProcedureSpec) -> Iterator[str]:
    for node in spec.nodes:
        yield from node.examples
        yield from _examples(node.next)
        yield from _examples(node.collects)
        yield from (slot.ask for slot in node.collects)
    yield from _examples(spec.anywhere)
    yield from _examples(spec.questions)


def _examples(each: Iterable[object]) -> Iterator[str]:
    for one in each:
        yield from getattr(one, "examples", ())
