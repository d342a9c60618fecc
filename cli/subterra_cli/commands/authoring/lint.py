"""``subterra lint``."""

from typing import Annotated

import typer

from subterra_cli.commands.options import Output, OutputFormat

PATHS = "YAML files with Procedures, CompiledAgents and CompileRuns, folders of them, or - for standard input."


def lint(
    paths: Annotated[list[str], typer.Argument(metavar="FILE|FOLDER...", help=PATHS)],
    output: Output = OutputFormat.TEXT,
) -> None:
    """Check procedures and agents, and suggest fixes.

    Reports every error at once. In a folder, files without objects of Subterra are left out.

    Example: subterra lint examples/travel
    """
    from subterra_cli.files.lint_files import check_paths
    from subterra_cli.output.render import as_json, lint_data, lint_summary

    reports = check_paths(paths)
    if not reports:
        typer.echo(
            f"{', '.join(paths)}: no Procedure, CompiledAgent or CompileRun there; pass a folder with YAML files of them", err=True
        )
        raise typer.Exit(2)
    errors = sum(report.errors for report in reports)
    if output is OutputFormat.JSON:
        typer.echo(as_json(lint_data(reports)))
    else:
        for report in reports:
            for line in report.lines():
                typer.echo(line, err=True)
        for line in lint_summary(reports):
            typer.echo(line)
    raise typer.Exit(1 if errors else 0)
