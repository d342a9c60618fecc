"""The drill's result: a table in Markdown. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from subterra_demo.drill.fault import Fault

_HEAD = ("fault", "alert", "fires after", "cause on the page after", "what the page shows", "fix by the runbook", "resolves after")


@dataclass(frozen=True)
class Outcome:
    """What became of one fault; a time is `None` if it never came."""

    fault: Fault
    fired: float | None = None
    """Seconds from the injection to the alert."""
    shown: float | None = None
    """Seconds from the injection until the page showed the cause."""
    resolved: float | None = None
    """Seconds from the start of the fix until the alert was gone."""
    trouble: str = ""
    """Why the drill of this fault ended early."""

    @property
    def passed(self) -> bool:
        """Whether the fault was found, explained and repaired."""
        return not self.trouble and None not in (self.fired, self.shown, self.resolved)


def table(outcomes: Sequence[Outcome]) -> str:
    """One row for each fault."""
    rows = [_row(_HEAD), "|" + "---|" * len(_HEAD), *(_row(_cells(each)) for each in outcomes)]
    return "\n".join(rows) + "\n"


def document(outcomes: Sequence[Outcome], about: str) -> str:
    """The file `out/drill.md`; ``about`` says when, where and on which time scale."""
    passed = sum(each.passed for each in outcomes)
    return f"# Fire drill\n\n{about}\n\n{passed} of {len(outcomes)} faults found, explained and repaired.\n\n{table(outcomes)}"


def _cells(outcome: Outcome) -> tuple[str, ...]:
    fault = outcome.fault
    return (
        f"{fault.name}: {fault.what}",
        fault.alert,
        _seconds(outcome.fired),
        _seconds(outcome.shown),
        fault.shows,
        f"`{fault.fixed_by}`",
        outcome.trouble or _seconds(outcome.resolved),
    )


def _seconds(found: float | None) -> str:
    return "never" if found is None else f"{found:.0f} s"


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(" ".join(cell.replace("|", "\\|").split()) for cell in cells) + " |"
