"""A fault of the drill: how it is injected, which alert finds it, what the page shows, and the runbook's fix."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

Board = str


@dataclass(frozen=True)
class Action:
    """A kubectl command, and what it reads from standard input."""

    words: tuple[str, ...]
    reads: str = ""

    def __str__(self) -> str:
        """As a person would type it; a script is left out."""
        words = [word if "\n" not in word else "…" for word in self.words]
        return f"kubectl {' '.join(words)}"


@dataclass(frozen=True)
class Fault:
    """One fault."""

    name: str
    what: str
    """What breaks, in one line."""
    alert: str
    labels: Mapping[str, str]
    """Labels that tell the expected alert from others of the same name."""
    board: Board
    """`uid` of the dashboard that shows the cause."""
    cause: str
    """A query that has an answer once the dashboard shows the cause."""
    shows: str
    """What the dashboard shows then."""
    advice: str
    """Words of the alert's runbook that say what to do."""
    inject: tuple[Action, ...]
    fix: tuple[Action, ...]
    undo: tuple[Action, ...]
    """Leaves nothing of the fault, whether or not it was injected and repaired."""

    @property
    def fixed_by(self) -> str:
        """The commands of the fix."""
        return "; ".join(dict.fromkeys(str(action) for action in self.fix))


def kubectl(*words: str, reads: str = "") -> Action:
    """A kubectl command."""
    return Action(words, reads)


def delete(namespace: str, *objects: str) -> Action:
    """Removes objects such as `compiledagent/x`, if they exist."""
    return kubectl("delete", *objects, "--namespace", namespace, "--ignore-not-found", "--wait=false")


def apply(namespace: str, manifests: Iterable[str]) -> Action:
    """Makes or changes objects."""
    return kubectl("apply", "--namespace", namespace, "--filename", "-", reads="\n---\n".join(manifests))
