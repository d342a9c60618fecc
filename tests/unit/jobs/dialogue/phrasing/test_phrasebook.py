"""A locale's templates are either trained on or held out, and none is a sentence that a benchmark measures with."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from subterra_jobs.dialogue.phrasing.phrasebook import LOCALES, Phrasebook, holds_any, load_phrasebook, normal_form
from subterra_jobs.errors import InvalidInputError
from subterra_testkit.repository import ROOT

PHRASES = ROOT / "bench/wordings_shift/travel_phrases.yaml"
SLOT = re.compile(r"\{+\w+\}+")
RUN = 4
"""Words in a row that a template and a sentence of the benchmark may not share."""
CHOICES = ("accept", "agree", "refuse", "leave", "another", "person", "unsure")


def texts_of(book: Phrasebook) -> Iterator[str]:
    for _, found in book.templates():
        yield from (*found.train, *found.held_out)


def words(text: str) -> list[str]:
    return normal_form(SLOT.sub(" value ", text)).split()


def runs(text: str) -> set[tuple[str, ...]]:
    said = words(text)
    return {tuple(said[start : start + RUN]) for start in range(len(said) - RUN + 1)}


def benchmark_sentences() -> list[str]:
    content = yaml.safe_load(PHRASES.read_text())
    edges = [text for edge in content["edges"] for text in edge["phrases"]]
    return [*content["openers"], *(text for found in content["nodes"].values() for text in found), *edges]


@pytest.mark.parametrize("locale", sorted(each.name for each in LOCALES.iterdir()))
def test_every_locale_is_valid_and_shares_no_sentence_with_the_benchmark(locale: str) -> None:
    measured = benchmark_sentences()
    sentences = {" ".join(words(part)) for text in measured for part in re.split(r"(?<=[.!?;])\s", text)}
    shared = [text for text in texts_of(load_phrasebook(locale)) if len(words(text)) > 1 and " ".join(words(text)) in sentences]
    assert shared == []


@pytest.mark.parametrize("locale", sorted(each.name for each in LOCALES.iterdir()))
def test_no_template_shares_four_words_in_a_row_with_the_benchmark(locale: str) -> None:
    measured = set[tuple[str, ...]]().union(*map(runs, benchmark_sentences()))
    assert [text for text in texts_of(load_phrasebook(locale)) if runs(text) & measured] == []


@pytest.mark.parametrize("file", sorted(LOCALES.glob("*/*.yaml")), ids=str)
def test_every_file_says_where_its_sentences_come_from(file: Path) -> None:
    head = file.read_text()[:300]
    assert "ritten for this project" in head or "compiled by hand for this project" in head
    assert "Apache-2.0" in head


@pytest.mark.parametrize("act", CHOICES)
def test_a_choice_can_be_said_in_many_ways(act: str) -> None:
    found = load_phrasebook().acts[act]
    assert len(found.train) >= 25
    assert len(found.held_out) >= 15


def test_values_can_be_given_in_many_frames() -> None:
    book = load_phrasebook()
    kinds = (book.values.bare, book.frames.pauses, book.frames.openings, book.frames.closings, book.frames.goodwill)
    assert sum(len(kind.train) for kind in kinds) >= 20
    assert sum(len(kind.held_out) for kind in kinds) >= 12


@pytest.fixture
def locales(tmp_path: Path) -> Path:
    shutil.copytree(LOCALES / "en", tmp_path / "en")
    return tmp_path


def edited(locales: Path, name: str, old: str, new: str) -> None:
    file = locales / f"en/{name}.yaml"
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new, 1))


@pytest.mark.parametrize(
    ("name", "old", "new", "problem"),
    [
        ("choices", "- Okay, sold!", "- YES I do like that.", "YES I do like that.' is held out and for training"),
        ("choices", "- I'm in.", "- Yes, I do like that.", "acts.accept: 'Yes, I do like that.' stands twice"),
        ("courtesy", "- So long.", "- Thanks a lot.", "acts.goodbye: 'Thanks a lot.' is held out and for training"),
        ("values", "That's {value}.", "That is it.", "values.bare: 'That is it.' needs {value}"),
        ("values", "{other}, wait, {value}", "{value}, wait", "values.replaced: '{value}, wait' needs {other} and {value}"),
        (
            "values",
            "{other}, hmm, no, {value}",
            "{other}, wait, {value}",
            "values.corrected: '{other}, wait, {value}' is held",
        ),
        ("values", "{other} (correction: {value})", "no, {value}", "values.corrected: 'no, {value}' needs {other} and {value}"),
        ("frames", "fillers:", "filler:", "frames.fillers"),
    ],
)
def test_a_wrong_file_is_refused_with_the_place(locales: Path, name: str, old: str, new: str, problem: str) -> None:
    edited(locales, "choices", "- Yes, I'd like that.", "- Yes, I do like that.")
    edited(locales, name, old, new)
    with pytest.raises(InvalidInputError) as error:
        load_phrasebook("en", locales)
    assert problem in str(error.value)


def test_an_unknown_locale_is_refused_with_those_that_exist() -> None:
    with pytest.raises(InvalidInputError, match="no locale 'xx' for customer phrasings; use one of: en"):
        load_phrasebook("xx")


def test_a_cue_is_found_as_whole_words_only() -> None:
    assert holds_any("The customer says yes.", ["Says yes"])
    assert not holds_any("The customer says yesterday.", ["says yes"])
