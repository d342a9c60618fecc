"""`RayPool` without Ray: its paid worker in this process."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Self

from subterra_api.job_contract.messages import Budget, RunInput
from subterra_jobs.generate.workers.ray_pool import PoolShape
from subterra_jobs.generate.workers.worker import LLMWorker
from subterra_jobs.generate.written_conversation import Conversation
from subterra_jobs.llm.admission import UsageStats


class InProcess:
    """The part of a pool that the stage uses; errors are raised as the pool raises them."""

    def __init__(self, run: RunInput, shape: PoolShape, budget: Budget, check: Callable[[], None]) -> None:
        self._loop = asyncio.new_event_loop()
        self._worker = LLMWorker(run, shape.concurrency, budget, shape.calls, check)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.run_until_complete(self._worker.close())
        self._loop.close()

    def usage(self) -> UsageStats:
        """Calls and spending so far."""
        return self._loop.run_until_complete(self._worker.usage())

    def write(self, todo: Sequence[Conversation], done: Callable[[Sequence[Conversation]], None]) -> None:
        """Finishes the conversations in one batch. Raises StageError."""
        batch = self._loop.run_until_complete(self._worker.write(todo))
        if batch.failure is not None:
            raise batch.failure.error()
        done(batch.finished)
