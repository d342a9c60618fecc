"""The administrator's cap on a namespace: all agents and runs in it pay from one purse."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from tests.unit.jobs.spending.paying_runs import PayingRuns, pay

from subterra_api.job_contract.messages import Budget, RunIdentity
from subterra_jobs.errors import BudgetExceededError
from subterra_jobs.spending.budget import BudgetGuard

NOON = datetime(2026, 11, 29, 12, 0, tzinfo=UTC)


class Namespace(PayingRuns):
    """Agents and runs of the namespace `team-a`."""

    def guard(self, run: str, agent: str | None = None, *, namespace_cap: str | None = None, **caps: str) -> BudgetGuard:
        identity = RunIdentity(name=run, namespace="team-a", uid=f"uid-{run}", agent=agent)
        return self.guard_of(identity, Budget.model_validate({**caps, "maxUSDPerNamespacePer30Days": namespace_cap}))


@pytest.fixture
def team(store_uri: str) -> Namespace:
    return Namespace(store_uri, NOON)


async def test_agents_and_runs_without_one_pay_from_the_same_cap_and_the_refusal_says_whose_it_is(team: Namespace) -> None:
    await pay(team.guard("travel-1", "travel"), "0.5")
    await pay(team.guard("travel-2", "travel-2"), "0.2")
    await pay(team.guard("by-hand"), "0.2")
    guard = team.guard("zoom-1", "zoom", namespace_cap="1", maxUSD="5", maxUSDPer30Days="50")
    await pay(guard, "0.1")
    with pytest.raises(BudgetExceededError) as refused:
        await guard.reserve(Decimal("0.2"))
    assert str(refused.value) == (
        "the cap per 30 days is $1: namespace team-a paid $1 since 2026-11-29 12:00 UTC, $0 is left, and the next call could cost "
        "$0.2; raise the cap of namespace team-a, which is the administrator's (budgets in the chart's values), or wait until "
        "2026-12-29 12:01 UTC, when enough of it is older than 30 days"
    )


async def test_two_agents_that_pay_in_turns_never_exceed_it(team: Namespace) -> None:
    one, two = team.guard("a-1", "a", namespace_cap="1"), team.guard("b-1", "b", namespace_cap="1")
    for _ in range(7):
        for guard in (one, two):
            await pay(guard, "0.07")
            team.wait(seconds=1)
    for guard in (one, two):
        with pytest.raises(BudgetExceededError, match=r"namespace team-a paid \$0\.98 since"):
            await pay(guard, "0.07")


async def test_what_is_older_than_30_days_is_free_again_although_the_run_has_a_cap_of_its_own(team: Namespace) -> None:
    await pay(team.guard("a-1", "a"), "0.9")
    guard = team.guard("b-1", "b", namespace_cap="1", maxUSD="5")
    with pytest.raises(BudgetExceededError, match="namespace team-a"):
        await guard.reserve(Decimal("0.2"))
    team.wait(days=30)
    await pay(guard, "0.2")


async def test_open_batches_of_other_agents_count_until_they_have_ended(team: Namespace) -> None:
    theirs, run = team.guard("a-1", "a"), RunIdentity(name="a-1", namespace="team-a", uid="uid-a-1", agent="a")
    await theirs.reserve_batch("b", [Decimal("0.4")] * 2)
    guard = team.guard("b-1", "b", namespace_cap="1")
    with pytest.raises(BudgetExceededError, match=r"namespace team-a paid \$0\.8 since"):
        await guard.reserve(Decimal("0.4"))
    await theirs.end_batch("b", run, [{"usd": "0.1", "tokens": 7}])
    team.wait(seconds=1)
    await pay(guard, "0.4")


async def test_a_namespace_with_a_cap_of_nothing_pays_nothing(team: Namespace) -> None:
    guard = team.guard("a-1", "a", namespace_cap="0")
    exceeded = await guard.cap_exceeded(Decimal("0.000001"))
    assert exceeded is not None and "the cap per 30 days is $0: namespace team-a paid $0, $0 is left" in str(exceeded)
    assert str(exceeded).endswith("(budgets in the chart's values)"), "no waiting helps"


async def test_the_caps_of_run_and_agent_are_named_before_the_administrators(team: Namespace) -> None:
    guard = team.guard("a-1", "a", namespace_cap="1", maxUSD="1")
    await pay(guard, "1")
    with pytest.raises(BudgetExceededError, match=r"raise spec\.budget\.maxUSDPerRun of agent a$"):
        await guard.reserve(Decimal("0.1"))
