"""Data files of the locales."""

from functools import cache
from pathlib import Path
from typing import Any

import yaml

LOCALES = Path(__file__).with_name("locales")


@cache
def locale_data(name: str, locale: str = "en", locales: Path = LOCALES) -> dict[str, Any]:
    """The content of a locale's file ``name.yaml``."""
    content: dict[str, Any] = yaml.safe_load((locales / locale / f"{name}.yaml").read_text("utf-8"))
    return content
