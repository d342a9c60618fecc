"""Builds customers who say what the examples do not have: other words, unlisted and real values, detours, corrections.

They are scripted whatever the run's simulator is, talk to the candidate only, and count in no score of the conforming customers.
What they say comes from `CustomerSources`; a kind for which the procedure has no place is not tested.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, get_args

from subterra_api.digest import sha256, short
from subterra_api.job_contract.messages import Evaluation
from subterra_api.v1alpha1.procedure import ProcedureSpec, Variable
from subterra_api.v1alpha1.scores import RobustnessKind
from subterra_core.procedure.graph import Graph, Path
from subterra_core.procedure.otherwise import UNKNOWN_QUESTION, asks_questions, questions_by_name
from subterra_core.procedure.template import render, split
from subterra_jobs.dialogue.detours import DetourKind
from subterra_jobs.dialogue.phrasing.language import NOT_ENGLISH, speaks_english
from subterra_jobs.dialogue.questions import asking_positions, closed_nodes, question_words, turn_number
from subterra_jobs.dialogue.sampling import context_lines, fit_values_to_path, sample_path, sample_values
from subterra_jobs.dialogue.scripted import Utterance, chat_messages, example_templates
from subterra_jobs.errors import InvalidInputError
from subterra_jobs.evaluate.scenarios.scenario import Scenario

KINDS: tuple[RobustnessKind, ...] = get_args(RobustnessKind)
CUSTOMERS: Mapping[RobustnessKind, int] = dict.fromkeys(KINDS, 30) | {"phrasings": 120, "questions": 60}
"""The most customers of each kind. The gate decides on phrasings, so they are enough for a narrow interval."""
_PER_CONFORMING: Mapping[RobustnessKind, float] = dict.fromkeys(KINDS, 30 / 420) | {"phrasings": 0.3, "questions": 60 / 420}
"""Customers of each kind for each conforming one, so that small evaluations stay small."""
NO_PLACE: Mapping[RobustnessKind, str] = {
    "phrasings": "the procedure has no turn of the customer",
    "unknownValues": "the customer never says a value of a closed list",
    "realValues": "the customer never says an open value that a list of real ones fits",
    "offTopic": "the procedure has no turn of the customer before which something else could be said",
    "corrections": "the customer never says a value that could be corrected",
    "afterEnd": "the agent never has the last word",
    "questions": "no question may be asked at a turn of the customer",
}
UNKNOWN_EVERY = 5
_TRIES = 50
"""Draws before a kind counts as one that the procedure has no place for."""
_DETOURS: Mapping[RobustnessKind, DetourKind] = {
    "unknownValues": "unknown value",
    "offTopic": "off topic",
    "afterEnd": "after end",
}


class Phrasing(Protocol):
    """Composes customer lines in words that no training conversation has."""

    def line(self, node: str, taken: str | None, values: Mapping[str, str], rng: random.Random) -> str:
        """The customer's words at a node that go on to `taken`."""
        ...

    def opener(self, opener: str, rng: random.Random) -> str:
        """An opener with surface variation."""
        ...


class Detour(Protocol):
    """A turn that the flowchart does not have. `at` is the number of the customer's turns before it, `value` the unlisted value."""

    @property
    def at(self) -> int: ...
    @property
    def customer(self) -> str: ...
    @property
    def value(self) -> str: ...


class DrawDetour(Protocol):
    """Draws a detour for a path; `None` where the path has no place for it."""

    def __call__(
        self, graph: Graph, path: Path, values: Mapping[str, str], kind: DetourKind, rng: random.Random, *, held_out: bool
    ) -> Detour | None: ...


class QuestionWords(Protocol):
    """The customer's words for a question, by its name."""

    def __call__(self, spec: ProcedureSpec, name: str, rng: random.Random, *, held_out: bool) -> str: ...


class RealValues(Protocol):
    """Values of the real world for a variable; empty if no list fits."""

    def __call__(self, variable: Variable, *, held_out: bool) -> Sequence[str]: ...


@dataclass(frozen=True)
class CustomerSources:
    """Where the words and values of these customers come from."""

    phrasing: Phrasing
    corrections: Sequence[str]
    """Templates with a wrong value, `{other}`, before the right one, `{value}`."""
    draw_detour: DrawDetour
    real_values: RealValues
    question_words: QuestionWords = question_words


@dataclass(frozen=True)
class RobustnessBlock:
    """Customers of all kinds, and the reason for each kind that has none."""

    scenarios: tuple[Scenario, ...] = ()
    untested: Mapping[RobustnessKind, str] = field(default_factory=dict)

    @property
    def kinds(self) -> list[RobustnessKind]:
        """The kinds that are tested, or not tested for a reason."""
        played = {scenario.kind for scenario in self.scenarios}
        return [kind for kind in KINDS if kind in played or kind in self.untested]


