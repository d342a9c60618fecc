"""The rule judge: five criteria from 1 to 5, each level with an anchor that two people would apply alike.

| | Task Success | Information Accuracy | Consistency |
|---|---|---|---|
| 5 | every step as prescribed, to the right terminal | every value repeated exactly | no contradiction, no needless question |
| 4 | right terminal, after a slip that it recovered from | at least 90 % exact | one step repeated without need |
| 3 | a wrong terminal, or the right one too early | at least 75 % exact | one contradiction, or two repetitions |
| 2 | no terminal, but some step as prescribed | at least 50 % exact | as 3, and one repetition more |
| 1 | no step as prescribed, or not playable | less, or no reply recognised | worse, or no reply recognised |

| | Graceful Handling (of loops and changes of mind) | Naturalness |
|---|---|---|
| 5 | every challenge answered right, to the right terminal | every reply a clean utterance of the procedure |
| 4 | every challenge answered right, the rest not | at least 90 % |
| 3 | most challenges answered right; the cap without challenge | at least 70 % |
| 2 | a challenge answered right, or back on track after it | at least 40 % |
| 1 | no challenge answered right, and lost after it | less |

A *challenge* is a turn of the customer that leads into a loop: the procedure comes back to where it was. A reply is *clean* when it
is recognised, complete, not stuck repeating words, and not the same step again without need.
"""

import re
from collections.abc import Sequence

from subterra_core.procedure.graph import Path
from subterra_jobs.evaluate.judge.conformance import Replay, Turn
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
from subterra_jobs.evaluate.simulate.simulation import Dialogue

_STUCK = re.compile(r"\b(\w+(?:\W+\w+){0,3})\W+\1\b")
"""Words that are said twice in a row."""


def judge(path: Path, lines: Sequence[str], dialogue: Dialogue, replay: Replay) -> Judgement:
    """Scores a dialogue. One that broke off has failed on every criterion: nobody was served."""
    challenges = challenged_turns(path, replay)
    if dialogue.error is not None:
        return Judgement(dict.fromkeys(CRITERIA, 1), bool(challenges), ())
    clean = clean_replies(lines, dialogue, replay)
    scores = {
        TASK: task_success(replay),
        ACCURACY: information_accuracy(replay),
        CONSISTENCY: consistency(replay),
        GRACEFUL: graceful_handling(replay, challenges),
        NATURAL: _level(sum(clean) / len(clean), (1, 0.9, 0.7, 0.4)) if clean else 1,
    }
    return Judgement(scores, bool(challenges), clean)


def _level(share: float, floors: tuple[float, float, float, float]) -> int:
    """5 down to 2 for the first floor that is reached, else 1."""
    return next((5 - i for i, floor in enumerate(floors) if share >= floor), 1)


def task_success(replay: Replay) -> int:
    """From conformance alone."""
    if replay.conformant:
        return 5
    if replay.arrived:
        return 4
    if replay.reached is not None:
        return 3
    return 2 if any(turn.right for turn in replay.turns) else 1


def information_accuracy(replay: Replay) -> int:
    """From the share of values that were repeated exactly; 5 when the procedure had nothing to repeat."""
    if not any(turn.label for turn in replay.turns):
        return 1
    exact = [mention.exact for mention in replay.mentions]
    return _level(sum(exact) / len(exact), (1, 0.9, 0.75, 0.5)) if exact else 5


def consistency(replay: Replay) -> int:
    """Contradictions weigh 2, needless repetitions 1."""
    if not any(turn.label for turn in replay.turns):
        return 1
    said: dict[str, set[str]] = {}
    for mention in replay.mentions:
        said.setdefault(mention.variable, set()).add(mention.said)
    contradictions = sum(len(values) - 1 for values in said.values())
    return max(1, 5 - 2 * contradictions - sum(repetitions(replay.turns)))


def repetitions(turns: Sequence[Turn]) -> list[bool]:
    """For each turn, whether it says the step of the turn before although the procedure wants another."""
    return [
        at > 0 and turn.label is not None and not turn.right and (before := turns[at - 1].label) is not None
        and turn.label.nodes == before.nodes
        for at, turn in enumerate(turns)
    ]  # fmt: skip


def challenged_turns(path: Path, replay: Replay) -> list[int]:
    """Agent turns inside a loop: some node comes both before them and again, at them or after them."""
    return [
        at for at, turn in enumerate(replay.turns)
        if set(path[: turn.prescribed.places[0]]) & set(path[turn.prescribed.places[0] :])
    ]  # fmt: skip


def graceful_handling(replay: Replay, challenges: Sequence[int]) -> int:
    """How the replies inside loops were; without any, capped."""
    right = [replay.turns[at].right for at in challenges]
    if not right:
        return min(UNCHALLENGED_CAP, task_success(replay))
    if all(right):
        return 5 if replay.arrived else 4
    if sum(right) > len(right) / 2:
        return 3
    recovered = any(turn.right for turn in replay.turns[challenges[0] + 1 :])
    return 2 if any(right) or recovered else 1


def clean_replies(lines: Sequence[str], dialogue: Dialogue, replay: Replay) -> tuple[bool, ...]:
    """For each of the agent's replies, whether a skilled agent could have said it."""
    heard = " ".join(lines)
    again = repetitions(replay.turns)
    return tuple(
        turn.label is not None and reply.finish_reason != "length" and not repeated and not _stuck(reply.text, heard)
        for turn, reply, repeated in zip(replay.turns, dialogue.replies, again, strict=False)
    )


def _stuck(reply: str, heard: str) -> bool:
    """Whether words repeat that the customer did not repeat: nobody says "Ho Chi Minh Chi Minh", but many go to Bora Bora."""
    return any(match.group(0) not in heard for match in _STUCK.finditer(reply))
