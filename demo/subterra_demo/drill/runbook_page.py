"""The runbooks as the drill prints them. Pure."""

import re

LINK = re.compile(r"\[([^\]]*)\]\([^)]*\)")
PARTS = ("Look at", "Do")


def section(page: str, alert: str) -> str:
    """The alert's section of the page. Raises KeyError."""
    return {part.split("\n", 1)[0]: part.split("\n", 1)[1] for part in page.split("\n## ")[1:]}[alert]


def advice(page: str, alert: str) -> dict[str, str]:
    """What the runbook says to look at and to do, without links. Raises KeyError."""
    words = LINK.sub(r"\1", section(page, alert))
    found = re.split(r"\*\*(Means|Look at|Do)\*\* ", words)[1:]
    parts = dict(zip(found[::2], found[1::2], strict=True))
    return {part: parts[part].strip() for part in PARTS}
