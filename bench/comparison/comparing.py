"""Plays and examines the arms one after the other, and keeps the page up to date."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal

from bench.comparison.arms import ArmPlan
from bench.comparison.customers import Blocks
from bench.comparison.examining import examine, write_transcripts
from bench.comparison.figures import Figures, figures_of
from bench.comparison.playing import ArmFailedError, PlaySettings, play_arm
from bench.comparison.tables import interval, page

from subterra_core.procedure.graph import Graph
from subterra_jobs.evaluate.judge.results import JudgingQuality
from subterra_jobs.evaluate.judge.rule_labeller import Labeller
from subterra_jobs.stage.cpu_limit import available_cpus

TRANSCRIPTS = "conversations.jsonl"


@dataclass(frozen=True)
class Comparison:
    """What is the same for all arms."""

    graph: Graph
    labeller: Labeller
    customers: Blocks
    settings: PlaySettings
    usd_per_hour: Decimal
    heading: Sequence[str]

    def run(self, plans: Sequence[ArmPlan], subject: str, write: Callable[[str], object]) -> bool:
        """Writes the page after every arm, so that no later failure loses what was measured. False if an arm failed."""
        rows, failures = list[Figures](), list[str]()
        for plan in plans:
            try:
                rows.append(self._measure(plan))
            except ArmFailedError as error:
                self.settings.progress.say(str(error))
                failures.append(str(error))
            write(page(self.heading, rows, failures, subject))
        return not failures

    def _measure(self, plan: ArmPlan) -> Figures:
        played = play_arm(plan, self.customers, self.settings)
        examined = examine(self.graph, self.labeller, self.customers, played)
        write_transcripts(examined, self.settings.folder / plan.name / TRANSCRIPTS)
        figures = figures_of(plan, played, examined, self.usd_per_hour)
        found = "; ".join(f"{block}: conformant {interval(share)}" for block, share in figures.conformant.items())
        self.settings.progress.say(f"{plan.name}: {found}")
        return figures


def heading(
    procedure: str, customers: Blocks, settings: PlaySettings, usd_per_hour: Decimal, quality: JudgingQuality
) -> Iterator[str]:
    """How the figures came about."""
    blocks = " and ".join(f"{len(scenarios)} with {block}" for block, scenarios in customers.items())
    yield f"- `{procedure}`, customers of seed {settings.seed}: {blocks}; conversations at a time: {settings.concurrency}"
    load = os.getloadavg()[0]
    yield f"- {available_cpus()} CPUs, load average before the first arm {load:.1f}; USD {usd_per_hour} an hour of busy time"
    yield f"- steps labelled by {quality.labeller}"
    if quality.accuracy is not None:
        yield f"- … alone, on held-out conversations with known steps: agent's turns {interval(quality.accuracy.agent)},"
        yield f"  conversations without any wrong label {interval(quality.accuracy.conversations)}"
