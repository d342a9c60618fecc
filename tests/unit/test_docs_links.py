"""The documentation points at what exists: links, anchors, paths in backticks, tests by name; its procedures are valid."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from subterra_cli.main import app
from subterra_operator.monitoring.metrics import REGISTRY
from subterra_testkit.repository import ROOT

PAGES = sorted(
    page
    for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("*/README.md"), *ROOT.glob("examples/**/*.md")]
    if page.parts[len(ROOT.parts)] not in {".venv", ".uv", "out", "node_modules"}
)
FOLDERS = "api|core|operator|jobs|cli|charts|crds|cluster|demo|docs|examples|gitops|images|release|testkit|tests|bench"
WIDTH = 120

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def prose(page: Path) -> str:
    """The page without its code blocks."""
    return re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.S | re.M)


def anchors(page: Path) -> set[str]:
    """Anchors of the page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.M)
    plain = [re.sub(r"\[(.+?)\]\(.+?\)", r"\1", heading).lower() for heading in headings]
    return {re.sub(r"[^\w\- ]", "", heading).strip().replace(" ", "-") for heading in plain}


def links(page: Path) -> Iterator[str]:
    """Targets of the page's links and pictures that are not on the web."""
    text = re.sub(r"`[^`\n]*`", "", prose(page))
    targets = [*re.findall(r"\]\(([^)\s]+)\)", text), *re.findall(r'(?:src|srcset|href)="([^"]+)"', text)]
    yield from (target for target in targets if not re.match(r"[a-z]+:", target))


@each_page
def test_every_link_leads_somewhere(page: Path) -> None:
    broken = []
    for target in links(page):
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or (anchor and file.suffix == ".md" and anchor not in anchors(file)):
            broken.append(target)
    assert broken == []


@each_page
def test_every_path_in_backticks_exists(page: Path) -> None:
    """Paths start at the root of the repository, or at the page's own folder. ``*`` and ``…`` stand for any name."""
    named = re.findall(rf"`((?:{FOLDERS})/[\w.\-/*…]+)`", prose(page))
    globs = {path: path.replace("…", "*").rstrip("/") for path in named}
    missing = [path for path, pattern in globs.items() if not any(ROOT.glob(pattern)) and not any(page.parent.glob(pattern))]
    assert missing == []


@pytest.mark.parametrize(("name", "least"), [("promises", 60), ("cases", 40)])
def test_every_test_that_a_page_names_exists(name: str, least: int) -> None:
    page = (ROOT / f"docs/contributing/{name}.md").read_text()
    sources = "\n".join(file.read_text() for file in (ROOT / "tests").rglob("test_*.py"))
    defined = set(re.findall(r"def test_(\w+)\(", sources))
    named = re.findall(r"(?<![*\w])\*([a-z0-9][^*\n]+)\*(?!\*)", page)
    assert len(named) > least
    assert [name for name in named if re.sub(r"\W+", "_", name.replace("'", "")) not in defined] == []


@each_page
def test_lines_wrap(page: Path) -> None:
    """Tables and links cannot be wrapped; all else is read in an editor, too."""
    long = [line for line in prose(page).splitlines() if len(line) > WIDTH and not line.startswith("|") and "](" not in line]
    assert long == []


def procedures() -> Iterator[tuple[str, str]]:
    """Complete Procedures in the pages' YAML blocks."""
    for page in PAGES:
        for block in re.findall(r"^```yaml\n(.*?)^```$", page.read_text(), re.S | re.M):
            if re.search(r"^kind: Procedure$", block, re.M) and "…" not in block:
                yield str(page.relative_to(ROOT)), block


def test_procedures_on_the_pages_are_valid(tmp_path: Path) -> None:
    found = [*procedures()]
    assert found
    for number, (name, block) in enumerate(found):
        documents = [document for document in yaml.safe_load_all(block) if document["kind"] == "Procedure"]
        file = tmp_path / f"{number}.yaml"
        file.write_text(yaml.safe_dump(documents[0]))
        result = CliRunner().invoke(app, ["lint", str(file)])
        assert (result.exit_code, "warning" in result.output) == (0, False), f"{name}: {result.output}"


@each_page
def test_every_make_target_exists(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    named = set(re.findall(r"(?:`|^|\(|&& )make (?:-s )?([a-z-]+)", page.read_text(), re.M))
    assert named - targets == set()


def test_every_metric_of_the_operator_is_on_its_page() -> None:
    page = (ROOT / "docs/reference/metrics.md").read_text()
    names = [metric.name for metric in REGISTRY.collect() if not metric.name.startswith("process_")]
    assert [name for name in names if name not in page] == []


def test_every_decision_record_is_in_the_index() -> None:
    folder = ROOT / "docs/contributing/adr"
    index = (folder / "README.md").read_text()
    for record in folder.glob("[0-9]*.md"):
        number, title = re.findall(r"^# (\d+) · (.+)$", record.read_text(), re.M)[0]
        assert f"| [{number}]({record.name}) | {title} |" in index
