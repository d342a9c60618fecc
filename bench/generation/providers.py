"""Use of a provider's rate limits, and CPU time per call: the real SDK and Ray against the fake API over HTTP."""

import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

from subterra_api.job_contract.messages import Budget
from subterra_jobs.generate.plan.plan import plan_conversations
from subterra_jobs.generate.workers.ray_pool import PoolShape, RayPool
from subterra_jobs.generate.written_conversation import Conversation
from subterra_testkit.runs.generation_inputs import PAID, run_input
from subterra_testkit.servers.fake_llm_api import FakeLLMApi, RateLimit, fake_llm_api

LIMIT = 4000
"""Requests per minute."""
IN_FLIGHT = 100
SECONDS = 0.5
"""Response time of the provider."""
WARM_SECONDS = 15.0
CONVERSATIONS = 600


def measure() -> dict[str, Any]:
    """The figures, with and without a rate limit."""
    limited = FakeLLMApi(seconds=SECONDS, limits={"requests": RateLimit(LIMIT)})
    _write(limited, 512)
    free = FakeLLMApi(seconds=SECONDS)
    finished, cpu_seconds, calls = _write(free, IN_FLIGHT)
    return {
        "limit_ratio": round(_per_minute(limited.paid_at) / LIMIT, 3),
        "refused_of_all": round(limited.limited / limited.calls, 4),
        "conversations_per_minute_at_100": round(_per_minute(finished)),
        "conversations_per_minute_if_calls_cost_nothing": round(IN_FLIGHT / SECONDS * 60 * CONVERSATIONS / calls),
        "cpu_ms_per_call": round(1000 * cpu_seconds / calls, 1),
        "load_average": round(os.getloadavg()[0], 1),
    }


def _write(api: FakeLLMApi, in_flight: int) -> tuple[list[float], float, int]:
    """Finish times of the conversations, CPU seconds of workers and broker, and number of calls."""
    finished: list[float] = []

    def done(batch: Sequence[Conversation]) -> None:
        finished.extend([time.monotonic()] * len(batch))

    with fake_llm_api(api), tempfile.TemporaryDirectory() as folder:
        os.environ |= {"ANTHROPIC_BASE_URL": api.url, "ANTHROPIC_API_KEY": "none"}
        run = run_input(Path(folder), teacher=PAID, conversations=CONVERSATIONS)
        todo = [Conversation(planned) for planned in plan_conversations(run.procedure, run.generation)]
        with RayPool(run, PoolShape(1, 4, 512, in_flight=129, calls=in_flight), Budget(), lambda: None) as pool:
            before = _cpu_seconds()
            pool.write(todo, done)
            return finished, _cpu_seconds() - before, api.paid


def _cpu_seconds() -> float:
    """CPU seconds of Ray's workers and actors; the fake API runs in this process and is not counted."""
    actors = [process for process in psutil.Process().children(recursive=True) if process.name().startswith("ray::")]
    return sum(sum(process.cpu_times()[:2]) for process in actors)


def _per_minute(times: Sequence[float]) -> float:
    """Events per minute in steady state: without the warm-up, and without the end, when little is left to do."""
    start, end = times[0] + WARM_SECONDS, times[int(len(times) * 0.9)]
    return sum(1 for time in times if start <= time < end) * 60 / (end - start)
