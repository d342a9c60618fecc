"""Fills dashboards from a Prometheus and draws them."""

import re
from collections.abc import Collection

import httpx

from subterra_cli.agents.dashboards.page import Filled, page
from subterra_cli.agents.dashboards.queries import Prometheus, Scope
from subterra_cli.errors import CommandError
from subterra_core.monitoring.dashboards import DASHBOARDS

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_TIME = re.compile(r"(\d+)([smhdw])")


def draw(boards: Collection[str], url: str, scope: Scope) -> tuple[str, list[str]]:
    """The page of dashboards by `uid`, and the titles of panels without data. Raises CommandError."""
    with httpx.Client() as client:
        server = Prometheus(url, client)
        filled = [
            Filled(board, {panel.title: server.series(panel, scope) for panel in board.panels})
            for board in DASHBOARDS
            if board.uid in boards
        ]
    empty = [title for board in filled for title, series in board.series.items() if not series]
    return page(filled, scope, f"What {url} knows"), empty


def seconds_of(text: str, option: str = "--since") -> int:
    """The seconds of a time span such as ``6h``. Raises CommandError, which names the option."""
    found = _TIME.fullmatch(text.strip())
    if found is None or not int(found.group(1)):
        raise CommandError(f"{option}: {text} is not a time span; write a number and s, m, h, d or w, such as 6h")
    return int(found.group(1)) * _SECONDS[found.group(2)]
