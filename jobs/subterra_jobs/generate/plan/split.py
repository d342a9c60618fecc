"""Which conversations are trained on and which are held out, so that nothing a conversation can take is only held out. Pure.

Held-out loss chooses the checkpoint. On steps that no training conversation has, it says nothing about what was trained, so a
scenario that training needs is not held out. Where that leaves no scenario to hold out, *copies* are: some conversations of a
scenario that others train on. They measure new words on a known path.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from subterra_core.procedure.graph import Path
from subterra_jobs.generate.plan.hash_random import unit_hash
from subterra_jobs.generate.plan.path_space import NodeNgram, ngrams_of


class Planned(Protocol):
    """What the split has to know of a conversation."""

    @property
    def id(self) -> str: ...
    @property
    def path(self) -> Path: ...
    @property
    def scenario(self) -> str: ...
    @property
    def held_out(self) -> bool: ...


@dataclass(frozen=True)
class Requirements:
    """What has to stay in training, as far as the number of conversations allows."""

    floor: int
    """Count of every n-gram that copies must leave."""
    shares: Mapping[str, float]
    """Share of the training conversations that copies must leave to each terminal."""


def scenarios_to_train(specs: Sequence[Planned], possible: Collection[NodeNgram]) -> set[str]:
    """Held-out scenarios that training needs, because no training conversation has some n-gram of ``possible`` on their paths."""
    missing = set(possible).difference(*(ngrams_of(spec.path) for spec in specs if not spec.held_out))
    brought: defaultdict[str, set[NodeNgram]] = defaultdict(set)
    for spec in specs:
        if spec.held_out:
            brought[spec.scenario] |= missing.intersection(ngrams_of(spec.path))
    needed = set[str]()
    while useful := {scenario: len(ngrams & missing) for scenario, ngrams in brought.items() if ngrams & missing}:
        needed.add(best := min(useful, key=lambda scenario: (-useful[scenario], scenario)))
        missing -= brought.pop(best)
    return needed


def crowding_scenarios(specs: Sequence[Planned], possible: Collection[NodeNgram]) -> set[str]:
    """All held-out scenarios, if some n-gram of ``possible`` is in no conversation: the plan has no room for any."""
    crowded_out = set(possible).difference(*(ngrams_of(spec.path) for spec in specs))
    return {spec.scenario for spec in specs if spec.held_out} if crowded_out else set()


def oversized_scenarios(specs: Sequence[Planned], quota: int) -> set[str]:
    """Held-out scenarios that alone have more conversations than are to be held out."""
    copies = Counter(spec.scenario for spec in specs if spec.held_out)
    return {scenario for scenario, count in copies.items() if count > quota}


def scenario_to_hold_out(specs: Sequence[Planned], quota: int) -> str | None:
    """The first scenario, by hash, that training can do without and that has at most ``quota`` conversations."""
    training = _Training(specs)
    if len(training.scenarios) < 2:
        return None
    fitting = (scenario for scenario in sorted(training.scenarios) if training.copies(scenario) <= quota)
    return next((scenario for scenario in fitting if not training.lost_without(scenario)), None)


def copies_to_hold_out(specs: Sequence[Planned], count: int, required: Requirements) -> set[str]:
    """Ids of up to ``count`` training conversations whose scenario stays in training.

    They leave what is required, or, where that allows none, a single one leaves everything trained.
    """
    training, chosen = _Training(specs), set[str]()
    for limit, requirement in ((count, required), (1, Requirements(1, {}))):
        for spec in sorted((spec for spec in specs if not spec.held_out), key=lambda spec: unit_hash("copy", spec.id)):
            if len(chosen) < limit and training.spares(spec, requirement):
                training.remove(spec)
                chosen.add(spec.id)
        if chosen:
            break
    return chosen


def least_missed_scenario(specs: Sequence[Planned]) -> str | None:
    """The scenario that training misses least: endings count most, then nodes, edges, pairs. `None` if there is only one."""
    training = _Training(specs)
    endings = {spec.path[-1:] for spec in specs}

    def loss(scenario: str) -> tuple[int, ...]:
        lost = training.lost_without(scenario)
        return sum(ngram in endings for ngram in lost), *(sum(len(ngram) == size for ngram in lost) for size in (1, 2, 3))

    return min(training.scenarios, key=lambda scenario: (loss(scenario), scenario)) if len(training.scenarios) > 1 else None


class _Training:
    """Counts of the training conversations, as some are taken away."""

    def __init__(self, specs: Iterable[Planned]) -> None:
        self.scenarios: defaultdict[str, list[Planned]] = defaultdict(list)
        self._ngrams, self._endings = Counter[NodeNgram](), Counter[str]()
        for spec in specs:
            if not spec.held_out:
                self.scenarios[spec.scenario].append(spec)
                self._ngrams.update(ngrams_of(spec.path))
                self._endings[spec.path[-1]] += 1

    def copies(self, scenario: str) -> int:
        """The conversations of a scenario."""
        return len(self.scenarios[scenario])

    def lost_without(self, scenario: str) -> list[NodeNgram]:
        """The n-grams that only this scenario has."""
        own = Counter(ngram for spec in self.scenarios[scenario] for ngram in ngrams_of(spec.path))
        return [ngram for ngram, count in own.items() if self._ngrams[ngram] == count]

    def spares(self, spec: Planned, required: Requirements) -> bool:
        """Whether the rest has what is required, and the scenario, without this conversation."""
        own, ending = Counter(ngrams_of(spec.path)), spec.path[-1]
        share = required.shares.get(ending, 0) * (self._endings.total() - 1)
        return (
            self.copies(spec.scenario) > 1
            and all(self._ngrams[ngram] - count >= required.floor for ngram, count in own.items())
            and self._endings[ending] - 1 >= share
        )

    def remove(self, spec: Planned) -> None:
        """Takes a conversation away."""
        self.scenarios[spec.scenario].remove(spec)
        self._ngrams.subtract(ngrams_of(spec.path))
        self._endings[spec.path[-1]] -= 1
