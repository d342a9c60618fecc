"""The pool of the generate stage without Ray: one worker in this process, for tests of what the stage does around it."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Self

from subterra_api.job_contract.messages import Budget, RunInput
from subterra_jobs.generate.workers.ray_pool import PoolShape
from subterra_jobs.generate.workers.worker import LLMWorker, Worker
from subterra_jobs.generate.written_conversation import Conversation
from subterra_jobs.llm.admission import UsageStats


class InProcessPool:
    """Takes the place of `RayPool`."""

    def __init__(
        self, run: RunInput, shape: PoolShape, budget: Budget, check: Callable[[], None], address: str | None = None
    ) -> None:
        assert address is None, "there is no other pod"
        self._loop = asyncio.new_event_loop()
        self._worker: Worker
        if run.generation.teacher.name == "scripted":
            self._worker = Worker(run, shape.concurrency)
        else:
            self._worker = LLMWorker(run, shape.concurrency, budget, shape.calls, check)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.run_until_complete(self._worker.close())
        self._loop.close()

    def usage(self) -> UsageStats | None:
        """Calls and spending so far; `None` for a teacher that costs nothing."""
        return self._loop.run_until_complete(self._worker.usage()) if isinstance(self._worker, LLMWorker) else None

    def write(self, conversations: Sequence[Conversation], on_finished: Callable[[Sequence[Conversation]], None]) -> None:
        """Finishes all conversations. Raises the StageError of the worker."""
        batch = self._loop.run_until_complete(self._worker.write(conversations))
        on_finished(batch.finished)
        if batch.failure is not None:
            raise batch.failure.error()
