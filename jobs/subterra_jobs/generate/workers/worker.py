"""One process that writes batches of conversations; plain Python, testable without Ray."""

import asyncio
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from subterra_api.job_contract.messages import Budget, ExitCode, RunInput
from subterra_core.procedure.graph import Graph
from subterra_jobs.errors import InfrastructureError, StageError
from subterra_jobs.generate.write.turn_keys import turns_path
from subterra_jobs.generate.write.writer import Teacher, Writer
from subterra_jobs.generate.written_conversation import Conversation
from subterra_jobs.llm.admission import Admission, AdmissionQueue, UsageStats
from subterra_jobs.llm.rate_limit import RateLimiter
from subterra_jobs.llm.response_cache import ResponseCache
from subterra_jobs.spending.budget import BudgetGuard
from subterra_jobs.spending.ledger import Ledger
from subterra_jobs.stage.cancellation import Cancellation, StoppedError
from subterra_jobs.stage.environment import StageEnvironment
from subterra_jobs.stage.tracing import start_tracing, tracing
from subterra_jobs.store.artifact_store import ArtifactStore

TEACHER_FIELD = "generation.teacher"
GRACE_SECONDS = 20.0
"""Time for turns in progress when another one fails."""


@dataclass(frozen=True)
class WorkerFailure:
    """A StageError in a form that can be sent between processes."""

    code: int
    message: str

    def error(self) -> StageError:
        """The original error."""
        kinds = {kind.code: kind for kind in StageError.__subclasses__()}
        return kinds.get(ExitCode(self.code), StageError)(self.message)


@dataclass(frozen=True)
class BatchResult:
    """The finished conversations of a batch, and why there are no more."""

    finished: tuple[Conversation, ...]
    failure: WorkerFailure | None = None


def make_teacher(run: RunInput, graph: Graph, admission: Admission | None, responses: ResponseCache) -> Teacher:
    """The teacher named by the run's settings; a provider's SDK is imported only if it is needed."""
    if run.generation.teacher.name == "scripted":
        from subterra_jobs.generate.write.scripted_teacher import ScriptedTeacher

        return ScriptedTeacher(graph)
    from subterra_jobs.generate.write.llm_teacher import LLMTeacher
    from subterra_jobs.llm.account import make_client, resolve_account
    from subterra_jobs.llm.metered_client import MeteredClient

    if admission is None:
        raise InfrastructureError("an LLM teacher needs an admission queue")
    # Parsed here rather than sent by the driver, so that keys are in no message of Ray's.
    account = resolve_account(run.generation.teacher, TEACHER_FIELD, StageEnvironment.parse(os.environ))
    return LLMTeacher(graph, MeteredClient(account, make_client(account), admission, responses))


class Worker:
    """Writes with bounded concurrency. After a failure no turn begins, but turns in progress are finished and kept."""

    def __init__(self, run: RunInput, concurrency: int, admission: Admission | None = None) -> None:
        graph = Graph(run.procedure)
        self._responses = ResponseCache(ArtifactStore(run.store), turns_path(run.generation.teacher))
        self._teacher = make_teacher(run, graph, admission, self._responses)
        self._writer = Writer(graph, self._teacher)
        self._semaphore = asyncio.Semaphore(concurrency)
        self._cancellation = Cancellation()

    async def write(self, batch: Sequence[Conversation], repeated: bool = False) -> BatchResult:
        """Finishes the conversations of a batch; with ``repeated`` one that another worker has begun, and paid for in part."""
        if repeated:
            self._responses.read_again()
        results = await asyncio.gather(*(self._finish(conversation) for conversation in batch), return_exceptions=True)
        errors = [result for result in results if isinstance(result, BaseException)]
        finished = tuple(result for result in results if isinstance(result, Conversation) and result.finished)
        unexpected = [error for error in errors if not isinstance(error, StageError)]
        if unexpected:
            raise unexpected[0]
        expected = [error for error in errors if isinstance(error, StageError)]
        return BatchResult(finished, WorkerFailure(int(expected[0].code), str(expected[0])) if expected else None)

    async def pid(self) -> int:
        """The process id of the worker."""
        return os.getpid()

    async def stop(self) -> None:
        """Ends all batches as soon as their turns in progress are kept."""
        self._cancellation.cancel(StoppedError())

    async def flush_spans(self) -> None:
        """Sends the spans that are left, before the process ends."""
        await asyncio.to_thread(tracing().flush)

    async def close(self) -> None:
        """Closes the teacher's connections."""
        await self._teacher.close()

    async def _finish(self, conversation: Conversation) -> Conversation:
        """The finished conversation, or the original one if the worker is stopped first."""
        async with self._semaphore:
            if self._cancellation.cancelled:
                return conversation
            work = asyncio.create_task(self._writer.finish(conversation, self._cancellation.raise_if_cancelled))
            stop = asyncio.create_task(self._cancellation.wait())
            try:
                await asyncio.wait({work, stop}, return_when=asyncio.FIRST_COMPLETED)
                if not work.done():
                    await asyncio.wait({work}, timeout=GRACE_SECONDS)
                    work.cancel()
                return await work
            except (StoppedError, asyncio.CancelledError):
                return conversation
            except BaseException:
                await self.stop()
                raise
            finally:
                stop.cancel()


class LLMWorker(Worker):
    """Calls the provider itself: an admission queue in another process would take twice the CPU time of the calls."""

    def __init__(self, run: RunInput, concurrency: int, budget: Budget, calls: int, check: Callable[[], None]) -> None:
        guard = BudgetGuard(Ledger(ArtifactStore(run.store), run.run), "generate", budget, check=check)
        self._admission = AdmissionQueue(guard, RateLimiter(calls))
        start_tracing(run.run, os.environ)
        super().__init__(run, concurrency, self._admission)

    async def usage(self) -> UsageStats:
        """Calls and spending so far."""
        return await self._admission.stats()
