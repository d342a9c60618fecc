"""Composes what a customer says at an edge from more than the author's own examples. Deterministic, free, offline.

A line is put together with `{{variable}}` in place of values, which are filled in last: slips and frames cannot touch a value.
"""

import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from subterra_core.procedure.graph import Graph
from subterra_core.procedure.template import render, split, variables_of
from subterra_jobs.dialogue.phrasing.edge_examples import EdgeExamples, read_edge, wordings_of
from subterra_jobs.dialogue.phrasing.fragments import Fragment, FragmentReader, capitalized, join_fragments
from subterra_jobs.dialogue.phrasing.language import speaks_english
from subterra_jobs.dialogue.phrasing.phrasebook import Phrasebook, Templates, holds_any, load_phrasebook, normal_form
from subterra_jobs.dialogue.phrasing.speech_acts import edge_acts
from subterra_jobs.dialogue.phrasing.spoken_values import PEOPLE, Corrections, Party, grouped, is_long_number, value_kind
from subterra_jobs.dialogue.phrasing.surface import SurfaceNoise

AUTHORS_SHARE = 0.53
"""Share of an author's example, unchanged, among the lines for training."""
OPENERS_SHARE = 0.7
"""The same for openers."""
_PARTY_SHARE = 0.4
_CORRECTION_SHARE = 0.2
_TRAINED_CORRECTION_SHARE = 0.4
"""More than customers correct themselves: of all that an agent reads, it learns this most slowly."""
_NOISE_SHARE = 0.35
_GROUPED_SHARE = 0.25
_TRIES = 8
_INTERJECTION = re.compile(r"\w+,")
_WORD = re.compile(r"[a-z']+")


@dataclass(frozen=True)
class ComposedLine:
    """A line as the customer says it, and the templates of the phrasebook that are in it."""

    text: str
    templates: tuple[str, ...] = ()
    example: bool = False
    """True for an author's example, unchanged."""


@dataclass(frozen=True)
class _Draft:
    line: str
    templates: tuple[str, ...] = ()
    spoken: Mapping[str, str] = field(default_factory=dict)
    """What stands for markers that are no variables of the procedure."""
    gives: bool = False
    """True if the line is there to give values: courtesies fit then."""

    def with_line(self, line: str, *templates: str) -> "_Draft":
        return replace(self, line=line, templates=(*self.templates, *templates))


_Wording = Callable[[EdgeExamples, str, Mapping[str, str], random.Random], _Draft]


