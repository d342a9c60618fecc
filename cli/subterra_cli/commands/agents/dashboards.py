"""``subterra dashboards``."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from subterra_cli.commands.options import exit_on_error

PROMETHEUS = "Address of a Prometheus that scrapes Subterra, such as http://localhost:9090, or of what has the same API."
BOARDS = "Dashboards to draw; default: all."
SINCE = "Time span up to now: a number and s, m, h or d, such as 30m, 6h, 7d."
NAMESPACES = "Namespaces, as a regular expression; default: all."
AGENTS = "Agents, as a regular expression; default: all."
FILE = "File to write; - is standard output."
OPEN = "Open it in the browser, if there is one."


class Board(StrEnum):
    """The dashboards by the words of their titles."""

    FLEET = "fleet"
    RUNS = "runs"
    AGENT = "agent"


def dashboards(
    boards: Annotated[list[Board] | None, typer.Argument(metavar="[fleet|runs|agent]...", help=BOARDS)] = None,
    prometheus: Annotated[str, typer.Option(metavar="URL", help=PROMETHEUS)] = "http://localhost:9090",
    since: Annotated[str, typer.Option(metavar="TIME", help=SINCE)] = "6h",
    namespace: Annotated[str, typer.Option("--namespace", "-n", metavar="REGEX", help=NAMESPACES)] = ".*",
    agent: Annotated[str, typer.Option(metavar="REGEX", help=AGENTS)] = ".*",
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help=FILE)] = Path("dashboards.html"),
    show: Annotated[bool, typer.Option("--open/--no-open", help=OPEN)] = True,
) -> None:
    """Draw the dashboards as one page, for clusters without Grafana.

    Example: subterra dashboards agent --agent travel --since 1d --prometheus http://localhost:9090
    """
    import time
    import webbrowser

    with exit_on_error(2):
        from subterra_cli.agents.dashboards.draw import draw, seconds_of
        from subterra_cli.agents.dashboards.queries import Scope
        from subterra_cli.output.written_file import STANDARD_OUTPUT, say_apart, write_file

        now = time.time()
        scope = Scope(now - seconds_of(since), now, {"namespace": namespace, "agent": agent})
        chosen = [f"subterra-{board}" for board in boards or Board]
        with exit_on_error(1):
            text, empty = draw(chosen, prometheus, scope)
            write_file(output, text)
    say_apart(output, f"{output}: {', '.join(chosen).replace('subterra-', '')} from {prometheus}")
    if empty:
        say_apart(output, f"no data for {len(empty)} panels: {', '.join(empty)}")
    if show and output != STANDARD_OUTPUT:
        webbrowser.open(output.resolve().as_uri())
