"""Hosted models that examples and pages recommend, and which of them end too soon.

Run it for today with `make check-models`: no test asks for today's date, so none begins to fail overnight.
"""

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from subterra_core.hosted_models.catalog import hosted_models, lives_until, model_named
from subterra_testkit.repository import ROOT

DAYS = 60
"""How long a recommended model has to live on."""
RECOMMENDING = ("README.md", "docs/**/*.md", "examples/**/*.yaml", "charts/subterra/values.yaml")
HISTORY = {
    "docs/guides/costs-and-budgets.md": {"claude-sonnet-4-5"},
    "docs/guides/evaluation-and-gate.md": {"claude-sonnet-4-5", "gpt-4.1"},
    "docs/guides/hosted-models.md": {"gpt-4.1"},
}
"""Names that a page has as history or as an example of one that ends."""
_NAMES = sorted((name for model in hosted_models() for name in (model.name, *model.aliases)), key=len, reverse=True)
_NAME = re.compile(rf"(?<![\w.-])({'|'.join(map(re.escape, _NAMES))})(-\d{{8}}|-\d{{4}}-\d\d-\d\d)?(?![\w-]|\.\d)")


@dataclass(frozen=True)
class Recommendation:
    """A model that a file names."""

    file: str
    line: int
    name: str


def names_in(text: str) -> Iterator[tuple[int, str]]:
    """Line and name of each known model in `text`."""
    for number, line in enumerate(text.splitlines(), 1):
        for match in _NAME.finditer(line):
            yield number, match[0]


def recommendations(root: Path = ROOT) -> Iterator[Recommendation]:
    """Models that examples and pages name, except as history."""
    for pattern in RECOMMENDING:
        for path in sorted(root.glob(pattern)):
            file = path.relative_to(root).as_posix()
            for line, name in names_in(path.read_text()):
                if name not in HISTORY.get(file, ()):
                    yield Recommendation(file, line, name)


def ends_too_soon(recommendation: Recommendation, today: date) -> str | None:
    """What is wrong with the recommendation; None if its model certainly lives on for `DAYS`."""
    model = model_named(recommendation.name)
    assert model is not None
    last = lives_until(model)
    if last is None or last >= today + timedelta(days=DAYS):
        return None
    use = f"; use {model.replacement}" if model.replacement else ""
    return f"{recommendation.file}:{recommendation.line}: {recommendation.name} lives until {last} for certain{use}"


def main(today: date) -> int:
    """Prints what is wrong; 1 if something is."""
    problems = [problem for each in recommendations() if (problem := ends_too_soon(each, today))]
    print("\n".join(problems) or f"all recommended models live {DAYS} days beyond {today}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(datetime.now(UTC).date()))
