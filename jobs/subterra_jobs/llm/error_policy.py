"""What a provider's refusals mean for the run. Pure."""

import re

from subterra_jobs.errors import InvalidInputError, ProviderBlockedError, ProviderUnavailableError, StageError
from subterra_jobs.llm.account import Account
from subterra_jobs.llm.client import RefusedError

_MONEY = re.compile(r"credit balance|billing|spend(ing)? limit|usage limits?|payment|quota", re.IGNORECASE)
_AGAIN = frozenset({408, 409, 425, 429})
_QUOTE_LENGTH = 200


def judge(error: RefusedError, account: Account) -> StageError | None:
    """The failure that ends the stage, with its cure; none when another try may help."""
    said = quote(error, account.key)
    if error.status is None or error.status >= 500:
        return None
    # One provider tells a used-up account as 429 too; no waiting helps there.
    if error.status == 402 or (error.status in (400, 403) and _MONEY.search(error.said)) or "insufficient_quota" in error.said:
        return ProviderBlockedError(
            f"the provider refuses for lack of credit or a spend limit ({said}); top up or raise the limit at the provider, "
            "then set subterra.dev/retryAt: what is paid is kept"
        )
    if error.status in _AGAIN:
        return None
    if error.status in (401, 403):
        return ProviderBlockedError(
            f"the provider refuses the key (HTTP {error.status}, {said}); correct the Secret named by execution.apiKeySecret, "
            "then set subterra.dev/retryAt"
        )
    if error.status == 404:
        return InvalidInputError(f"the provider does not know model {account.model!r} ({said}); correct {account.field}.model")
    return InvalidInputError(f"the provider refuses the request (HTTP {error.status}, {said}); correct the procedure's texts")


def unavailable(error: RefusedError, patience: float) -> ProviderUnavailableError:
    """What is said when patience ran out."""
    what = error.what if error.status is None else f"HTTP {error.status}"
    return ProviderUnavailableError(
        f"the provider did not answer for {patience:.0f} s (last: {what}); the run is tried again, and what is paid is kept"
    )


def quote(error: RefusedError, key: str) -> str:
    """The provider's words, one short line, without the key."""
    return (error.said.replace(key, "***") if key else error.said)[:_QUOTE_LENGTH]
