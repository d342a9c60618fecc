"""Data files of the locales."""

from functools import cache
from pathlib import Path
from typing import Any

import yaml

LOCALES = Path(__file__).with_name("locales")
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml's where PyYAML has it: ten times as fast."""


@cache
def locale_data(name: str, locale: str = "en", locales: Path = LOCALES) -> dict[str, Any]:
    """The content of a locale's file ``name.yaml``."""
    return read_yaml(locales / locale / f"{name}.yaml")


def read_yaml(file: Path) -> dict[str, Any]:
    """The content of a data file."""
    content: dict[str, Any] = yaml.load(file.read_text("utf-8"), _LOADER)  # noqa: S506 - a safe loader of either kind
    return content
