"""Which of a provider's refusals end a run. Pure."""

import re

from subterra_api.v1alpha1 import RETRY_AT
from subterra_core.hosted_models.catalog import base_model_named
from subterra_jobs.errors import (
    ContextExceededError,
    InvalidInputError,
    ProviderBlockedError,
    ProviderUnavailableError,
    StageError,
)
from subterra_jobs.llm.account import Account
from subterra_jobs.llm.behavior.reasons import is_filtered, is_too_long, one_line
from subterra_jobs.llm.client import RefusedError

_MONEY = re.compile(r"credit balance|billing|spend(ing)? limit|usage limits?|payment|quota", re.IGNORECASE)
_NO_CREDIT_CODES = frozenset({"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"})
_NO_CREDIT = re.compile(r"insufficient[ _](quota|balance|credits?|funds)|all available credits|spending limit", re.IGNORECASE)
"""What providers say with 429 when no waiting helps. Others speak of a quota and of billing there when it does."""
_RETRIED_STATUS = frozenset({408, 409, 425, 429})
_QUOTE_LENGTH = 200
_EFFORT = re.compile(r"effort|thinking", re.IGNORECASE)


def classify(error: RefusedError, account: Account) -> StageError | None:
    """The failure that ends the stage, with its fix; `None` when a retry may help."""
    quote = provider_message(error, account.key)
    if error.status is None or error.status < 300 or error.status >= 500:
        return None
    if _lacks_credit(error):
        return ProviderBlockedError(
            f"the provider refuses for lack of credit or because of a spend limit ({quote}); top up or raise the limit at the "
            f"provider, then set the annotation {RETRY_AT} to the current time; finished work is not paid twice"
        )
    if error.status in _RETRIED_STATUS:
        return None
    if error.status in (401, 403):
        return ProviderBlockedError(
            f"the provider refuses the key (HTTP {error.status}, {quote}); correct the Secret named by execution.apiKeySecret, "
            f"then set the annotation {RETRY_AT} to the current time"
        )
    if error.status in (404, 405, 410):
        return _not_found(error, account, quote)
    if is_too_long(error.status, error.code, error.message):
        return ContextExceededError(
            f"a request with room for its response is longer than {account.model} takes (HTTP {error.status}, {quote}); name a "
            f"{account.field}.model with a longer context, or lower {account.field}.effort if it is set"
        )
    fix = f"correct {account.field}.effort" if _EFFORT.search(error.message) else "correct the procedure's texts"
    return InvalidInputError(f"the provider refuses the request (HTTP {error.status}, {quote}); {fix}")


def filtered(error: RefusedError) -> bool:
    """True when a content filter refused this one conversation, so that others may go on."""
    return is_filtered(error.status, error.code, error.message) and not _lacks_credit(error)


def filtered_throughout(error: RefusedError, account: Account, count: int) -> InvalidInputError:
    """The failure that ends a stage whose calls are all refused by a content filter."""
    quote = provider_message(error, account.key)
    return InvalidInputError(
        f"the provider's content filter refused {count} calls in a row (HTTP {error.status}, {quote}); correct the procedure's "
        f"texts, or name another {account.field}.model"
    )


def unreadable(error: RefusedError, account: Account) -> StageError:
    """The failure that ends a stage whose provider keeps sending what is no response of its API."""
    quote = provider_message(error, account.key)
    if account.base_url is not None:
        return InvalidInputError(
            f"{account.field}.baseURL: {account.base_url} sends {quote}; {_address_fix(account.base_url)}, and check that it "
            "speaks OpenAI's chat completions API"
        )
    return ProviderUnavailableError(f"the provider sends {quote}; the run will be retried, and paid responses are kept")


def unavailable(error: RefusedError, account: Account, patience: float) -> ProviderUnavailableError:
    """The failure that ends the stage after `patience` seconds of retries."""
    said = provider_message(error, account.key)
    last = ": ".join(filter(None, (error.kind if error.status is None else f"HTTP {error.status}", said)))
    return ProviderUnavailableError(
        f"the provider did not answer for {patience:.0f} s (last: {last}); the run will be retried, and paid responses are kept"
    )


def provider_message(error: RefusedError, key: str) -> str:
    """The provider's message, as one short line without the key."""
    return one_line(error.message.replace(key, "***") if key else error.message)[:_QUOTE_LENGTH]


def _not_found(error: RefusedError, account: Account, quote: str) -> InvalidInputError:
    """A model that is unknown or retired, or an address that is wrong; providers answer all of them alike."""
    refused, where = f"HTTP {error.status}, {quote}", account.base_url
    if where is not None and not _names_model(error, account):
        fix = _address_fix(where)
        return InvalidInputError(
            f"{account.field}.baseURL: {where} has no chat completions API ({refused}); {fix}, or correct {account.field}.model"
        )
    known = base_model_named(account.model) if where is None else None
    if known is None or known.replacement is None:
        return InvalidInputError(f"the provider does not know model {account.model!r} ({refused}); correct {account.field}.model")
    end = "" if known.retires_on is None else f", which retires on {known.retires_on}"
    return InvalidInputError(
        f"the provider no longer serves model {account.model!r}{end} ({refused}); set {account.field}.model to {known.replacement}"
    )


def _names_model(error: RefusedError, account: Account) -> bool:
    return "model" in error.code or account.model in error.message


def _address_fix(base_url: str) -> str:
    missing = not re.search(r"/v\d+\w*/?$", base_url)
    return f"it lacks /v1 at its end: use {base_url.rstrip('/')}/v1" if missing else "correct the address"


def _lacks_credit(error: RefusedError) -> bool:
    """True when no waiting helps. Some providers report an exhausted account as 429 too, one only by its code."""
    if error.status == 402 or error.code in _NO_CREDIT_CODES:
        return True
    words = _NO_CREDIT if error.status == 429 else _MONEY
    return error.status in (400, 403, 429) and words.search(error.message) is not None
