"""One process that writes batches of slots; plain Python, so that it can be tested without Ray."""

import asyncio
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal

from subterra_api.job_contract.messages import Budget, ExitCode, RunInput
from subterra_core.procedure.graph import Graph
from subterra_jobs.errors import InfrastructureError, StageError
from subterra_jobs.generate.conversation import Conversation
from subterra_jobs.generate.write.turn_keys import turns_path
from subterra_jobs.generate.write.writer import Teacher, Writer
from subterra_jobs.llm.admission import Broker, Figures, StageBroker
from subterra_jobs.llm.rate_limit import Rates
from subterra_jobs.llm.response_cache import AnswerStore
from subterra_jobs.spending.budget import BudgetGuard
from subterra_jobs.spending.ledger import Ledger
from subterra_jobs.store.artifacts import ArtifactStore

TEACHER = "generation.teacher"
GRACE_SECONDS = 20.0
"""How long turns under way may take after another one failed."""


class StoppedError(Exception):
    """The conversation ends here because another one failed; its turns are kept."""


@dataclass(frozen=True)
class Failure:
    """A StageError on its way between processes."""

    code: int
    message: str

    def error(self) -> StageError:
        """The error it was."""
        kinds = {kind.code: kind for kind in StageError.__subclasses__()}
        return kinds.get(ExitCode(self.code), StageError)(self.message)


@dataclass(frozen=True)
class Batch:
    """What became of a batch: the conversations that were finished, and why there are no more."""

    finished: tuple[Conversation, ...]
    failure: Failure | None = None


def make_teacher(run: RunInput, graph: Graph, broker: Broker | None) -> Teacher:
    """The teacher that the run asks for; the SDK is imported only where it is needed."""
    if run.generation.teacher.name == "scripted":
        from subterra_jobs.generate.write.scripted_teacher import ScriptedTeacher

        return ScriptedTeacher(graph)
    from subterra_jobs.generate.write.llm_teacher import PaidTeacher
    from subterra_jobs.llm.account import account_of, client_of
    from subterra_jobs.llm.metered_client import Caller

    if broker is None:
        raise InfrastructureError("a paid teacher needs a broker")
    account = account_of(run.generation.teacher, TEACHER)
    answers = AnswerStore(ArtifactStore(run.store), turns_path(run.generation.teacher))
    return PaidTeacher(graph, Caller(account, client_of(account), broker, answers))


class Worker:
    """Writes with bounded concurrency. After a failure no new turn is begun, but those under way are finished and kept."""

    def __init__(self, run: RunInput, concurrency: int, broker: Broker | None = None) -> None:
        graph = Graph(run.procedure)
        self._teacher = make_teacher(run, graph, broker)
        self._writer = Writer(graph, self._teacher)
        self._limit = asyncio.Semaphore(concurrency)
        self._stopped = asyncio.Event()

    async def write(self, batch: Sequence[Conversation]) -> Batch:
        """Finishes the conversations of a batch."""
        results = await asyncio.gather(*(self._one(conversation) for conversation in batch), return_exceptions=True)
        errors = [result for result in results if isinstance(result, BaseException)]
        finished = tuple(result for result in results if isinstance(result, Conversation) and result.finished)
        unexpected = [error for error in errors if not isinstance(error, StageError)]
        if unexpected:
            raise unexpected[0]
        expected = [error for error in errors if isinstance(error, StageError)]
        return Batch(finished, Failure(int(expected[0].code), str(expected[0])) if expected else None)

    async def pid(self) -> int:
        """The process that writes."""
        return os.getpid()

    async def stop(self) -> None:
        """Ends all batches as soon as their turns under way are kept."""
        self._stopped.set()

    async def close(self) -> None:
        """Gives back the teacher's connections."""
        await self._teacher.close()

    async def _one(self, conversation: Conversation) -> Conversation:
        async with self._limit:
            if self._stopped.is_set():
                return conversation
            work = asyncio.create_task(self._writer.finish(conversation, self._go_on))
            stop = asyncio.create_task(self._stopped.wait())
            try:
                await asyncio.wait({work, stop}, return_when=asyncio.FIRST_COMPLETED)
                if not work.done():
                    await asyncio.wait({work}, timeout=GRACE_SECONDS)
                    work.cancel()
                return await work
            except (StoppedError, asyncio.CancelledError):
                return conversation
            except BaseException:
                self._stopped.set()
                raise
            finally:
                stop.cancel()

    def _go_on(self) -> None:
        if self._stopped.is_set():
            raise StoppedError


class PaidWorker(Worker):
    """Asks the provider by itself: a broker in another process would take twice the processor time of the calls."""

    def __init__(self, run: RunInput, concurrency: int, budget: Budget, calls: int, check: Callable[[], None]) -> None:
        purse = BudgetGuard(Ledger(ArtifactStore(run.store), run.run), "generate", budget, check=check)
        self._broker = StageBroker(purse, Rates(calls))
        super().__init__(run, concurrency, self._broker)

    async def figures(self) -> Figures:
        """How far it is with the provider."""
        return await self._broker.figures()

    async def forfeit(self, usd: Decimal) -> None:
        """Books what the worker before held when it died: nobody knows which of its calls were paid."""
        await self._broker.purse.forfeit(usd)
