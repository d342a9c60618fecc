"""Whether a judge finds the failures that people find, and only those. Pure.

The sheet over-represents conversations that a judge calls a failure, so the plain share of people's failures that the judge found
would flatter it: those it missed are among the many others, of which few were drawn. Each group is therefore counted for as many
conversations as it has in the evaluation.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from subterra_core.judge_certification.exact_bounds import lower_bound, upper_bound

FAILURE = 3
"""Highest Task Success of a failed conversation, of people's as of a judge's."""
LEAST_BOUND = 0.8
"""Least lower bound of sensitivity and of specificity of a certified judge."""
ALPHA = 0.05
"""One-sided level of each of the two bounds."""


@dataclass(frozen=True)
class Opinion:
    """Task Success of one conversation."""

    people: float
    judge: float
    drawn_as_failure: bool
    """Whether it was drawn from those that any judge calls a failure."""

    @property
    def failed(self) -> bool:
        """Whether people call it a failure."""
        return self.people <= FAILURE

    @property
    def found(self) -> bool:
        """Whether the judge calls it a failure."""
        return self.judge <= FAILURE


@dataclass(frozen=True)
class Population:
    """Conversations of the evaluation that any judge calls a failure, and the others."""

    flagged: int
    others: int
    judges: int = 1
    """Judges of the evaluation. One who is alone calls all of `flagged` a failure."""


@dataclass(frozen=True)
class Bounded:
    """An estimated share with its lower bound; `share` is `None` if no conversation tells of it."""

    share: float | None
    low: float
    hits: int
    """Labelled conversations that count for the share, of `of`, without weights."""
    of: int


@dataclass(frozen=True)
class Certificate:
    """How well a judge tells failures: `sensitivity` is the share of people's failures that it finds, `specificity` the share of
    the others that it leaves alone.
    """

    sensitivity: Bounded
    specificity: Bounded

    def certified(self, least_sensitivity: float, least_specificity: float) -> bool:
        """Whether both lower bounds reach the least that is asked."""
        return self.sensitivity.low >= least_sensitivity and self.specificity.low >= least_specificity


def certify(opinions: Sequence[Opinion], population: Population | None, alpha: float = ALPHA) -> Certificate:
    """The judge's certificate. Without a `population` the conversations are a simple random sample."""
    failed, fine = [one for one in opinions if one.failed], [one for one in opinions if not one.failed]
    found, left = sum(one.found for one in failed), sum(not one.found for one in fine)
    if population is None:
        shares = (found / len(failed) if failed else None, left / len(fine) if fine else None)
        lows = (lower_bound(found, len(failed), alpha), lower_bound(left, len(fine), alpha))
    else:
        groups = _Groups.count(opinions, population)
        shares, lows = groups.shares(), groups.lower_bounds(alpha)
    return Certificate(Bounded(shares[0], lows[0], found, len(failed)), Bounded(shares[1], lows[1], left, len(fine)))


@dataclass(frozen=True)
class _Groups:
    """Counts by group; the judge calls none of `others` a failure, since they were drawn from those that no judge does."""

    population: Population
    flagged: int
    failed: int
    """Of `flagged`, people's failures; `found` of them are the judge's, too."""
    found: int
    false_alarms: int
    """Of `flagged`, the judge's failures that are not people's."""
    others: int
    missed: int
    """Of `others`, people's failures."""

    @classmethod
    def count(cls, opinions: Sequence[Opinion], population: Population) -> "_Groups":
        flagged = [one for one in opinions if one.drawn_as_failure]
        failed = [one for one in flagged if one.failed]
        return cls(
            population,
            len(flagged),
            len(failed),
            sum(one.found for one in failed),
            sum(one.found and not one.failed for one in flagged),
            len(opinions) - len(flagged),
            sum(one.failed and not one.drawn_as_failure for one in opinions),
        )

    def shares(self) -> tuple[float | None, float | None]:
        """Sensitivity and specificity by weight."""
        weight = self.population.flagged / self.flagged if self.flagged else 0.0
        other = self.population.others / self.others if self.others else 0.0
        failed = weight * self.failed + other * self.missed
        fine = weight * (self.flagged - self.failed) + other * (self.others - self.missed)
        return (
            weight * self.found / failed if failed else None,
            1 - weight * self.false_alarms / fine if fine else None,
        )

    def lower_bounds(self, alpha: float) -> tuple[float, float]:
        """Bounds of sensitivity and specificity, from exact bounds of their parts, which miss with `alpha` together (Bonferroni).

        Both shares are monotone in each part: how many conversations are flagged, people's failures among them, those among the
        others, and how often this judge is among those who flagged one. A single judge always is.
        """
        alone, played = self.population.judges == 1, self.population.flagged + self.population.others
        level = alpha / (3 if alone else 4)
        few = lower_bound(self.population.flagged, played, level)
        many = upper_bound(self.population.flagged, played, level)
        failed = lower_bound(self.failed, self.flagged, level)
        missed = upper_bound(self.missed, self.others, level)
        found = 1.0 if alone else lower_bound(self.found, self.failed, level)
        alarms = 1.0 if alone else upper_bound(self.false_alarms, self.flagged - self.failed, level)
        all_failed = few * failed + (1 - few) * missed
        all_fine = many * (1 - failed) + (1 - many) * (1 - missed)
        return (
            few * failed * found / all_failed if all_failed else 0.0,
            1 - many * (1 - failed) * alarms / all_fine if all_fine else 0.0,
        )