def kinds_of(spec: ProcedureSpec) -> list[RobustnessKind]:
    """All kinds, without questions where the procedure has none."""
    return [kind for kind in KINDS if kind != "questions" or asks_questions(spec)]


def customers_by_kind(conforming: int) -> dict[RobustnessKind, int]:
    """Number of customers of each kind: four fifths of the `conforming` ones in all at most, two thirds without questions."""
    return {kind: min(most, int(conforming * _PER_CONFORMING[kind])) for kind, most in CUSTOMERS.items()}


def build_robustness(graph: Graph, settings: Evaluation, sources: CustomerSources) -> RobustnessBlock:
    """Customers of these settings, the same whenever they are built."""
    if not speaks_english(graph.spec):
        return RobustnessBlock((), dict.fromkeys(kinds_of(graph.spec), NOT_ENGLISH))
    scenarios, untested = list[Scenario](), dict[RobustnessKind, str]()
    counts = customers_by_kind(settings.scenarios)
    for kind in kinds_of(graph.spec):
        found = _customers(graph, kind, counts[kind], settings.seed, sources)
        if isinstance(found, str):
            untested[kind] = found
        else:
            scenarios += found
    return RobustnessBlock(tuple(scenarios), untested)


def _customers(graph: Graph, kind: RobustnessKind, count: int, seed: int, sources: CustomerSources) -> list[Scenario] | str:
    """Customers of one kind, or why there are none."""
    if count == 0:
        return "too few scenarios; raise evaluation.scenarios"
    scenarios: dict[str, Scenario] = {}
    for index in range(count):
        try:
            draw = _drawing(graph, kind, sources, index)
            drawn = _first_drawn(draw, f"evaluate/{seed}/robustness/{kind}/{index}", scenarios)
        except InvalidInputError as error:  # such as a node without examples
            return str(error)
        if drawn is None:
            return NO_PLACE[kind]
        scenarios[drawn.id] = drawn
    return [*scenarios.values()]


Draw = Callable[[random.Random], Scenario | None]


def _first_drawn(draw: Draw, seed: str, known: Mapping[str, Scenario]) -> Scenario | None:
    """The first customer that the draws give and that is not `known`; a known one if there is no other."""
    last = None
    for attempt in range(_TRIES):
        drawn = draw(random.Random(f"{seed}/{attempt}"))
        if drawn is not None and drawn.id not in known:
            return drawn
        last = drawn or last
    return last


def _drawing(graph: Graph, kind: RobustnessKind, sources: CustomerSources, index: int) -> Draw:
    """How customer number `index` of this kind is drawn."""
    customer = _Customer(graph, kind)
    if kind == "questions":
        name = question_in_turn(graph.spec, index)
        return lambda rng: customer.with_question(name, sources.question_words, rng)
    if kind == "corrections":
        return lambda rng: customer.with_correction(sources.corrections, rng)
    if kind == "phrasings":
        return lambda rng: customer.with_phrasing(sources.phrasing, rng)
    if kind == "realValues":
        return lambda rng: customer.with_real_values(sources.real_values, rng)
    return lambda rng: customer.with_detour(sources.draw_detour, rng)


def question_in_turn(spec: ProcedureSpec, index: int) -> str:
    """The question of customer number `index`: each question in turn, and one without an answer by every fifth customer."""
    known, number = [*questions_by_name(spec)], index // UNKNOWN_EVERY
    if not known or index % UNKNOWN_EVERY == UNKNOWN_EVERY - 1:
        return UNKNOWN_QUESTION
    return known[(index - number) % len(known)]


