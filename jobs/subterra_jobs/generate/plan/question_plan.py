"""Which planned conversations have questions in between, and at which turns. Pure.

Questions change no path, value or side of the split, so they are spread over the conversations that are planned anyway: each by its
percent, but in `LEAST` training conversations at least, as far as there is room. Which conversations get a question is a hash of
both names, and its turns are those of the nodes at which it was asked least. A procedure without questions has the plan that it had
before they existed.
"""

from collections import Counter, defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from subterra_core.procedure.graph import Graph
from subterra_core.procedure.otherwise import UNKNOWN_QUESTION, question_percents
from subterra_jobs.dialogue.phrasing.language import speaks_english
from subterra_jobs.dialogue.questions import AskedQuestion, asking_positions, closed_nodes
from subterra_jobs.generate.plan.conversation_spec import ConversationSpec
from subterra_jobs.generate.plan.hash_random import unit_hash

LEAST = 6
"""Training conversations in which each question is asked at least, as far as the number of conversations allows."""
PER_CONVERSATION = 3
"""Questions that one customer asks at most."""
LARGEST_SHARE = 0.5
"""Share of the conversations with questions, at most: the others show the procedure as it is drawn."""
_MEAN_QUESTIONS = 1.5
"""Questions of a customer who asks any, on average, where percents would ask for more."""
_WINDOW = 12
"""Conversations looked at, for the turn where a question was asked least."""


def with_questions(graph: Graph, specs: list[ConversationSpec]) -> list[ConversationSpec]:
    """The plan with questions; those of the pilot stay as they are, since their words are audited."""
    percents = _percents(graph)
    if not percents:
        return specs
    asked: dict[str, tuple[AskedQuestion, ...]] = {}
    for held_out in (False, True):
        side = [spec for spec in specs if spec.held_out == held_out]
        asked |= _Spreading(graph, side).spread(_wanted(percents, len(side), least=0 if held_out else LEAST))
    return [replace(spec, asked=asked[spec.id]) if spec.id in asked else spec for spec in specs]


def question_counts(graph: Graph, specs: Sequence[ConversationSpec]) -> dict[str, int]:
    """In how many of these conversations each question is asked; empty for a procedure without questions."""
    counts = Counter(each.name for spec in specs for each in spec.asked)
    return {name: counts[name] for name in _percents(graph)}


def _percents(graph: Graph) -> Mapping[str, int]:
    """The percent of each question; what has no answer is asked in English, so only where the procedure speaks it."""
    found = question_percents(graph.spec)
    return found if speaks_english(graph.spec) else {name: found[name] for name in found if name != UNKNOWN_QUESTION}


def _wanted(percents: Mapping[str, int], conversations: int, *, least: int) -> dict[str, int]:
    """In how many conversations each question is to be asked; percents are scaled down where they would fill too many."""
    total = sum(percents.values()) / 100
    scale = min(1.0, LARGEST_SHARE * _MEAN_QUESTIONS / total)
    return {name: max(least, round(percent / 100 * scale * conversations)) for name, percent in percents.items()}


@dataclass(frozen=True)
class _Place:
    """A turn of a conversation at which a question could be asked."""

    spec: ConversationSpec
    position: int

    @property
    def node(self) -> str:
        return self.spec.path[self.position]


class _Spreading:
    """Spreads questions over the conversations of one side of the split."""

    def __init__(self, graph: Graph, specs: Sequence[ConversationSpec]) -> None:
        self._closed = closed_nodes(graph.spec)
        free = sorted((spec for spec in specs if not spec.audited), key=lambda spec: unit_hash("questions", spec.id))
        self._specs = free[: int(LARGEST_SHARE * len(specs))]
        self._turns = {spec.id: asking_positions(graph, spec.path) for spec in self._specs}
        self._waiting: dict[str, list[deque[ConversationSpec]]] = {}
        self._asked: defaultdict[str, list[AskedQuestion]] = defaultdict(list)
        self._at_node: Counter[tuple[str, str]] = Counter()

    def spread(self, wanted: Mapping[str, int]) -> dict[str, tuple[AskedQuestion, ...]]:
        """The questions of each conversation that has any, in the order of its turns; each once before any is asked twice."""
        self._waiting = {name: self._in_random_order(name) for name in wanted}
        for number in range(max(wanted.values(), default=0)):
            for name in (name for name, count in wanted.items() if number < count):
                self._ask(name)
        return {name: tuple(sorted(asked, key=lambda each: each.position)) for name, asked in self._asked.items()}

    def _in_random_order(self, name: str) -> list[deque[ConversationSpec]]:
        """The conversations that could have the question, once for each number of questions that they have already."""
        order = sorted(self._specs, key=lambda spec: unit_hash("asks", name, spec.id))
        return [deque(order) for _ in range(PER_CONVERSATION)]

    def _ask(self, name: str) -> None:
        """Adds the question to one of the next conversations that have room for it, if there is one."""
        for load in range(PER_CONVERSATION):
            if found := [place for spec in self._next(name, load) for place in self._places(name, spec)]:
                break
        else:
            return
        place = min(found, key=lambda each: (self._at_node[name, each.node], unit_hash("turn", name, each.spec.id, each.position)))
        self._asked[place.spec.id].append(AskedQuestion(name, place.position))
        self._at_node[name, place.node] += 1

    def _next(self, name: str, load: int) -> list[ConversationSpec]:
        """The next conversations, `_WINDOW` at most, that have `load` questions and room for this one."""
        waiting, found = self._waiting[name][load], list[ConversationSpec]()
        while waiting and len(found) < _WINDOW:
            spec = waiting.popleft()
            asked = self._asked.get(spec.id, ())
            if len(asked) == load and all(each.name != name for each in asked) and self._places(name, spec):
                found.append(spec)  # one that is not found now has too many questions already, or no room
        waiting.extendleft(reversed(found))
        return found

    def _places(self, name: str, spec: ConversationSpec) -> list[_Place]:
        closed, taken = self._closed[name], {each.position for each in self._asked.get(spec.id, ())}
        return [_Place(spec, at) for at in self._turns[spec.id] if at not in taken and spec.path[at] not in closed]
