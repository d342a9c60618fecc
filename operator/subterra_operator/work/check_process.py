"""Checks procedures without holding up the event loop: small ones in a thread, large ones in a process of their own.

Why not always a thread: it takes turns with the event loop, but not while it is in one long call of C, such as the parsing of half
a megabyte. With large procedures checked one after the other on two busy cores, the 99th percentile of /healthz was 424 ms with
a thread, 44 ms with a process. Why not always a process: it needs 45 MiB of its own and a second of processor time to start.
So it is started for the first large procedure and ends after a minute without one: nothing of it is left at rest.

The process has a lower priority than the operator. It may use `CPU_SECONDS` and `MEMORY_BYTES` for a procedure, many times what the
worst one takes; one that needs more is too large to check. Time is counted in processor time, so a busy node changes no result.
"""

import asyncio
import logging
import os
import resource
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Iterable
from typing import BinaryIO

from subterra_api.v1alpha1.conditions import Reason
from subterra_operator.decide.procedure_check import MEMORY, CheckMemory, ProcedureCheck, check_text

log = logging.getLogger("subterra")

LARGE_BYTES = 64 * 1024
"""Specs from this size on are checked in the process."""
CPU_SECONDS = 30
MEMORY_BYTES = 512 * 1024 * 1024
IDLE_SECONDS = 60.0
"""The process ends after this time without a request."""
OUT_OF_MEMORY = 12
"""Its exit code after a MemoryError."""
_LINE_LIMIT = 1024 * 1024
_OVER = {-signal.SIGXCPU: f"{CPU_SECONDS} s of processor time", OUT_OF_MEMORY: f"{MEMORY_BYTES // 1024**2} MiB of memory"}


class CheckFailedError(Exception):
    """The process ended for a reason that is not the procedure's."""


class ProcedureChecker:
    """Fills a memory with checks. One large procedure at a time; small ones do not wait for it."""

    def __init__(self, memory: CheckMemory = MEMORY, command: Iterable[str] = (sys.executable, "-m", __name__)) -> None:
        self._memory, self._command = memory, tuple(command)
        self._process: Process | None = None
        self._turn = asyncio.Lock()
        self._stopping: asyncio.TimerHandle | None = None

    async def check(self, text: bytes) -> None:
        """Checks the procedure of a `check_request`, unless the memory has it as it is. Raises CheckFailedError."""
        if text in self._memory:
            return
        if len(text) < LARGE_BYTES:
            self._memory.put(text, await asyncio.to_thread(check_text, text))
            return
        async with self._turn:
            if text not in self._memory:
                self._memory.put(text, await self._in_process(text))

    async def run(self) -> None:
        """Waits until cancelled, then ends the process."""
        try:
            await asyncio.Event().wait()
        finally:
            await self.close()

    async def close(self) -> None:
        """Ends the process, if there is one, and waits for its end."""
        process = self._process
        self._stop()
        if process:
            await process.wait()

    def _stop(self) -> None:
        if self._stopping:
            self._stopping.cancel()
        if self._process and self._process.stdin:
            self._process.stdin.close()
            if self._process.returncode is None:
                self._process.kill()
        self._process = None

    async def _in_process(self, text: bytes) -> ProcedureCheck:
        if self._stopping:
            self._stopping.cancel()
        try:
            process = self._process = self._process or await self._start()
            line = await _answer(process, text)
            result = ProcedureCheck.model_validate_json(line) if line else _over_limit(await process.wait())
        except BaseException:
            self._stop()  # half an exchange is left in the pipes
            raise
        if not line:
            self._stop()
        self._stopping = asyncio.get_running_loop().call_later(IDLE_SECONDS, self._stop)
        return result

    async def _start(self) -> Process:
        log.debug("starting a process that checks large procedures")
        return await asyncio.create_subprocess_exec(*self._command, stdin=PIPE, stdout=PIPE, limit=_LINE_LIMIT)


async def _answer(process: Process, text: bytes) -> bytes:
    """The response to one request; empty if the process has ended."""
    assert process.stdin and process.stdout
    try:
        process.stdin.write(text + b"\n")
        await process.stdin.drain()
    except ConnectionError:
        return b""
    return await process.stdout.readline()


def _over_limit(code: int) -> ProcedureCheck:
    """The check of a procedure that ended the process. Raises CheckFailedError if it was not the procedure."""
    if code not in _OVER:
        raise CheckFailedError(f"the process that checks large procedures ended with exit code {code}")
    errors = f"the procedure: is too large to check: it took more than {_OVER[code]}; split it into two agents"
    return ProcedureCheck(reason=Reason.TOO_LARGE, errors=errors)


def serve(requests: BinaryIO, responses: BinaryIO) -> None:
    """Answers each line, a `check_request`, with a line, the check in JSON, until there are no more."""
    for line in requests:
        used = resource.getrusage(resource.RUSAGE_SELF)
        resource.setrlimit(resource.RLIMIT_CPU, (int(used.ru_utime + used.ru_stime) + 1 + CPU_SECONDS, resource.RLIM_INFINITY))
        responses.write(check_text(line).model_dump_json(by_alias=True, exclude_none=True).encode() + b"\n")
        responses.flush()


def main() -> None:
    """Runs until standard input ends, as it does when the operator does."""
    os.nice(10)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to the operator too, which then ends this process
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, resource.RLIM_INFINITY))
    try:
        serve(sys.stdin.buffer, sys.stdout.buffer)
    except MemoryError:
        sys.exit(OUT_OF_MEMORY)


if __name__ == "__main__":
    main()
