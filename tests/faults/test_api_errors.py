"""The API server refuses, fails, does not answer, or its watches break: for a moment and for longer than any backoff."""

import time
from collections.abc import Iterable, Sequence

import pytest
from tests.faults.conftest import Lives
from tests.faults.life import RECOVERY_SECONDS, Life
from tests.faults.proxy import READS, WRITES, Fault

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1800)]
EXHAUSTIVE = pytest.mark.exhaustive
CODES = (401, 403, 404, 409, 410, 422, 429, 500)
VERBS = (*READS, *WRITES[:-1])  # nothing is deleted in the first ten minutes of an agent
LONG = 25.0
"""Seconds: by then the backoffs of queue and watches are at several seconds."""
FIRST_ACT = ("served",)
Plans = list[tuple[str, Sequence[Fault]]]


def moments(codes: Iterable[int]) -> Plans:
    """One life per code, in which every verb hears it twice."""
    return [(f"{code} twice per verb", [Fault("answer", (verb,), times=2, code=code) for verb in VERBS]) for code in codes]


def outages(codes: Iterable[int]) -> Plans:
    """One life per code, in which nobody hears anything else for a while, in the middle of the first run."""
    return [(f"{code} for all", [Fault("answer", nth=40, seconds=LONG, code=code)]) for code in codes]


def droughts() -> Plans:
    """A life for each verb and code, in which this verb hears nothing else for a while."""
    pairs = [(verb, code) for verb in VERBS for code in CODES]
    return [(f"{verb} {code}", [Fault("answer", (verb,), seconds=LONG, code=code)]) for verb, code in pairs]


WATCHED = ("procedures", "compileruns", "compiledagents", "jobs", "pods", "deployments", "services", "configmaps")
SILENCE: Plans = [
    ("nobody answers twice", [Fault("hang", (verb,), times=1) for verb in ("list", "watch", "status")]),
    ("nobody answers for long", [Fault("hang", nth=40, seconds=LONG)]),
    ("every watch is cut twice", [Fault("cut", ("watch",), kind, times=2) for kind in WATCHED]),
    ("every watch must list again", [Fault("gone", ("watch",), kind, times=2) for kind in WATCHED]),
    ("all watches fall silent", [Fault("mute", ("watch",), kind) for kind in WATCHED]),
]


SOME_CODES = (403, 429, 500)
OTHER_CODES = tuple(code for code in CODES if code not in SOME_CODES)


@pytest.mark.parametrize("codes", [pytest.param(SOME_CODES, id="some"), pytest.param(OTHER_CODES, id="others", marks=EXHAUSTIVE)])
async def test_a_moment_of_errors_changes_nothing(lives: Lives, codes: Sequence[int]) -> None:
    await lives.survive(moments(codes))


@pytest.mark.parametrize(
    "plans",
    [
        pytest.param([*outages((500,)), *SILENCE[-3:]], id="some"),
        pytest.param([*outages((401, 403)), *SILENCE[:-3]], id="others", marks=EXHAUSTIVE),
    ],
)
async def test_after_an_outage_all_goes_on_within_two_minutes(lives: Lives, plans: Plans) -> None:
    await lives.survive(plans, FIRST_ACT)


@EXHAUSTIVE
async def test_any_outage_of_any_verb_is_survived(lives: Lives) -> None:
    await lives.survive([*outages(set(CODES) - {401, 403, 500}), *droughts()], FIRST_ACT)


@EXHAUSTIVE
async def test_an_operator_whose_heartbeat_does_not_come_back_fails_liveness_within_two_minutes(lives: Lives) -> None:
    async def deaf(life: Life) -> None:
        async with life:
            started = time.monotonic()

            async def unhealthy() -> bool:
                return life.operator.unhealthy > 0

            await life.until(unhealthy, "its liveness fails")
            assert time.monotonic() - started < RECOVERY_SECONDS
            await life.served()
            await life.same(lives.reference.states[0])

    await lives.live([("a deaf operator", [Fault("answer", ("watch",), "configmaps", seconds=RECOVERY_SECONDS)])], deaf)
