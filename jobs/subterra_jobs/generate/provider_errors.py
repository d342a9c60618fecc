"""What the provider's refusals mean for the run. Pure."""

import re

import anthropic

from subterra_jobs.common.errors import InvalidInputError, ProviderBlockedError, ProviderUnavailableError, StageError

_MONEY = re.compile(r"credit balance|billing|spend(ing)? limit|usage limits?|payment", re.IGNORECASE)
_AGAIN = frozenset({408, 409, 425, 429})
_QUOTE_LENGTH = 200


def judge(error: anthropic.APIError, model: str, key: str) -> StageError | None:
    """The failure that ends the stage, with its cure; none when another try may help."""
    if not isinstance(error, anthropic.APIStatusError) or error.status_code in _AGAIN or error.status_code >= 500:
        return None
    said = quote(error, key)
    if error.status_code == 402 or (error.status_code in (400, 403) and _MONEY.search(error.message)):
        return ProviderBlockedError(
            f"the provider refuses for lack of credit or a spend limit ({said}); top up or raise the limit at the provider, "
            "then set subterra.dev/retryAt: what is paid is kept"
        )
    if error.status_code in (401, 403):
        return ProviderBlockedError(
            f"the provider refuses the key (HTTP {error.status_code}, {said}); correct the Secret named by execution.apiKeySecret, "
            "then set subterra.dev/retryAt"
        )
    if error.status_code == 404:
        return InvalidInputError(f"the provider does not know model {model!r} ({said}); correct generation.teacher.model")
    return InvalidInputError(f"the provider refuses the request (HTTP {error.status_code}, {said}); correct the procedure's texts")


def unavailable(error: anthropic.APIError, patience: float) -> ProviderUnavailableError:
    """What is said when patience ran out."""
    what = f"HTTP {error.status_code}" if isinstance(error, anthropic.APIStatusError) else type(error).__name__
    return ProviderUnavailableError(
        f"the provider did not answer for {patience:.0f} s (last: {what}); the run is tried again, and what is paid is kept"
    )


def retry_after(error: anthropic.APIError) -> float | None:
    """Seconds that the provider asks to wait; none when it does not say. Dates are not used by this API."""
    if not isinstance(error, anthropic.APIStatusError):
        return None
    try:
        seconds = float(error.response.headers.get("retry-after", ""))
    except ValueError:
        return None
    return seconds if 0 <= seconds < float("inf") else None


def may_have_been_paid(error: anthropic.APIError) -> bool:
    """Whether the provider may have finished a call that we gave up: only when it was sent and our own timeout cut it.

    A connection that the provider cut brought no answer; providers bill answers.
    """
    return isinstance(error, anthropic.APITimeoutError) and type(error.__cause__).__name__ not in ("ConnectTimeout", "PoolTimeout")


def quote(error: anthropic.APIError, key: str) -> str:
    """The provider's words, one short line, without the key."""
    text = " ".join(error.message.split())
    return (text.replace(key, "***") if key else text)[:_QUOTE_LENGTH]
