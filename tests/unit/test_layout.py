"""Rules about the tree itself."""

import subprocess
from collections import defaultdict
from collections.abc import Iterator
from pathlib import PurePosixPath

import pytest

from subterra_testkit.repository import ROOT

PRODUCT = ("api", "core", "operator", "jobs", "cli")
SOURCES = (*PRODUCT, "cluster", "demo", "release", "testkit")
LARGEST_FOLDER = 14
SERIES = {"docs/contributing/adr"}
"""Folders that grow by one numbered file at a time and have an index."""
LARGEST_MODULE = 400
SAME_SUBJECT = {
    "__init__",
    "__main__",
    "main",
    "cost_estimate",  # of one request, of a dataset, of an evaluation
    "environment",  # the names of a stage's variables, and the reading of them
    "errors",  # of jobs, of commands
    "procedure",  # the kind, and the decision about it
    "progress",  # of any stage, of an evaluation
    "status",  # of an agent, of a run
    "verify",  # the second is the first's old name, which pods of earlier releases run
}
"""Module names that may stand twice, for one subject seen from two packages."""


def _tracked(*folders: str) -> Iterator[PurePosixPath]:
    command = ["git", "ls-files", "-co", "--exclude-standard", *folders]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("this is no git checkout")
    return (PurePosixPath(line) for line in listed.stdout.splitlines() if (ROOT / line).is_file())


def test_operator_is_a_folder_and_never_a_package() -> None:
    """A package of that name would shadow the standard library's ``operator``."""
    assert not (ROOT / "operator/__init__.py").exists()


def test_no_module_grows_beyond_400_lines() -> None:
    modules = [file for file in _tracked(*SOURCES) if file.suffix == ".py"]
    assert [str(file) for file in modules if len((ROOT / file).read_text().splitlines()) > LARGEST_MODULE] == []


def test_no_folder_has_more_entries_than_a_reader_takes_in_at_a_glance() -> None:
    entries = defaultdict[str, set[str]](set)
    for file in _tracked(*SOURCES, "tests", "bench", "docs", "examples", "images", "charts"):
        for folder in file.parents[:-1]:
            entries[str(folder)].add(file.relative_to(folder).parts[0])
    assert {folder: len(found) for folder, found in entries.items() if len(found) > LARGEST_FOLDER and folder not in SERIES} == {}


def test_no_module_name_is_used_for_two_subjects() -> None:
    """Who searches for a file by its name finds one. A module in ``commands`` has the name of its command."""
    places = defaultdict[str, list[str]](list)
    for file in _tracked(*SOURCES):
        if file.suffix == ".py" and file.stem not in SAME_SUBJECT and "commands" not in file.parts:
            places[file.stem].append(str(file))
    assert {name: files for name, files in places.items() if len(files) > 1} == {}