class CustomerPhrasing:
    """Composes customer lines for one procedure; with `held_out`, only from templates that no training conversation uses."""

    def __init__(self, graph: Graph, *, held_out: bool, locale: str = "en") -> None:
        self._graph, self._held_out, self._book = graph, held_out, load_phrasebook(locale)
        self._examples_alone = not speaks_english(graph.spec)
        common = _common_words(graph, self._book)
        self._reader = FragmentReader(self._book.grammar, common)
        self._noise = SurfaceNoise(self._book.surface, self._of(self._book.frames.fillers), common)
        self._party = Party(self._book.party, held_out=held_out)
        self._corrections = Corrections(self._book.values, held_out=held_out)
        self._acts = edge_acts(graph, self._book)
        self._variables = {variable.name: variable for variable in graph.spec.variables}
        self._kinds = {
            name: value_kind(self._book, variable, graph.spec.system_prompt) for name, variable in self._variables.items()
        }
        self._clauses = {name: self._kind_clauses(name) for name in self._variables}
        self._edges: dict[tuple[str, str | None], EdgeExamples] = {}

    def line(self, node: str, taken: str | None, values: Mapping[str, str], rng: random.Random) -> str:
        """What the customer says at `node` when `taken` follows. Raises InvalidInputError where the author gives no example."""
        return self.compose(node, taken, values, rng).text

    def compose(self, node: str, taken: str | None, values: Mapping[str, str], rng: random.Random) -> ComposedLine:
        """The same, with the templates that the line is made of."""
        edge = self._edge(node, taken)
        example = rng.choice(edge.examples)
        if self._examples_alone or (not self._held_out and rng.random() < AUTHORS_SHARE):
            return ComposedLine(render(example, values), example=True)
        draft = _Draft(example)
        for _ in range(_TRIES):
            draft = self._draft(edge, example, values, rng)
            if draft.line not in edge.examples:
                break
        else:
            draft = self._paused(draft, rng)
        spoken = {**values, **draft.spoken, **self._grouped(draft.line, values, rng)}
        return ComposedLine(render(draft.line, spoken), draft.templates, draft.line in edge.examples)

    def _grouped(self, line: str, values: Mapping[str, str], rng: random.Random) -> dict[str, str]:
        """Long numbers of a line as people write them down, now and then, where a tool needs them without the spaces."""
        if not self._graph.spec.tools:
            return {}
        said = [self._variables[name] for name in variables_of(line) if name in self._variables]
        long = [each for each in said if each.visibility == "customer" and is_long_number(each, values[each.name])]
        return {each.name: grouped(values[each.name], rng) for each in long if rng.random() < _GROUPED_SHARE}

    def opener(self, opener: str, rng: random.Random) -> str:
        """`opener` as somebody types it; its values may be filled in already."""
        if self._examples_alone or (not self._held_out and rng.random() < OPENERS_SHARE):
            return opener
        return self._noise.opener(opener, rng)

    def _of(self, templates: Templates) -> tuple[str, ...]:
        return templates.of(self._held_out)

    def _edge(self, node: str, taken: str | None) -> EdgeExamples:
        if (node, taken) not in self._edges:
            self._edges[node, taken] = read_edge(self._graph, node, taken, self._acts.get((node, taken or "")), self._reader)
        return self._edges[node, taken]

    def _kind_clauses(self, name: str) -> tuple[tuple[str, Fragment], ...]:
        kind = self._kinds[name]
        templates = self._of(self._book.values.kinds[kind]) if kind else ()
        return tuple((each, self._reader.fragment(each.replace("{value}", f"{{{{{name}}}}}"), name)) for each in templates)

    def _draft(self, edge: EdgeExamples, example: str, values: Mapping[str, str], rng: random.Random) -> _Draft:
        wordings, weights = zip(*self._wordings(edge, example, values), strict=True)
        wording: _Wording = rng.choices(wordings, weights)[0]
        draft = wording(edge, example, values, rng)
        draft = self._framed(edge, self._corrected(draft, variables_of(example), values, rng), rng)
        if draft.line in edge.examples or rng.random() < _NOISE_SHARE:
            return draft.with_line(self._noise.apply(draft.line, rng))
        return draft

    def _wordings(self, edge: EdgeExamples, example: str, values: Mapping[str, str]) -> list[tuple[_Wording, int]]:
        """The ways to say what `example` says, with their weights."""
        names = frozenset(variables_of(example))
        wordings: list[tuple[_Wording, int]] = [(self._as_example, 1 if self._held_out else 2)]
        if edge.act is not None and (not names or names == {edge.something}):
            wordings.append((self._by_act, 8))
        elif not names and edge.doubles:
            wordings.append((self._doubled, 3))
        if names and edge.tells_branch(names):
            if all(self._fragments_for(edge, name) for name in names):
                wordings.append((self._recombined, 6))
            if len(names) == 1 and names <= edge.bare:
                wordings.append((self._bare, 4))
        return wordings

    def _as_example(self, edge: EdgeExamples, example: str, values: Mapping[str, str], rng: random.Random) -> _Draft:
        return _Draft(example)

    def _by_act(self, edge: EdgeExamples, example: str, values: Mapping[str, str], rng: random.Random) -> _Draft:
        assert edge.act is not None
        template = rng.choice(self._of(edge.act))
        names = variables_of(example)
        value = f"{{{{{names[0]}}}}}" if names else rng.choice(self._book.grammar.else_words)
        return _Draft(template.replace("{value}", value), (template,))

    def _doubled(self, edge: EdgeExamples, example: str, values: Mapping[str, str], rng: random.Random) -> _Draft:
        """Two examples of one branch after each other: they mean the same."""
        others = [text for text in edge.examples if text != example and not variables_of(text)]
        return _Draft(f"{_ended(example)} {rng.choice(others)}" if others else example)

    def _bare(self, edge: EdgeExamples, example: str, values: Mapping[str, str], rng: random.Random) -> _Draft:
        template = rng.choice(self._of(self._book.values.bare))
        return _Draft(template.replace("{value}", f"{{{{{variables_of(example)[0]}}}}}"), (template,))

    def _recombined(self, edge: EdgeExamples, example: str, values: Mapping[str, str], rng: random.Random) -> _Draft:
        """A clause for each variable of the example, in random order."""
        names, chosen, templates, spoken = list(variables_of(example)), list[Fragment](), list[str](), dict[str, str]()
        rng.shuffle(names)
        alone = any(self._kinds.get(name) == PEOPLE and values[name] == "1" for name in names)
        for name in names:
            if composition := self._composition(name, values[name], rng):
                frame, party = composition
                spoken[_party(name)] = party
                templates += composition
                chosen.append(self._reader.fragment(frame.replace("{party}", f"{{{{{_party(name)}}}}}"), name))
            else:
                used, fragment = self._clause(edge, name, alone, rng)
                templates += used
                chosen.append(fragment)
        line, connectors = join_fragments(chosen, self._of(self._book.frames.connectors), rng)
        spoken = {mark: capitalized(text) if _begins(line, mark) else text for mark, text in spoken.items()}
        return _Draft(line, (*templates, *connectors), spoken, gives=True)

    def _composition(self, name: str, value: str, rng: random.Random) -> tuple[str, str] | None:
        if self._kinds.get(name) != PEOPLE or rng.random() >= _PARTY_SHARE:
            return None
        return self._party.clause(value, rng)

    def _clause(self, edge: EdgeExamples, name: str, alone: bool, rng: random.Random) -> tuple[list[str], Fragment]:
        """A clause for a variable, of the phrasebook or of the author; none for several people if the customer comes alone."""
        own = edge.fragments.get(name, ())
        known = self._clauses.get(name, ())
        if alone:
            own = self._for_one(own)
            known = tuple(each for each in known if not holds_any(each[0], self._book.grammar.plural))
        if known and (not own or rng.random() < (0.75 if self._held_out else 0.5)):
            template, fragment = rng.choice(known)
            return [template], fragment
        return [], rng.choice(own or edge.fragments.get(name) or [fragment for _, fragment in self._clauses[name]])

    def _for_one(self, fragments: Sequence[Fragment]) -> tuple[Fragment, ...]:
        plural = self._book.grammar.plural
        return tuple(each for each in fragments if not holds_any(" ".join(split(each.text)[::2]), plural))

    def _fragments_for(self, edge: EdgeExamples, name: str) -> bool:
        return bool(edge.fragments.get(name) or self._clauses.get(name))

    def _framed(self, edge: EdgeExamples, draft: _Draft, rng: random.Random) -> _Draft:
        """The draft with words before and after it that mean nothing by themselves."""
        frames, gives = self._book.frames, edge.act is None and draft.gives
        if edge.act is not None and edge.act.request and rng.random() < 0.2:
            draft = self._opened(draft, rng.choice(self._of(frames.softeners)))
        elif gives and rng.random() < 0.12:
            draft = self._paused(draft, rng)
        elif rng.random() < 0.3:
            draft = self._opened(draft, rng.choice(self._of(frames.openings)))
        return self._closed(edge, draft, rng) if gives else draft

    def _paused(self, draft: _Draft, rng: random.Random) -> _Draft:
        pause = rng.choice(self._of(self._book.frames.pauses))
        return draft.with_line(f"{pause} {capitalized(draft.line)}", pause)

    def _opened(self, draft: _Draft, opening: str) -> _Draft:
        again = normal_form(draft.line).split()[:1] == normal_form(opening).split()[:1]
        if again or _INTERJECTION.match(draft.line) or not self._reader.starts_small(draft.line):
            return draft
        return draft.with_line(f"{opening} {self._reader.lowered(draft.line)}", opening)

    def _closed(self, edge: EdgeExamples, draft: _Draft, rng: random.Random) -> _Draft:
        frames, draw = self._book.frames, rng.random()
        if draw < 0.1:
            goodwill = rng.choice(self._of(frames.goodwill))
            return draft.with_line(f"{_ended(draft.line)} {goodwill}", goodwill)
        if draw > 0.35 or draft.line.endswith(("?", "!")) or holds_any(draft.line, (self._book.grammar.please,)):
            return draft
        closing = rng.choice(self._of(frames.polite if edge.polite and draw > 0.2 else frames.closings))
        return draft.with_line(f"{draft.line.rstrip('.')}, {closing}.", closing)

    def _corrected(self, draft: _Draft, names: Sequence[str], values: Mapping[str, str], rng: random.Random) -> _Draft:
        """The draft with another value that is corrected in the same turn, now and then."""
        if not names or rng.random() >= (_CORRECTION_SHARE if self._held_out else _TRAINED_CORRECTION_SHARE):
            return draft
        name = rng.choice(names)
        if name not in self._variables or f"{{{{{name}}}}}" not in draft.line:
            return draft
        if self._variables[name].visibility == "result":  # the customer repeats what a tool returned; nobody named another value
            return draft
        other = self._corrections.other_value(self._variables[name], values[name], rng)
        if other is None:
            return draft
        line, template = self._corrections.corrected(draft.line, name, _other(name), rng)
        return replace(draft.with_line(line, template), spoken={**draft.spoken, _other(name): other})


def _party(name: str) -> str:
    return f"{name}__party"


def _other(name: str) -> str:
    return f"{name}__other"


def _begins(line: str, name: str) -> bool:
    """True if the marker of `name` begins a sentence."""
    return re.search(rf"(?:^|[.?] )\{{\{{{name}\}}\}}", line) is not None


def _ended(line: str) -> str:
    return line if line.endswith((".", "!", "?")) else f"{line}."


def _common_words(graph: Graph, book: Phrasebook) -> frozenset[str]:
    """Words that are no names: those of the phrasebook, and those that the author writes small."""
    templates = [text for _, found in book.templates() for text in (*found.train, *found.held_out)]
    own = " ".join((*templates, *book.grammar.courtesy)).lower()
    author = " ".join(part for text in wordings_of(graph.spec) for part in text.split())
    return frozenset(_WORD.findall(own)) | {word for word in re.findall(r"[A-Za-z']+", author) if word.islower()}
