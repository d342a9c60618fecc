"""Kinds of arms by their names, and the arm that ratios refer to. Pure."""

from collections.abc import Iterable
from typing import Literal

from subterra_jobs.evaluate.simulate.participants import CANDIDATE, IN_CONTEXT, REFERENCES

ArmKind = Literal["compiled", "reference", "in-context", "orchestrator"]


def kind_of(arm: str) -> ArmKind:
    """The kind of the arm with this name."""
    if arm == CANDIDATE:
        return "compiled"
    if arm in REFERENCES:
        return "reference"
    return "in-context" if arm.startswith(IN_CONTEXT) else "orchestrator"


def is_baseline(arm: str) -> bool:
    """Whether the arm plays the procedure from prompts, without a compiled model."""
    return kind_of(arm) in {"in-context", "orchestrator"}


def uses_base_model(arm: str, base_model: str) -> bool:
    """Whether a baseline is played by the model that the candidate was trained from, by the name of either."""
    name = base_model.partition("://")[2] or base_model
    return is_baseline(arm) and bool(name) and name in arm


def reference_arm(arms: Iterable[str], base_model: str) -> str | None:
    """The in-context arm that ratios refer to: the first that is not the base model's, else the first; `None` without any."""
    found = sorted((arm for arm in arms if kind_of(arm) == "in-context"), key=lambda arm: uses_base_model(arm, base_model))
    return found[0] if found else None
