"""What a stage's status takes over from the progress that its pod reports. Pure."""

from collections.abc import Mapping
from decimal import Decimal

from subterra_api.job_contract.messages import Progress
from subterra_api.v1alpha1.compilerun import StageStatus
from subterra_operator.decide.decision import truncate

_FIGURES = ("percent", "eta_seconds", "usd", "tokens")


def reported(progress: Progress, recorded: StageStatus) -> dict[str, object]:
    """The fields to update.

    An attempt after a disruption begins with the finished work, so its percentage is no progress until it exceeds the one that
    earlier attempts reached; then the row of disruptions is over. What is paid stays paid, although a pod that has just started
    has not read the ledger and reports nothing.
    """
    best = recorded.percent if recorded.disruptions else 0
    paid = _dollars(recorded.usd) > _dollars(progress.usd)
    return {
        "percent": max(best, progress.percent),
        "disruptions": None if progress.percent > best else recorded.disruptions,
        "eta_seconds": progress.eta_seconds,
        "usd": recorded.usd if paid else progress.usd,
        "tokens": recorded.tokens if paid else progress.tokens,
    }


def _dollars(amount: str | None) -> Decimal:
    """The amount; 0 for what is none, since a pod may report anything."""
    try:
        found = Decimal(amount or "0")
    except ArithmeticError:
        return Decimal(0)
    return found if found.is_finite() else Decimal(0)


def is_news(update: Mapping[str, object], recorded: StageStatus, said: str | None) -> bool:
    """Whether a report says anything that the status has not recorded; `said` is its message."""
    return any(update[name] != getattr(recorded, name) for name in _FIGURES) or update["message"] == said != recorded.message


def progress_message(progress: Progress) -> str | None:
    """Such as `212 of 2,125 conversations, loss 0.356`; `None` if there is nothing to say."""
    done = f"{progress.done:,} of {progress.planned:,} {progress.unit}" if progress.planned else ""
    return truncate(", ".join(filter(None, (done, progress.message)))) or None
