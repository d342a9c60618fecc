"""Which of a provider's refusals end a run. Pure."""

import re

from subterra_api.v1alpha1 import RETRY_AT
from subterra_jobs.errors import InvalidInputError, ProviderBlockedError, ProviderUnavailableError, StageError
from subterra_jobs.llm.account import Account
from subterra_jobs.llm.client import RefusedError

_MONEY = re.compile(r"credit balance|billing|spend(ing)? limit|usage limits?|payment|quota", re.IGNORECASE)
_RETRIED_STATUS = frozenset({408, 409, 425, 429})
_QUOTE_LENGTH = 200


def classify(error: RefusedError, account: Account) -> StageError | None:
    """The failure that ends the stage, with its fix; `None` when a retry may help."""
    quote = provider_message(error, account.key)
    if error.status is None or error.status >= 500:
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
    if error.status == 404:
        return InvalidInputError(f"the provider does not know model {account.model!r} ({quote}); correct {account.field}.model")
    return InvalidInputError(f"the provider refuses the request (HTTP {error.status}, {quote}); correct the procedure's texts")


def unavailable(error: RefusedError, patience: float) -> ProviderUnavailableError:
    """The failure that ends the stage after `patience` seconds of retries."""
    last = error.kind if error.status is None else f"HTTP {error.status}"
    return ProviderUnavailableError(
        f"the provider did not answer for {patience:.0f} s (last: {last}); the run will be retried, and paid responses are kept"
    )


def provider_message(error: RefusedError, key: str) -> str:
    """The provider's message, as one short line without the key."""
    return (error.message.replace(key, "***") if key else error.message)[:_QUOTE_LENGTH]


def _lacks_credit(error: RefusedError) -> bool:
    """True when no waiting helps. One provider reports an exhausted account as 429 too."""
    if error.status == 402 or "insufficient_quota" in error.message:
        return True
    return error.status in (400, 403) and _MONEY.search(error.message) is not None
