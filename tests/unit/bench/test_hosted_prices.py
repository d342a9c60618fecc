"""The guide's table of hosted prices is what the command prints, and the paper's ratio comes out of it again."""

from decimal import Decimal

import pytest
from bench import hosted_prices

from subterra_testkit.repository import ROOT


def test_the_documented_table_is_what_the_command_prints() -> None:
    section = (ROOT / "docs/guides/costs-and-budgets.md").read_text().partition("## Compiled or hosted?")[2]
    assert [line for line in section.splitlines() if line.startswith(("| claude", "| gpt"))] == hosted_prices.lines()


def test_the_papers_ratio_is_that_of_its_model_without_a_cache() -> None:
    assert round(hosted_prices.row("claude-sonnet-4-5", cached=False).ratio) == hosted_prices.PAPERS_RATIO


@pytest.mark.parametrize(("name", "ratio"), [("claude-sonnet-4-5", "42"), ("claude-sonnet-5-5", "36"), ("gpt-6-luna", "1.4")])
def test_with_a_cache_and_later_prices_the_ratio_is_far_smaller(name: str, ratio: str) -> None:
    assert hosted_prices.row(name, cached=True).ratio == pytest.approx(Decimal(ratio), rel=Decimal("0.02"))


def test_half_idle_hardware_never_pays_against_the_cheapest_model() -> None:
    assert str(hosted_prices.row("gpt-6-luna", cached=True)).endswith("| never |")
