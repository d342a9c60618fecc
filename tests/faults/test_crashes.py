"""The operator dies, or loses the reply, after every single write of a full life.

Writes are numbered by the undisturbed life: "the third status of CompiledAgent travel". After a crash there may be fewer of them,
since one status then tells of two steps; what a life with many faults did not meet is met in a life of its own.
"""

from collections.abc import Sequence
from typing import Literal

import pytest
from tests.faults.conftest import Lives
from tests.faults.life import Reference
from tests.faults.proxy import Fault

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1800)]
SIDE_BY_SIDE = 4
MERGED = 2
"""Statuses of the undisturbed life that another one may tell in an earlier write."""


def after_every_write(action: Literal["crash", "lose"], reference: Reference) -> list[Fault]:
    """A fault for each write of the undisturbed life."""
    return [Fault(action, (request.verb,), request.kind, request.name, nth=before + 1) for request, before in reference.writes]


def dealt(faults: Sequence[Fault], lives: int) -> list[tuple[str, Sequence[Fault]]]:
    """The faults as plans of so many lives: neighbours are never in one life, so that each is met on its own."""
    return [(f"{faults[0].action} after writes {first}, {first + lives} and so on", faults[first::lives]) for first in range(lives)]


def alone(faults: Sequence[Fault]) -> list[tuple[str, Sequence[Fault]]]:
    """A life for each fault."""
    return [(str(fault), [fault]) for fault in faults]


def assert_hit(faults: Sequence[Fault], met: Sequence[Fault]) -> None:
    """Every write was hit, but for the last statuses, of which there may be fewer."""
    missed = [fault for fault in faults if fault not in met]
    assert len(missed) <= MERGED, f"these writes were never hit: {[str(fault) for fault in missed]}"
    assert all(fault.verbs == ("status",) for fault in missed), f"these writes were never hit: {[str(fault) for fault in missed]}"


async def test_it_dies_after_any_write_and_ends_in_the_same_state(lives: Lives, reference: Reference) -> None:
    faults = after_every_write("crash", reference)
    met = await lives.survive(dealt(faults, SIDE_BY_SIDE))
    met += await lives.survive(alone([fault for fault in faults if fault not in met]))
    assert_hit(faults, met)


async def test_it_loses_any_reply_and_ends_in_the_same_state(lives: Lives, reference: Reference) -> None:
    faults = after_every_write("lose", reference)
    met = await lives.survive(dealt(faults, SIDE_BY_SIDE))
    met += await lives.survive(alone([fault for fault in faults if fault not in met]))
    assert_hit(faults, met)
