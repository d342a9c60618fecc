"""Answers calls in batches, so that no call is paid twice and no paid response is lost, wherever the process is killed.

In this order: the worst case is reserved in the ledger, the batch is remembered in the store, the provider is asked, its id is
remembered. Once the batch has ended, its responses are kept, its cost is booked and its reservation ended in one write, and it is
forgotten. The next attempt goes on wherever the last one stopped.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, TypeVar

from subterra_api.job_contract.messages import RunIdentity
from subterra_jobs.errors import InfrastructureError, ProviderBlockedError, StageError
from subterra_jobs.llm.batches.batch_api import BatchApi, BatchState, custom_id
from subterra_jobs.llm.batches.batch_record import BatchedCall, BatchRecord, BatchRecords
from subterra_jobs.llm.batches.batch_results import new_name, settled, written_off
from subterra_jobs.llm.client import RefusedError, Request
from subterra_jobs.llm.error_policy import classify, provider_message, unavailable
from subterra_jobs.llm.metered_client import Call, MeteredClient
from subterra_jobs.spending.budget import BudgetGuard, utc_now
from subterra_jobs.stage.cancellation import Cancellation, StoppedError

log = logging.getLogger("subterra")
Value = TypeVar("Value")

PATIENCE_SECONDS = 300.0
"""Time for retries of one request about a batch."""
RESULTS_KEPT = timedelta(days=29)
"""How long a provider keeps the results of a batch; OpenAI a day longer than Anthropic."""
_TRIES = 4
"""Of creating a batch that is refused because there are too many."""
_SLICE_SECONDS = 1.0


@dataclass(frozen=True)
class BatchTimes:
    """How long batches are waited for, and by which clock."""

    utc: Callable[[], datetime] = utc_now
    wait: timedelta = timedelta(hours=2)
    """From the first batch of an attempt on, for all of its batches; what is not answered by then is asked one by one."""
    poll_seconds: float = 15.0
    settling: timedelta = timedelta(minutes=2)
    """After which a batch would be in the provider's list, if it was begun at all."""
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep


DEFAULT_TIMES = BatchTimes()


@dataclass(frozen=True)
class BatchAccount:
    """One model's batches, and its clients by use."""

    api: BatchApi
    clients: Mapping[str, MeteredClient]


UsedCall = tuple[str, Call]
"""The use of a client, and one of its calls."""


