"""Procedures are checked off the event loop: every one in time, none twice, and a process that is lost is replaced."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from subterra_api.digest import canonical
from subterra_api.v1alpha1.conditions import Reason
from subterra_operator.decide.procedure_check import CheckMemory, ProcedureCheck, check_text
from subterra_operator.work.check_process import LARGE_BYTES, CheckFailedError, ProcedureChecker
from subterra_testkit.worst_procedures import texts


@pytest.fixture
async def checker() -> AsyncIterator[ProcedureChecker]:
    made = ProcedureChecker(CheckMemory())
    yield made
    await made.close()


def large(number: int = 0) -> dict[str, Any]:
    return {**texts(LARGE_BYTES + 20_000), "systemPrompt": f"You help {number}."}


def crashing(code: str) -> ProcedureChecker:
    return ProcedureChecker(CheckMemory(), (sys.executable, "-c", f"import os, sys, signal; sys.stdin.readline(); {code}"))


async def test_a_large_procedure_is_checked_in_the_process_as_it_would_be_here(checker: ProcedureChecker) -> None:
    spec = large()
    assert len(canonical(spec)) > LARGE_BYTES
    await checker.check(canonical(spec))
    assert checker._process is not None
    assert checker._memory.get(canonical(spec)) == check_text(canonical(spec))


async def test_a_small_procedure_needs_no_process(checker: ProcedureChecker) -> None:
    spec = {"systemPrompt": "You help.", "start": "a", "nodes": []}
    await checker.check(canonical(spec))
    assert checker._process is None
    assert canonical(spec) in checker._memory


async def test_nothing_is_checked_twice() -> None:
    memory = CheckMemory()
    memory.put(canonical(large()), ProcedureCheck(reason=Reason.VALID))
    await ProcedureChecker(memory, ("/nothing",)).check(canonical(large()))


async def test_the_event_loop_goes_on_while_a_large_procedure_is_checked(checker: ProcedureChecker) -> None:
    ticks, check = 0, asyncio.create_task(checker.check(canonical(large())))
    while not check.done():
        ticks += 1
        await asyncio.sleep(0.005)
    assert ticks > 3


@pytest.mark.parametrize("code", ["os.kill(os.getpid(), signal.SIGXCPU)", "sys.exit(12)"])
async def test_a_procedure_that_takes_too_much_time_or_memory_is_too_large(code: str) -> None:
    checker = crashing(code)
    await checker.check(canonical(large()))
    found = checker._memory.get(canonical(large()))
    assert found.reason is Reason.TOO_LARGE
    assert "split it into two agents" in found.errors


async def test_a_process_that_was_killed_says_nothing_about_the_procedure_and_is_replaced(checker: ProcedureChecker) -> None:
    await checker.check(canonical(large()))
    assert checker._process
    checker._process.kill()
    with pytest.raises(CheckFailedError, match="exit code -9"):
        await checker.check(canonical(large(1)))
    await checker.check(canonical(large(1)))
    assert checker._memory.get(canonical(large(1))).reason is not Reason.TOO_LARGE


async def test_a_check_that_is_cancelled_leaves_no_answer_for_the_next_one(checker: ProcedureChecker) -> None:
    first = asyncio.create_task(checker.check(canonical(large())))
    await asyncio.sleep(0.05)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    bad = large() | {"start": "nowhere"}
    await checker.check(canonical(bad))
    assert "there is no node 'nowhere'" in checker._memory.get(canonical(bad)).errors


def test_the_memory_is_bounded_and_forgets_what_was_not_used() -> None:
    memory = CheckMemory(limit=600)
    for number in range(50):
        memory.put(b"%d" % number, ProcedureCheck(reason=Reason.VALID, summary="x" * 50))
        assert memory.get(b"0").summary
    kept = [number for number in range(50) if b"%d" % number in memory]
    assert 2 <= len(kept) < 10
    assert kept[0] == 0
    assert kept[-1] == 49


def test_the_memory_makes_the_second_look_cheap() -> None:
    memory, text = CheckMemory(), canonical(texts(512 * 1024))
    memory.get(text)
    began = time.process_time()
    memory.get(text)
    assert time.process_time() - began < 0.05
