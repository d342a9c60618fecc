"""``subterra``, also ``kubectl subterra``: registers the commands. What they need is imported when they run, so --help is quick."""

import sys

try:
    import typer
except ModuleNotFoundError:
    from subterra_api import __version__

    sys.exit(
        "subterra: the packages of its command line are missing; install it with the extra cli, "
        f"for example: uvx --from './subterra-{__version__}-py3-none-any.whl[cli]' subterra"
    )

from subterra_cli.commands.agents.chat import chat
from subterra_cli.commands.agents.dashboards import dashboards
from subterra_cli.commands.agents.judge import judges
from subterra_cli.commands.agents.load import load
from subterra_cli.commands.agents.model_registry import export, provenance
from subterra_cli.commands.agents.promote import approve, rollback
from subterra_cli.commands.agents.reevaluate import reevaluate
from subterra_cli.commands.agents.report import report
from subterra_cli.commands.agents.status import status
from subterra_cli.commands.agents.watch import watch
from subterra_cli.commands.agents.why import why
from subterra_cli.commands.authoring.diff import diff
from subterra_cli.commands.authoring.edit import edit
from subterra_cli.commands.authoring.facts import facts
from subterra_cli.commands.authoring.graph import graph
from subterra_cli.commands.authoring.init import init
from subterra_cli.commands.authoring.lint import lint
from subterra_cli.commands.authoring.paths import paths
from subterra_cli.commands.authoring.sample import sample
from subterra_cli.commands.dataset import datasets
from subterra_cli.commands.models import models
from subterra_cli.commands.plan import plan
from subterra_cli.commands.preset import preset
from subterra_cli.imports.import_commands import imports

HELP = """
Check, view and compare conversational procedures, estimate what compiling them costs, and follow and use the agents compiled from
them. Works on files and on objects in a cluster, also as `kubectl subterra`.
"""
EPILOG = """
Exit codes: 0 success · 1 negative result (lint found errors, diff found differences, an agent is not served, …) · 2 error (usage,
invalid file, not found). docs/reference/cli.md has them by command.
"""

app = typer.Typer(no_args_is_help=True, help=HELP, epilog=EPILOG, rich_markup_mode=None, pretty_exceptions_enable=False)


def version() -> None:
    """Print the versions of the command line and of the API.

    Example: subterra version
    """
    from subterra_api import __version__
    from subterra_api.v1alpha1 import API_VERSION

    typer.echo(f"subterra {__version__} ({API_VERSION})")


ON_FILES = (init, lint, edit, graph, paths, facts, diff, sample, plan, preset)
ON_AGENTS = (watch, status, why, report, dashboards, approve, rollback, reevaluate, export, provenance, chat, load)
for command in (*ON_FILES, *ON_AGENTS, version):
    app.command()(command)
app.add_typer(imports, name="import")
app.add_typer(datasets, name="dataset")
app.add_typer(models, name="models")
app.add_typer(judges, name="judge")

if __name__ == "__main__":
    app(prog_name="subterra")