class BatchRunner:
    """Batches of one stage. `accounts` are by digest of the provider's settings; `check` raises when the stage may not go on."""

    def __init__(
        self,
        run: RunIdentity,
        records: BatchRecords,
        budget: BudgetGuard,
        accounts: Mapping[str, BatchAccount],
        times: BatchTimes,
        *,
        creates: bool = True,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        """Without `creates` it only ends what an earlier attempt began."""
        self._run, self._records, self._budget, self._accounts = run, records, budget, accounts
        self._times, self._check, self._creates = times, check, creates
        self._claims: dict[str, asyncio.Task[None]] = {}
        self._progress: dict[str, tuple[BatchRecord, BatchState | None]] = {}
        self._deadline: datetime | None = None
        self._refusing = set[str]()
        self._closing = False
        self.answered = 0
        """Calls answered by batches in this attempt."""

    @property
    def is_needed(self) -> bool:
        """Whether there is or may be a batch, now or later in this attempt."""
        return bool(self._claims) or (self._creates and not self._is_late())

    def notes(self) -> list[str]:
        """A line for each open batch, for the progress message."""
        return [self._note(record, state) for record, state in self._progress.values()]

    async def start(self, cancellation: Cancellation) -> None:
        """Takes up what earlier attempts of this evaluation began. Raises InfrastructureError."""
        try:
            records = await asyncio.to_thread(self._records.read)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InfrastructureError(f"batches in progress cannot be read ({error}); check the artifact store") from None
        for name in sorted(set(self._budget.batches.open(self._run.uid)) - {record.name for record in records}):
            await self._budget.end_batch(name, self._run, [])  # killed before the provider was asked
        for record in records:
            if record.account in self._accounts:
                self._set_deadline()
                self._claim(self._finish(record, cancellation), [call.key for call in record.calls])

    async def answer(self, calls: Sequence[UsedCall], cancellation: Cancellation) -> None:
        """Returns once each call is answered by a batch or has to be asked by itself: see which are in the cache.

        Raises a StageError when the stage cannot go on, StoppedError when it is stopped.
        """
        fresh = {call.key: (use, call) for use, call in calls if call.key not in self._claims}
        if self._creates and not self._is_late():
            for name, account in self._accounts.items():
                own = [(use, call) for use, call in fresh.values() if use in account.clients]
                if own and name not in self._refusing:
                    self._claim(self._answer_by(name, own, cancellation), [call.key for _, call in own])
        await _all_ended({self._claims[call.key] for _, call in calls if call.key in self._claims})

    async def drain(self) -> None:
        """Ends and settles the batches that are still open; nobody waits for their answers any more."""
        self._closing = True
        await _all_ended(set(self._claims.values()))

    async def close(self) -> None:
        """Stops waiting, without ending any batch, and closes the connections."""
        tasks = set(self._claims.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for account in self._accounts.values():
            await account.api.close()

    def _claim(self, work: Coroutine[Any, Any, None], keys: Iterable[str]) -> None:
        """Runs `work`, which alone answers the calls of these keys until it ends."""
        task, claimed = asyncio.create_task(work), list(keys)
        self._claims.update(dict.fromkeys(claimed, task))

        def release(_: asyncio.Task[None]) -> None:
            for key in claimed:
                self._claims.pop(key, None)

        task.add_done_callback(release)

    async def _answer_by(self, account: str, calls: Sequence[UsedCall], cancellation: Cancellation) -> None:
        left = list(calls)
        while left and not self._is_late() and account not in self._refusing:
            _raise_if_stopped(cancellation)
            if cancellation.cancelled:
                return
            count = fitting([call.request for _, call in left], self._accounts[account].api)
            record = await self._reserve(account, left[:count])
            requests = {custom_id(record.name, index): call.request for index, (_, call) in enumerate(left[: len(record.calls)])}
            left = left[len(record.calls) :]
            if (begun := await self._create(record, requests)) is not None:
                await self._finish(begun, cancellation)

    async def _reserve(self, account: str, calls: Sequence[UsedCall]) -> BatchRecord:
        """A new batch of as many of the first calls as the caps leave room for. Raises BudgetExceededError."""
        clients = self._accounts[account].clients
        worst = [clients[use].worst_case(call.request, batched=True) for use, call in calls]
        name = new_name()
        count = await self._budget.reserve_batch(name, worst)
        rows = zip(calls[:count], worst, strict=False)
        booked = tuple(BatchedCall(use, call.key, call.labels, str(usd)) for (use, call), usd in rows)
        record = BatchRecord(name, account, self._run, self._times.utc(), booked)
        self._set_deadline()
        await self._write(record)
        return record

    async def _create(self, record: BatchRecord, requests: Mapping[str, Request]) -> BatchRecord | None:
        """The batch as the provider began it, or may have begun it; `None` when it refused."""
        account, api = self._account(record), self._accounts[record.account].api
        for attempt in range(_TRIES):
            self._check()
            try:
                begun = replace(record, id=await api.create(record.name, requests))
            except RefusedError as error:
                if error.status is None or error.status >= 500:
                    return record  # it may have arrived
                if error.status == 429 and attempt + 1 < _TRIES:
                    await self._times.sleep(error.retry_after or self._times.poll_seconds)
                    continue
                await self._forget(record)
                if isinstance(final := classify(error, account), ProviderBlockedError):
                    raise final from None
                said = provider_message(error, account.key)
                log.warning("%s takes no batch (HTTP %s, %s); calls go one by one", account.model, error.status, said)
                self._refusing.add(record.account)
                return None
            await self._write(begun)
            log.info("%d calls to %s are in batch %s", len(record.calls), account.model, begun.id)
            return begun
        return None

    async def _finish(self, record: BatchRecord, cancellation: Cancellation) -> None:
        """Waits for a batch and settles it."""
        self._progress[record.name] = record, None
        try:
            if self._times.utc() - record.began > RESULTS_KEPT:
                await self._budget.end_batch(record.name, record.run, written_off(record, self._account(record)))
                self._records.remove(record)
                return
            known = await self._identified(record, cancellation)
            if known is None:
                log.warning("a batch of %d calls was not begun: the provider does not list it", len(record.calls))
                await self._forget(record)
                return
            await self._wait(known, cancellation)
            await self._settle(known)
        finally:
            self._progress.pop(record.name, None)

    async def _identified(self, record: BatchRecord, cancellation: Cancellation) -> BatchRecord | None:
        """The batch with the provider's id, which is looked for if it was lost; `None` if it does not exist."""
        if record.id is not None:
            return record
        api, until = self._accounts[record.account].api, self._times.utc() + self._times.settling
        while True:
            found = await self._patiently(record, lambda: api.find(record.name, len(record.calls), record.began))
            if found is not None and found.certain:
                known = replace(record, id=found.id)
                await self._write(known)
                return known
            if found is None and self._times.utc() >= until:
                return None
            await self._pause(cancellation)

    async def _wait(self, record: BatchRecord, cancellation: Cancellation) -> None:
        """Returns once the batch has ended, which it is asked to when nobody waits for it any more."""
        api, batch, cancelled = self._accounts[record.account].api, record.id or "", False
        while True:
            state = await self._patiently(record, lambda: api.state(batch))
            self._progress[record.name] = record, state
            if state.ended:
                return
            if not cancelled and (self._is_late() or self._closing or not self._creates or cancellation.cancelled):
                _raise_if_stopped(cancellation)
                log.info("batch %s is canceled; calls that it has not answered go one by one", batch)
                await self._patiently(record, lambda: api.cancel(batch))
                cancelled = True
            await self._pause(cancellation)

    async def _settle(self, record: BatchRecord) -> None:
        """Keeps the responses, then books their cost, then forgets the batch."""
        account = self._accounts[record.account]
        items = await self._patiently(record, lambda: account.api.results(record.id or ""))
        self._check()
        responses, entries = settled(record, items, account.clients, (self._times.utc() - record.began).total_seconds())
        try:
            for use, found in responses.items():
                await account.clients[use].responses.add_all(found)
        except OSError as error:
            raise InfrastructureError(f"paid responses could not be stored ({error}); check the artifact store") from None
        await self._budget.end_batch(record.name, record.run, entries)
        self._records.remove(record)
        self.answered += (answered := sum(map(len, responses.values())))
        usd = sum((Decimal(entry["usd"]) for entry in entries), Decimal(0))
        log.info("batch %s answered %d of %d calls for $%.4f", record.id, answered, len(record.calls), usd)

    async def _forget(self, record: BatchRecord) -> None:
        """For a batch that was never begun."""
        await self._budget.end_batch(record.name, record.run, [])
        self._records.remove(record)

    async def _write(self, record: BatchRecord) -> None:
        try:
            await asyncio.to_thread(self._records.write, record)
        except OSError as error:
            raise InfrastructureError(f"a batch could not be remembered ({error}); check the artifact store") from None

    async def _patiently(self, record: BatchRecord, ask: Callable[[], Awaitable[Value]]) -> Value:
        """The answer, retried for a while. Anthropic's servers may not know a batch at once, so 404 is retried too."""
        waited, pause = 0.0, 1.0
        while True:
            try:
                return await ask()
            except RefusedError as error:
                if error.status != 404 and (final := classify(error, self._account(record))) is not None:
                    raise final from None
                if waited >= PATIENCE_SECONDS:
                    raise unavailable(error, self._account(record), PATIENCE_SECONDS) from None
                await self._times.sleep(error.retry_after or pause)
                waited, pause = waited + (error.retry_after or pause), min(30.0, 2 * pause)

    async def _pause(self, cancellation: Cancellation) -> None:
        """Waits until the next look. Raises the reason when the stage is stopped."""
        slept = 0.0
        while slept < self._times.poll_seconds:
            _raise_if_stopped(cancellation)
            await self._times.sleep(min(_SLICE_SECONDS, self._times.poll_seconds))
            slept += min(_SLICE_SECONDS, self._times.poll_seconds)

    def _set_deadline(self) -> None:
        self._deadline = self._deadline or self._times.utc() + self._times.wait

    def _is_late(self) -> bool:
        return self._deadline is not None and self._times.utc() >= self._deadline

    def _account(self, record: BatchRecord) -> Any:
        return next(iter(self._accounts[record.account].clients.values())).account

    def _note(self, record: BatchRecord, state: BatchState | None) -> str:
        minutes = int((self._times.utc() - record.began).total_seconds() // 60)
        answered = f"{state.answered:,} of " if state is not None and state.answered else ""
        batch = record.id or "whose id is being looked up"
        return f"judging: {answered}{len(record.calls):,} in batch {batch}, submitted {minutes} min ago"


def fitting(requests: Sequence[Request], api: BatchApi) -> int:
    """How many of the first requests one batch takes; at least one."""
    size = 0
    for index, request in enumerate(requests):
        size += request.size
        if index and (index >= api.limits.calls or size > api.limits.bytes):
            return index
    return len(requests)


async def _all_ended(tasks: set["asyncio.Task[None]"]) -> None:
    """Returns once all have ended, then raises the first failure."""
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result


def _raise_if_stopped(cancellation: Cancellation) -> None:
    """Raises the reason if the stage ends in a way that lets the next attempt go on; batches are left running then."""
    try:
        cancellation.raise_if_cancelled()
    except (StoppedError, StageError):
        raise
    except Exception:  # an interim look has decided: open batches are ended by whoever waits for them
        return
