"""Rule judge: five criteria from 1 to 5, each level with an anchor that two people would apply alike.

| | Task Success | Information Accuracy | Consistency |
|---|---|---|---|
| 5 | every step as prescribed, to the right terminal | every value repeated exactly | no contradiction, no needless question |
| 4 | right terminal, after a slip | at least 90 % exact | one step repeated without need |
| 3 | a wrong terminal, or the right one too early | at least 75 % exact | one contradiction, or two repetitions |
| 2 | no terminal, but some step as prescribed | at least 50 % exact | as 3, and one repetition more |
| 1 | no step as prescribed, or no conversation | less, or no reply recognized | worse, or no reply recognized |

| | Graceful Handling (of loops and changes of mind) | Naturalness |
|---|---|---|
| 5 | every challenge answered right, to the right terminal | every reply a clean utterance of the procedure |
| 4 | every challenge answered right, the rest not | at least 90 % |
| 3 | most challenges answered right; cap without a challenge | at least 70 % |
| 2 | a challenge answered right, or back on track after it | at least 40 % |
| 1 | no challenge answered right, and lost after it | less |

A *challenge* is a customer turn that leads into a loop: the procedure returns to a node. A reply is *clean* when it is recognized,
complete, not stuck repeating words, and not a needless repetition of a step.
"""

import re
from collections.abc import Sequence

from subterra_api.unicode_forms import alike
from subterra_core.procedure.graph import Path
from subterra_jobs.evaluate.judge.conformance import CheckedTurn, Replay
from subterra_jobs.evaluate.judge.results import (
    ACCURACY,
    CONSISTENCY,
    CRITERIA,
    GRACEFUL,
    NATURAL,
    TASK,
    UNCHALLENGED_CAP,
    Judgement,
)
from subterra_jobs.evaluate.simulate.conversation import Conversation

_STUCK = re.compile(r"\b(\w+(?:\W+\w+){0,3})\W+\1\b")
"""Words repeated immediately."""


def judge_by_rules(path: Path, lines: Sequence[str], conversation: Conversation, replay: Replay) -> Judgement:
    """Judgement of one conversation. A failed conversation scores 1 on every criterion."""
    challenges = challenged_turns(path, replay)
    if conversation.error is not None:
        return Judgement(dict.fromkeys(CRITERIA, 1), bool(challenges), ())
    clean = clean_replies(lines, conversation, replay)
    scores = {
        TASK: task_success(replay),
        ACCURACY: information_accuracy(replay),
        CONSISTENCY: consistency(replay),
        GRACEFUL: graceful_handling(replay, challenges),
        NATURAL: _level(sum(clean) / len(clean), (1, 0.9, 0.7, 0.4)) if clean else 1,
    }
    return Judgement(scores, bool(challenges), clean)


def _level(share: float, floors: tuple[float, float, float, float]) -> int:
    """5 down to 2 for the first floor reached, else 1."""
    return next((5 - i for i, floor in enumerate(floors) if share >= floor), 1)


def task_success(replay: Replay) -> int:
    """Level by conformance alone."""
    if replay.conformant:
        return 5
    if replay.arrived:
        return 4
    if replay.reached is not None:
        return 3
    return 2 if any(turn.right for turn in replay.turns) else 1


def information_accuracy(replay: Replay) -> int:
    """Level by the share of values repeated exactly; 5 when there was nothing to repeat."""
    if not any(turn.label for turn in replay.turns):
        return 1
    exact = [mention.exact for mention in replay.mentions]
    return _level(sum(exact) / len(exact), (1, 0.9, 0.75, 0.5)) if exact else 5


def consistency(replay: Replay) -> int:
    """Level by contradictions, which weigh 2, and needless repetitions, which weigh 1."""
    if not any(turn.label for turn in replay.turns):
        return 1
    said: dict[str, set[str]] = {}
    for mention in replay.mentions:
        said.setdefault(mention.variable, set()).add(alike(mention.said))
    contradictions = sum(len(values) - 1 for values in said.values())
    return max(1, 5 - 2 * contradictions - sum(repetitions(replay.turns)))


def repetitions(turns: Sequence[CheckedTurn]) -> list[bool]:
    """For each turn, whether it repeats the previous step although another is prescribed."""
    previous = [None, *(turn.label for turn in turns)]
    return [
        turn.label is not None and before is not None and not turn.right and turn.label.nodes == before.nodes
        for turn, before in zip(turns, previous, strict=False)
    ]


def challenged_turns(path: Path, replay: Replay) -> list[int]:
    """Indexes of agent turns inside a loop: some node of the path comes both before the turn and at or after it."""
    starts = [turn.prescribed.indexes[0] for turn in replay.turns]
    return [index for index, start in enumerate(starts) if set(path[:start]) & set(path[start:])]


def graceful_handling(replay: Replay, challenges: Sequence[int]) -> int:
    """Level by the replies inside loops; capped when there are none."""
    right = [replay.turns[index].right for index in challenges]
    if not right:
        return min(UNCHALLENGED_CAP, task_success(replay))
    if all(right):
        return 5 if replay.arrived else 4
    if sum(right) > len(right) / 2:
        return 3
    recovered = any(turn.right for turn in replay.turns[challenges[0] + 1 :])
    return 2 if any(right) or recovered else 1


def clean_replies(lines: Sequence[str], conversation: Conversation, replay: Replay) -> tuple[bool, ...]:
    """For each reply of the agent, whether it is clean."""
    customer_words = " ".join(lines)
    again = repetitions(replay.turns)
    return tuple(
        turn.label is not None and reply.finish_reason != "length" and not repeated and not _stuck(reply.text, customer_words)
        for turn, reply, repeated in zip(replay.turns, conversation.replies, again, strict=False)
    )


def _stuck(reply: str, customer_words: str) -> bool:
    """Whether words repeat that the customer did not repeat: "Ho Chi Minh Chi Minh" is stuck, "Bora Bora" is a place."""
    return any(match.group(0) not in alike(customer_words) for match in _STUCK.finditer(alike(reply)))
