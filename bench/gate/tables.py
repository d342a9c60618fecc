"""The tables of docs/contributing/simulations.md and bench/README.md, as Markdown."""

import sys
from dataclasses import replace
from typing import Any

from bench.gate import bounds as bounds_choice
from bench.gate import leaks, other_worlds, rules, runs
from bench.gate.population import HIGH, LOW, MEANS, World, observed, shifted

from subterra_core.gate.attempts import FIRST_SHARE
from subterra_jobs.evaluate.judge.results import CRITERIA

WORLDS = tuple(World(sd=sd, latent=latent) for sd in (0.64, 0.84, 1.03) for latent in (LOW, HIGH))
SIZES = (50, 100, 200, 300, 500)
LAST = len(CRITERIA) - 1
REPEATS, MANY = 150, 600


def worlds() -> None:
    """Prints the properties of the simulated scores."""
    _head("sd", "correlation of criteria", "of the two versions", "of the two judges", "failures")
    for world in WORLDS:
        scores = observed(world)
        _row(world.sd, *(f"{scores[key]:.2f}" for key in ("criteria", "arms", "judges")), f"{scores['failures']:.1%}")


def power() -> dict[str, Any]:
    """Prints the pass rate of an equal candidate by sample size, share of challenges, and true difference."""
    _head("sd, correlation", *(f"n = {n}" for n in SIZES))
    found = {}
    for world in WORLDS:
        rates = [runs.pass_rate(1, replace(world, n=n), MEANS, MANY if n == World.n else REPEATS) for n in SIZES]
        found[world] = rates[SIZES.index(World.n)]
        _row(_name(world), *(f"{rate:.0%}" for rate in rates))
    _head("share of scenarios with a challenge", *(_name(world) for world in WORLDS))
    for share in (0.33, 0.67, 1.0):
        _row(f"{share:.0%}", *(f"{runs.pass_rate(2, replace(world, challenged=share), MEANS, REPEATS):.0%}" for world in WORLDS))
    _head("truly worse on all criteria by", *(_name(world) for world in WORLDS))
    for shift in (-0.05, -0.10, -0.15, -0.25):
        _row(f"{-shift:.2f}", *(f"{runs.pass_rate(3, world, shifted(shift), REPEATS):.1%}" for world in WORLDS))
    return {
        "power_at_equality": found[World()],
        "power_at_equality_from_to": [min(found.values()), max(found.values())],
    }


def spending() -> None:
    """Prints the pass rates of an equal candidate under several alpha-spending schedules."""
    _head("level of attempt k", *(f"k = {k}" for k in range(1, 5)), "passed by k = 2")
    schedules = {
        f"0.05 × {FIRST_SHARE} × {1 - FIRST_SHARE:.1f}^(k-1), ours": [0.04, 0.008, 0.0016, 0.00032],
        "0.05 × 2^-k": [0.025, 0.0125, 0.00625, 0.003125],
        "0.05 / (k (k+1))": [0.025, 0.05 / 6, 0.05 / 12, 0.05 / 20],
        "0.05 / 6, six attempts": [0.05 / 6] * 4,
    }
    rates = runs.pass_rates(4, World(), MEANS, MANY // 2, sorted({level for levels in schedules.values() for level in levels}))
    for name, levels in schedules.items():
        passed = [rates[level] for level in levels]
        _row(name, *(f"{rate:.0%}" for rate in passed), f"{1 - (1 - passed[0]) * (1 - passed[1]):.0%}")


def errors() -> dict[str, Any]:
    """Prints and returns false promotion rates."""
    _head("sd, correlation", *(f"{name} worse by the margin" for name in CRITERIA))
    worst: dict[World, dict[str, float]] = {}
    for i, world in enumerate(WORLDS):
        worst[world] = runs.worse_somewhere(100 + 10 * i, world, MANY if world == World() else MANY // 2)
        _row(_name(world), *(f"{rate:.1%}" for rate in worst[world].values()))
    return {
        "false_promotion": max(worst[World()].values()),
        "false_promotion_after_five_retries": runs.retried(20, World(), LAST, 2 * MANY),
        "creep": {
            "every criterion": runs.creep(30, World(), None, REPEATS, anchored=True),
            "one criterion": runs.creep(31, World(), LAST, MANY // 2, anchored=True),
            "one criterion, no anchor": runs.creep(32, World(), LAST, REPEATS // 4, anchored=False),
        },
        "biased_reference": {
            "untouched scenarios only": runs.biased(40, World(), MANY, untouched_only=True),
            "all scenarios": runs.biased(40, World(), REPEATS, untouched_only=False),
        },
        "given_up_on_the_way": {
            "equal": runs.given_up(50, World(), MEANS, REPEATS),
            "worse by 0.6": runs.given_up(51, World(), shifted(-0.6), REPEATS),
        },
    }


def promises() -> dict[str, Any]:
    """Prints how often each rule promotes in each world, and returns the gate's rates."""
    figures = {}
    worse, equal = (*leaks.WORSE, *other_worlds.WORSE), (*leaks.EQUAL, *other_worlds.EQUAL)
    for title, rows in (("what must not pass (aim: 5 % at most)", worse), ("what should pass", equal)):
        _head(title, "this gate", *rules.NAMES)
        for row in rows:
            rates = leaks.promoted(row, leaks.REPEATS)
            figures[row.name] = rates["gate"]
            _row(row.name, *(f"{rate:.1%}" for rate in rates.values()))
    return {"promoted": figures}


def bounds() -> None:
    """Prints how well each bound keeps its level."""
    _head("mean difference, truly at the margin", "level", "t", "bootstrap")
    for sd in (0.84, 1.03):
        found = bounds_choice.means(70, sd, World.n, 1, MANY // 2)
        _row(f"sd {sd}, n = {World.n}", "4.0%", *(f"{rate:.1%}" for rate in found.values()))
    _head("failures, truly 6 points more", "level", "Tango", "Newcombe", "Wald")
    for rate in (0.02, 0.055, 0.11):
        for n in (150, 300):
            found = bounds_choice.shares(71, rate, n, 1, 2 * MANY)
            _row(f"of {rate:.1%}, n = {n}", "4.0%", *(f"{share:.1%}" for share in found.values()))


def _name(world: World) -> str:
    return f"{world.sd}, {'0.25' if world.latent == LOW else '0.5'}"


def _head(*cells: object) -> None:
    sys.stdout.write("\n")
    _row(*cells)
    _row(*("---" for _ in cells))


def _row(*cells: object) -> None:
    _write(f"| {' | '.join(str(cell) for cell in cells)} |")


def _write(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