@dataclass(frozen=True)
class _Customer:
    """Draws customers of one kind."""

    graph: Graph
    kind: RobustnessKind

    def with_phrasing(self, phrasing: Phrasing, rng: random.Random) -> Scenario | None:
        """One who says everything in other words."""
        path, values = self._path_and_values(rng)
        opener = self._opener(rng)
        lines = {index: phrasing.line(node, taken, values, rng) for index, node, taken in self._turns(path)}
        return self._scenario(path, values, lines, opener and phrasing.opener(opener, rng)) if lines else None

    def with_real_values(self, real_values: RealValues, rng: random.Random) -> Scenario | None:
        """One whose open values are real ones."""
        path, values = self._path_and_values(rng)
        templates = self._templates(path, rng)
        said = {name for text in templates.values() for name in _variables_said(text)}
        real = {
            variable.name: rng.choice(found)
            for variable in self.graph.spec.variables
            if variable.name in said and variable.open and (found := real_values(variable, held_out=True))
        }
        return self._scenario(path, values | real, _rendered(templates, values | real), self._opener(rng)) if real else None

    def with_correction(self, corrections: Sequence[str], rng: random.Random) -> Scenario | None:
        """One who corrects a value in the same turn: that with the most values, so that several facts come at once."""
        path, values = self._path_and_values(rng)
        templates = self._templates(path, rng)
        lines = _rendered(templates, values)
        correctable = [index for index, text in templates.items() if self._correctable(text)]
        if not correctable:
            return None
        most = max(len(set(_variables_said(templates[index]))) for index in correctable)
        index = rng.choice([each for each in correctable if len(set(_variables_said(templates[each]))) == most])
        variable = rng.choice(self._correctable(templates[index]))
        wrong = self._other_value(variable, values[variable.name], rng)
        if wrong is None:
            return None
        corrected = rng.choice(corrections).format(other=wrong, value=values[variable.name])
        lines[index] = render(templates[index], values | {variable.name: corrected})
        return self._scenario(path, values, lines, self._opener(rng))

    def with_detour(self, draw_detour: DrawDetour, rng: random.Random) -> Scenario | None:
        """One with a turn that the flowchart has no place for. Without an opener, so that turns are counted on the path."""
        path, values = self._path_and_values(rng)
        detour = draw_detour(self.graph, path, values, _DETOURS[self.kind], rng, held_out=True)
        if detour is None or (self.kind == "afterEnd" and self.graph.nodes[path[-1]].role == "user"):
            return None
        base = self._scenario(path, values, _rendered(self._templates(path, rng), values), None)
        at = len(base.lines) if self.kind == "afterEnd" else detour.at
        lines = (*base.lines[:at], detour.customer, *base.lines[at:])
        return replace(base, lines=lines, detour_at=at, unlisted=detour.value, id=self._id(path, values, lines))

    def with_question(self, name: str, words: QuestionWords, rng: random.Random) -> Scenario | None:
        """One who asks a question in between. Without an opener, so that turns are counted on the path."""
        path, values = self._path_and_values(rng)
        closed = closed_nodes(self.graph.spec)[name]
        places = [position for position in asking_positions(self.graph, path) if path[position] not in closed]
        if not places:
            return None
        base = self._scenario(path, values, _rendered(self._templates(path, rng), values), None)
        at = turn_number(self.graph, path, rng.choice(places))
        lines = (*base.lines[:at], words(self.graph.spec, name, rng, held_out=True), *base.lines[at:])
        return replace(base, lines=lines, detour_at=at, asked=name, id=self._id(path, values, lines))

    def _path_and_values(self, rng: random.Random) -> tuple[Path, dict[str, str]]:
        path = sample_path(self.graph, rng)
        unseen = rng.random() < 0.5
        return path, fit_values_to_path(
            self.graph, path, sample_values(self.graph.spec.variables, rng, unseen=unseen, rich=True), rng
        )

    def _opener(self, rng: random.Random) -> str | None:
        openers = self.graph.spec.openers
        return rng.choice(openers) if openers and rng.random() < 0.5 else None

    def _turns(self, path: Path) -> list[tuple[int, str, str | None]]:
        """The customer's nodes: index on the path, id, and the node that follows."""
        pairs = enumerate(zip(path, [*path[1:], None], strict=True))
        return [(index, node, taken) for index, (node, taken) in pairs if self.graph.nodes[node].role == "user"]

    def _templates(self, path: Path, rng: random.Random) -> dict[int, str]:
        """An example for each of the customer's nodes, by index on the path."""
        return {index: rng.choice(example_templates(self.graph, node, taken)) for index, node, taken in self._turns(path)}

    def _correctable(self, template: str) -> list[Variable]:
        """Variables said once in this example, whose value no path depends on."""
        said = _variables_said(template)
        variables = [each for each in self.graph.spec.variables if said.count(each.name) == 1]
        return [each for each in variables if each.visibility == "customer" and each.name not in self.graph.facts]

    def _other_value(self, variable: Variable, value: str, rng: random.Random) -> str | None:
        drawn = (sample_values([variable], rng, unseen=False, rich=True)[variable.name] for _ in range(_TRIES))
        return next((other for other in drawn if other != value), None)

    def _scenario(self, path: Path, values: dict[str, str], lines: Mapping[int, str], opener: str | None) -> Scenario:
        """The customer with a line for each of its nodes, by index on the path."""
        following = [*path[1:], None]
        utterances = [
            Utterance(node, self.graph.nodes[node].speaker, lines.get(index, "…"), following[index])
            for index, node in enumerate(path)
        ]
        chat = chat_messages("", opener, utterances)[1:]
        said = tuple(message["content"] for message in chat if message["role"] == "user")
        return Scenario(
            self._id(path, values, said),
            False,
            path,
            values,
            opener,
            said,
            chat[0]["role"] == "assistant",
            context=context_lines(self.graph.spec, values),
            kind=self.kind,
        )

    def _id(self, path: Path, values: Mapping[str, str], lines: Sequence[str]) -> str:
        return short(sha256(["robustness", self.kind, path, sorted(values.items()), lines]), 12)


def _rendered(templates: Mapping[int, str], values: Mapping[str, str]) -> dict[int, str]:
    return {index: render(text, values) for index, text in templates.items()}


def _variables_said(template: str) -> list[str]:
    """Names of the variables in a template, in order, with repetitions."""
    return split(template)[1::2]
