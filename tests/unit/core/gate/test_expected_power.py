"""The chance of an equal candidate that `subterra plan` names is that of the simulated gate."""

import pytest

from subterra_api.v1alpha1.compilerun import GatePolicy
from subterra_core.gate.expected_power import AIM, expected_power, scenarios_for


@pytest.mark.parametrize(
    ("scenarios", "attempt", "simulated"),
    [
        (100, 1, 0.10),
        (200, 1, 0.57),
        (300, 1, 0.76),
        (350, 1, 0.865),
        (400, 1, 0.91),
        (500, 1, 0.96),
        (300, 2, 0.433),
        (300, 3, 0.172),
        (500, 2, 0.818),
        (1000, 5, 0.867),
    ],
)
def test_it_promises_hardly_more_than_bench_gate_found(scenarios: int, attempt: int, simulated: float) -> None:
    """The figures are those of bench/README.md and docs/contributing/simulations.md."""
    assert simulated - 0.12 < expected_power(GatePolicy(), scenarios, attempt) < simulated + 0.05


def test_wider_margins_and_more_scenarios_help_and_later_attempts_do_not() -> None:
    usual = expected_power(GatePolicy(), 300)
    assert expected_power(GatePolicy(failure_margin=0.08), 300) > usual
    assert expected_power(GatePolicy(), 310) > usual
    assert expected_power(GatePolicy(), 300, attempt=2) < usual


def test_the_number_that_is_named_reaches_the_aim_and_ten_less_do_not() -> None:
    needed = scenarios_for(GatePolicy())
    assert needed is not None
    assert expected_power(GatePolicy(), needed - 10) < AIM <= expected_power(GatePolicy(), needed)
    assert 300 < needed <= 350


def test_below_the_minimum_nothing_passes_and_some_margins_are_out_of_reach() -> None:
    assert expected_power(GatePolicy(min_scenarios=400), 300) == 0
    assert scenarios_for(GatePolicy(failure_margin=0.001)) is None
