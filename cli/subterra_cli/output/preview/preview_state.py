"""What the page of `subterra edit` shows, as a value: each save makes the next one from the last. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from subterra_cli.files.lint_report import LintReport
from subterra_cli.files.load_procedure import LoadedProcedure
from subterra_core.procedure.lint.findings import Finding


@dataclass(frozen=True)
class ShownTurn:
    """A message of a conversation. `kind` is a CSS class: customer, agent, call or result."""

    kind: str
    nodes: tuple[str, ...]
    text: str


@dataclass(frozen=True)
class ShownConversation:
    """A sampled conversation with its plan in words and what the checks found."""

    heading: str
    facts: tuple[str, ...]
    turns: tuple[ShownTurn, ...]
    remarks: tuple[str, ...]


@dataclass(frozen=True)
class ShownSample:
    """Sampled conversations, or in `problem` why there are none."""

    conversations: tuple[ShownConversation, ...] = ()
    problem: str = ""


@dataclass(frozen=True)
class Preview:
    """The file as it was saved last, and the newest version of its procedure without errors."""

    file: str
    findings: tuple[tuple[int, Finding], ...]
    """Each with its line."""
    procedure: LoadedProcedure | None = None
    """`None` until there was a version without errors."""
    is_current: bool = False
    """Whether `procedure` is what the file has now."""
    sample: ShownSample | None = None
    """Of `procedure`; `None` until it is written."""

    @property
    def awaits_sample(self) -> bool:
        return self.is_current and self.sample is None

    def with_sample(self, sample: ShownSample) -> "Preview":
        """The same with conversations."""
        return replace(self, sample=sample)

    def count(self, severity: str) -> int:
        """Number of findings of a severity."""
        return sum(finding.severity == severity for _, finding in self.findings)


def after_save(before: Preview | None, file: str, reports: Sequence[LintReport]) -> Preview:
    """The preview of a file with these reports. A file with errors keeps the picture and the conversations of `before`."""
    findings = tuple(sorted((each for report in reports for each in report.findings), key=lambda located: located[0]))
    last, loaded = before.procedure if before else None, _loaded(file, reports)
    if loaded is None:
        return Preview(file, findings, last, is_current=False, sample=before.sample if before else None)
    is_same = last is not None and (last.name, last.spec) == (loaded.name, loaded.spec)
    return Preview(file, findings, loaded, is_current=True, sample=before.sample if before and is_same else None)


def _loaded(file: str, reports: Sequence[LintReport]) -> LoadedProcedure | None:
    """The file's first procedure; `None` if there is none, or if it has errors."""
    for report in reports:
        if report.spec is not None and report.analysis is not None and report.written is not None and not report.errors:
            return LoadedProcedure(report.name or Path(file).stem, report.spec, report.analysis, report.written)
    return None
