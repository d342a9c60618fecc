"""What the status of a decision says."""

from subterra_operator.decide.decision import Decision


def condition(decision: Decision, kind: str) -> tuple[str, str]:
    """Status and reason of a condition."""
    assert decision.status
    found = next(item for item in decision.status["conditions"] if item["type"] == kind)
    return found["status"], found["reason"]


def message(decision: Decision, kind: str) -> str:
    """The message of a condition."""
    assert decision.status
    return str(next(item for item in decision.status["conditions"] if item["type"] == kind)["message"])
