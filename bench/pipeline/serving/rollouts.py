"""Versions that come and go under clients who keep their connections open: real vLLM servers behind a Service without a cluster."""

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from subterra_api.v1alpha1.compilerun import BaseModelKind
from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_cli.chat.load.load_figures import LoadResult, percentile
from subterra_cli.chat.load.load_run import LoadRun, customers
from subterra_operator.specs.in_vllm.drainable_vllm import IDLE_PATH
from subterra_operator.specs.vllm_container import DRAIN_SECONDS, QUIET_SECONDS, drain_command
from subterra_testkit.servers.serving.pod_end import end_container
from subterra_testkit.servers.serving.tcp_service import TcpService
from subterra_testkit.servers.vllm_server import vllm_process

NAME = "agent"
LATE_SECONDS = 1.0
"""For how long proxies still send requests to a pod that leaves."""
GRACE_SECONDS = DRAIN_SECONDS + 30


@dataclass(frozen=True)
class Served:
    """A model directory with what has to be known of it. `max_tokens` bounds replies of a model that does not end them."""

    model: Path
    kind: BaseModelKind
    spec: ProcedureSpec
    max_tokens: int | None


class Pods:
    """vLLM servers that start and end while clients talk."""

    def __init__(self, served: Served, folder: Path, quiet: float) -> None:
        self._served, self._folder, self._quiet, self._started = served, folder, quiet, 0
        self._stack, self._processes = ExitStack(), dict[int, Any]()

    async def start(self) -> int:
        """The port of a further one, once it is ready."""
        self._started += 1
        work = self._folder / str(self._started)
        limit = ("--override-generation-config", json.dumps({"temperature": 0, "max_tokens": self._served.max_tokens or 2048}))
        server = vllm_process(self._served.model, NAME, work, 1024, *limit, kind=self._served.kind)
        process, port = await asyncio.to_thread(self._stack.enter_context, server)
        self._processes[port] = process
        return port

    async def end(self, port: int) -> float:
        """Ends one as the kubelet does, with the operator's hook; returns how many seconds it took."""
        hook = drain_command(f"http://127.0.0.1:{port}{IDLE_PATH}", self._quiet)
        return await end_container(self._processes[port], hook, GRACE_SECONDS)

    def kill(self) -> None:
        """Ends those that are left."""
        self._stack.close()


@asynccontextmanager
async def pods(served: Served, folder: Path, quiet: float = QUIET_SECONDS) -> AsyncIterator[Pods]:
    """Pods of a model; those that run at the end are killed."""
    made = Pods(served, folder, quiet)
    try:
        yield made
    finally:
        made.kill()


@dataclass
class Observed:
    """What was seen of the rollouts, in seconds."""

    handovers: list[float] = field(default_factory=list)
    """From the move of traffic to the last request that the former version got."""
    rollbacks: list[float] = field(default_factory=list)
    """From the move back to the first token of a version that is still warm."""
    drains: list[float] = field(default_factory=list)
    """From the end of a pod's life, as the kubelet sees it, to its last process."""
    seen: LoadResult | None = None

    def figures(self) -> dict[str, Any]:
        """For the last line of the bench."""
        assert self.seen is not None
        took = [request.seconds for request in self.seen.requests if request.error is None]
        return {
            "requests": len(self.seen.requests),
            "failed_requests": len(self.seen.requests) - len(took),
            "errors": sorted({request.error for request in self.seen.requests if request.error}),
            "slowest_by_p99": round(max(took) / percentile(took, 99), 2),
            "handover_seconds": round(max(self.handovers, default=0.0), 2),
            "rollback_seconds": round(max(self.rollbacks, default=0.0), 2),
            "drain_seconds": round(max(self.drains, default=0.0), 1),
        }


