"""Commands of the documentation, so that tests run what readers are told to type."""

import re
from pathlib import Path


def commands(page: Path, heading: str) -> list[str]:
    """Lines of the shell blocks below a heading of any level, up to the next heading; a block's loops are one line each."""
    section = re.search(rf"^#+ {re.escape(heading)}$(.*?)(?=^#+ |\Z)", _without_comment_headings(page.read_text()), re.M | re.S)
    if section is None:
        raise LookupError(f"{page.name} has no heading {heading!r}")
    blocks = re.findall(r"^```sh$(.*?)^```$", section[1], re.M | re.S)
    return [line for block in blocks for line in _lines(block)]


def _without_comment_headings(text: str) -> str:
    """The page with shell comments indented, which would look like headings."""
    return re.sub(r"^```.*?^```$", lambda block: re.sub(r"^#", " #", block[0], flags=re.M), text, flags=re.M | re.S)


def _lines(block: str) -> list[str]:
    whole = re.sub(r"^for .*?^done$", lambda loop: loop[0].replace("\n", "\0"), block.replace("\\\n", " "), flags=re.M | re.S)
    lines = [line.strip().replace("\0", "\n") for line in whole.splitlines()]
    return [line for line in lines if line and not line.startswith("#")]
