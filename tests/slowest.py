"""Prints the slowest tests of JUnit files: ``python -m tests.slowest FILE.xml…``."""

import sys
from collections.abc import Iterable
from pathlib import Path
from xml.etree import ElementTree

SHOWN = 10


def seconds(files: Iterable[Path]) -> dict[str, float]:
    """Seconds that each test took, by name."""
    cases = (case for file in files for case in ElementTree.parse(file).iter("testcase"))
    return {f"{case.get('classname')}.{case.get('name')}": float(case.get("time", 0)) for case in cases}


def table(tests: dict[str, float]) -> str:
    """The `SHOWN` slowest tests and the sum of all, a line each."""
    slowest = sorted(tests.items(), key=lambda item: -item[1])[:SHOWN]
    rows = [f"{took:8.1f} s  {name.removeprefix('tests.')}" for name, took in slowest]
    return "\n".join([*rows, f"{sum(tests.values()):8.1f} s  in {len(tests)} tests, one after the other"])


if __name__ == "__main__":
    print(table(seconds(map(Path, sys.argv[1:]))))
