"""What the results of a batch are worth: responses to keep, and entries for the ledger. Pure."""

import uuid
from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal

from subterra_jobs.llm.account import Account
from subterra_jobs.llm.batches.batch_api import BatchItem, custom_id
from subterra_jobs.llm.batches.batch_record import BatchedCall, BatchRecord
from subterra_jobs.llm.client import RefusedError, Usage
from subterra_jobs.llm.metered_client import MeteredClient, kept_response
from subterra_jobs.llm.response_cache import CachedResponse
from subterra_jobs.spending.ledger import LedgerEntry


def new_name() -> str:
    """Name of a new batch, unique in any store."""
    return uuid.uuid4().hex[:16]


def settled(
    record: BatchRecord, items: Mapping[str, BatchItem], clients: Mapping[str, MeteredClient], seconds: float
) -> tuple[dict[str, dict[str, CachedResponse]], list[LedgerEntry]]:
    """Responses by use and key, and what was billed. Calls that failed, expired or were canceled cost nothing and are left out."""
    responses: dict[str, dict[str, CachedResponse]] = {}
    entries = []
    for index, call in enumerate(record.calls):
        item = items.get(custom_id(record.name, index))
        if item is None:
            continue
        charge = _charge(call, item, clients[call.use])
        if charge is not None:
            entries.append(charge)
        if charge is not None and not isinstance(item, RefusedError):
            responses.setdefault(call.use, {})[call.key] = kept_response(item, seconds, charge)
    return responses, entries


def written_off(record: BatchRecord, account: Account) -> list[LedgerEntry]:
    """Entries for a batch whose results the provider has deleted: each call at its worst case."""
    return [{"model": account.model, "usd": call.worst, "tokens": 0, **call.labels, "lost": True} for call in record.calls]


def _charge(call: BatchedCall, item: BatchItem, client: MeteredClient) -> LedgerEntry | None:
    """`None` for a call that costs nothing."""
    if isinstance(item, RefusedError) and item.usage is None and not item.maybe_billed:
        return None
    return client.charge(call.labels, Decimal(call.worst), _at_batch_price(item.usage, client.account.batch_factor))


def _at_batch_price(usage: Usage | None, factor: Decimal) -> Usage | None:
    return None if usage is None else replace(usage, price_factor=usage.price_factor * factor)