class Clients:
    """Clients who talk without a pause, each over connections of its own, until they are told to stop."""

    def __init__(self, url: str, served: Served, number: int) -> None:
        self._number, self._talk = number, True
        self._run = LoadRun(url, NAME, served.spec, customers(served.spec, 100, 1), max_tokens=served.max_tokens)
        self._task = asyncio.create_task(self._run.closed_loop(number, lambda: self._talk))

    async def settle(self) -> None:
        """Returns when each has had two further replies on average."""
        wanted = len(self._run.requests) + 2 * self._number
        while len(self._run.requests) < wanted:  # noqa: ASYNC110  the clients tell nobody
            await asyncio.sleep(0.05)

    def so_far(self) -> str:
        """How many requests were made, and how many failed."""
        failed = sum(request.error is not None for request in self._run.requests)
        return f"{len(self._run.requests)} requests, {failed} failed"

    async def stop(self) -> LoadResult:
        """What they saw."""
        self._talk = False
        return await self._task


async def roll_out(served: Served, folder: Path, clients: int, rounds: int, quiet: float = QUIET_SECONDS) -> Observed:
    """Each round moves the traffic to a new version and back, and ends the new one. Last, one of two pods is drained."""
    found = Observed()
    async with AsyncExitStack() as stack:
        fleet = await stack.enter_async_context(pods(served, folder, quiet))
        first = await fleet.start()
        service = TcpService([first])
        url = await stack.enter_async_context(service.running())
        talking = Clients(url, served, clients)
        await talking.settle()
        for _ in range(rounds):
            second = await fleet.start()
            found.handovers.append(await _move(service, talking, first, second))
            moved = time.monotonic()
            found.handovers.append(await _move(service, talking, second, first))
            found.rollbacks.append(min(at for at in service.answered[first] if at > moved) - moved)
            found.drains.append(await fleet.end(second))
            _tell(found, talking)
        found.drains.append(await _drain_one_of_two(service, fleet, talking, first))
        await talking.settle()
        found.seen = await talking.stop()
    return found


def _tell(found: Observed, talking: Clients) -> None:
    """A line on standard error: a round takes minutes where the processors are busy."""
    last = [f"{times[-1]:.2f} s" for times in (found.handovers, found.rollbacks, found.drains)]
    sys.stderr.write(f"{talking.so_far()}; last handover {last[0]}, back after {last[1]}, drained in {last[2]}\n")


async def _move(service: TcpService, talking: Clients, former: int, to: int) -> float:
    """Moves the traffic; returns after how many seconds the former version got its last request."""
    moved = service.move(to)
    await talking.settle()
    return max(0.0, max(service.asked[former]) - moved)


async def _drain_one_of_two(service: TcpService, fleet: Pods, talking: Clients, leaving: int) -> float:
    """A drained node: the pod is told to end while proxies still send it requests."""
    staying = await fleet.start()
    service.move(leaving, staying)
    await talking.settle()
    ending = asyncio.create_task(fleet.end(leaving))
    await asyncio.sleep(LATE_SECONDS)
    service.move(staying)
    return await ending


async def throughput(served: Served, folder: Path, conversations: Sequence[int], seconds: float) -> list[dict[str, Any]]:
    """Time to the first token and tokens per second of one server, with so many conversations at a time."""
    async with pods(served, folder) as fleet:
        url = f"http://127.0.0.1:{await fleet.start()}"
        return [await _answers(served, url, number, seconds) for number in conversations]


async def _answers(served: Served, url: str, conversations: int, seconds: float) -> dict[str, Any]:
    run = LoadRun(url, NAME, served.spec, customers(served.spec, 100, 1), max_tokens=served.max_tokens)
    end = time.monotonic() + seconds
    result = await run.closed_loop(conversations, lambda: time.monotonic() < end)
    firsts = [request.first_token for request in result.requests if request.first_token is not None]
    tokens = sum(request.completion_tokens for request in result.requests)
    return {
        "conversations": conversations,
        "first_token_p50": round(percentile(firsts, 50), 3),
        "first_token_p99": round(percentile(firsts, 99), 3),
        "tokens_per_second": round(tokens / result.seconds, 1),
        "failed_requests": sum(request.error is not None for request in result.requests),
    }
