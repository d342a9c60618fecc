"""``subterra lint``."""

from typing import Annotated

import typer

from subterra_cli.commands.options import Output, OutputFormat


def lint(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A procedure's YAML file, or - for standard input.")],
    output: Output = OutputFormat.TEXT,
) -> None:
    """Check a procedure and suggest fixes.

    Example: subterra lint examples/travel/procedure.yaml
    """
    from subterra_cli.files.lint_report import check_file
    from subterra_cli.output.render import as_json, summary

    report = check_file(file)
    if output is OutputFormat.JSON:
        typer.echo(as_json(report.data()))
    else:
        for line in report.lines():
            typer.echo(line, err=True)
        if report.analysis and not report.errors:
            typer.echo(summary(report.analysis))
    raise typer.Exit(1 if report.errors else 0)
