"""``subterra edit``."""

from typing import Annotated

import typer

from subterra_cli.commands.options import exit_on_error

FILE = "A procedure's YAML file; called procedures are read from its folder."
PORT = "Port on 127.0.0.1; 0 takes any free one."
OPEN = "Open the page in the browser, if there is one."
LOOK_SECONDS = 0.2
"""Time between two looks at the files."""


def edit(
    file: Annotated[str, typer.Argument(metavar="FILE", help=FILE)],
    port: Annotated[int, typer.Option(min=0, max=65535, help=PORT)] = 8190,
    show: Annotated[bool, typer.Option("--open/--no-open", help=OPEN)] = True,
) -> None:
    """Preview a procedure in the browser while you write it.

    The page has the findings of lint, the graph, and three conversations of the scripted teacher. It is on this machine alone, at
    127.0.0.1, and Ctrl-C ends it. While the file has errors, the page keeps the last graph without any.

    Example: subterra edit shop.yaml
    """
    import time
    import webbrowser
    from contextlib import suppress
    from pathlib import Path

    with exit_on_error():
        from subterra_cli.errors import CommandError
        from subterra_cli.output.preview.follow_saves import follow_saves
        from subterra_cli.output.preview.preview_page import preview_page
        from subterra_cli.output.preview.preview_server import PreviewServer

        if not Path(file).is_file():
            raise CommandError(f"{file} is not a file; pass a procedure's YAML file, or write one with `subterra init`")
        server = PreviewServer(port)
        typer.echo(f"{server.url} shows {file} after every save; Ctrl-C ends it", err=True)
        if show:
            webbrowser.open(server.url)
        with suppress(KeyboardInterrupt):
            follow_saves(file, lambda preview: server.publish(preview_page(preview)), lambda: time.sleep(LOOK_SECONDS))
        server.close()
