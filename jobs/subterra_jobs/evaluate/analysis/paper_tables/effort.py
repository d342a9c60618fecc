"""Turns, words, questions, seconds, tokens and dollars of a conversation by arm, with ratios. Pure.

Providers charge for their replies; a model on own hardware is priced by the paper's assumptions (A100 at $2.50 an hour, 15,000
tokens read and 3,000 written a second), because an evaluation's load says little about a production server's.
"""

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from subterra_core.pricing import TokenPrice, call_cost
from subterra_core.serving_costs.serving_price import throughput_price
from subterra_jobs.evaluate.analysis.arms import cost_per_conversation, question_count
from subterra_jobs.evaluate.judge.results import ArmResults, Result
from subterra_jobs.evaluate.simulate.participants import CANDIDATE
from subterra_jobs.evaluate.simulate.vllm_client import Reply

USD_PER_HOUR, READ_PER_SECOND, WRITTEN_PER_SECOND = Decimal("2.5"), Decimal(15_000), Decimal(3_000)
Figures = dict[str, Any]


def paper_price() -> TokenPrice:
    """US dollars per million tokens on own hardware, by the paper's assumptions: about 0.05 read and 0.23 written."""
    read, written = (throughput_price(USD_PER_HOUR, each) for each in (READ_PER_SECOND, WRITTEN_PER_SECOND))
    return TokenPrice(read, written, read, read)


def effort_of(results: Sequence[Result]) -> Figures:
    """Means per finished conversation of one arm; `None` where nothing was measured."""
    finished = [result.conversation.replies for result in results if result.conversation.error is None]

    def mean(amount: Callable[[Reply], float]) -> float | None:
        return round(sum(amount(reply) for replies in finished for reply in replies) / len(finished), 4) if finished else None

    takes = cost_per_conversation(results)
    charged = takes["usd"] or None
    return {
        "conversations": len(finished),
        "turns": takes["turns"],
        "words": mean(lambda reply: len(reply.text.split())),
        "wordsPerTurn": takes["words"],
        "questions": mean(lambda reply: question_count(reply.text)),
        "calls": mean(lambda reply: reply.calls),
        "seconds": takes["seconds"],
        "secondsPerTurn": takes["secondsPerReply"],
        "tokensIn": takes["promptTokens"],
        "cacheRead": mean(lambda reply: reply.cache_read),
        "tokensOut": takes["completionTokens"],
        "usd": charged or _own_usd(takes["promptTokens"], takes["completionTokens"]),
        "ownHardware": charged is None,
    }


def _own_usd(read: float | None, written: float | None) -> float | None:
    if not read or not written:
        return None
    return round(float(call_cost(paper_price(), Decimal(str(read)), Decimal(str(written)))), 9)


def with_ratios(efforts: Mapping[str, Figures], reference: str | None) -> dict[str, Figures]:
    """The figures with ratios of time and tokens to the in-context arm, and of dollars to the candidate."""
    against, candidate = efforts.get(reference or ""), efforts[CANDIDATE]
    return {
        arm: figures
        | {
            "secondsRatio": against and ratio(figures["seconds"], against["seconds"]),
            "tokensInRatio": against and ratio(figures["tokensIn"], against["tokensIn"]),
            "tokensOutRatio": against and ratio(figures["tokensOut"], against["tokensOut"]),
            "timesCandidateUsd": ratio(figures["usd"], candidate["usd"]),
        }
        for arm, figures in efforts.items()
    }


def ratio(amount: float | None, of: float | None) -> float | None:
    """`amount` divided by `of`; `None` when either is missing or zero."""
    return round(amount / of, 4) if amount and of else None


def effort_table(arms: ArmResults, reference: str | None) -> dict[str, Figures]:
    """Figures and ratios of every arm."""
    return with_ratios({arm: effort_of(results) for arm, results in arms.items()}, reference)
