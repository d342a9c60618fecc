"""``subterra judge sheet`` and ``subterra judge calibrate``."""

from pathlib import Path
from typing import Annotated

import typer

from subterra_cli.commands.options import (
    ClusterOptions,
    Context,
    Kubeconfig,
    Namespace,
    Output,
    OutputFormat,
    exit_on_error,
    load_procedure,
)

judges = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Compare the judges of an evaluation with people.")

REPORT = "Folder of a finished evaluation's report, or a file in it."
SHEET = "Sheet to write: JSON lines, or a table if it ends in .csv."
KEY_TO_WRITE = "Where to write the key; default: FILE with -key.json instead of its ending."
PROCEDURE = "The procedure that the agent had to follow, a file or a name in the cluster; people need it in the guide."
SCORES = "The sheet with people's scores, or JSON lines with the scores of people and judges."
CERTIFICATE = "Where to write the certificate of certified judges, for `gate.judgeCertificates` of an agent."
LANGUAGE = "Language of the conversations, for the certificate."
KEY = "The key that was written with the sheet; without it FILE has the judges' scores."


@judges.command()
def sheet(
    report: Annotated[Path, typer.Argument(metavar="REPORT|FOLDER", help=REPORT)],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help=SHEET)],
    procedure: Annotated[str | None, typer.Option(metavar="FILE|NAME", help=PROCEDURE)] = None,
    size: Annotated[int, typer.Option("--conversations", min=1, help="Conversations on the sheet.")] = 300,
    seed: Annotated[int, typer.Option(help="Decides which conversations, and their order.")] = 1,
    key: Annotated[Path | None, typer.Option(metavar="FILE", help=KEY_TO_WRITE)] = None,
    namespace: Namespace = "default",
    kubeconfig: Kubeconfig = None,
    context: Context = None,
) -> None:
    """Write conversations for people to score, without whose they are and what the judges say, a guide, and the key.

    Example: subterra judge sheet report/ -o labels.csv --procedure travel.yaml
    """
    with exit_on_error():
        from subterra_cli.agents.evaluation_transcripts import read_transcripts
        from subterra_cli.agents.judge_sheet import SheetFiles, write_sheet

        transcripts = read_transcripts(report)
        spec = load_procedure(procedure, ClusterOptions(namespace, kubeconfig, context)).spec if procedure else None
        files = SheetFiles.next_to(output, key)
        sample = write_sheet(files, transcripts, size, seed, spec)
    flagged = sum(kind for _, kind in sample.drawn)
    played = sample.flagged + sample.others
    typer.echo(
        f"{files.sheet}: {len(sample.drawn):,} of {played:,} different conversations, {flagged:,} of them failures to a judge"
    )
    typer.echo(f"{files.guide}: the rubric" + (" and the procedure" if spec else ""))
    typer.echo(f"{files.key}: keep it from those who score")
    if transcripts.left_out:
        typer.echo(f"{transcripts.left_out:,} conversations do not count or lack a judge's scores; they are left out", err=True)
    if spec is None:
        typer.echo("the guide lacks the procedure, without which Task Success cannot be scored; see --procedure", err=True)


@judges.command()
def calibrate(
    file: Annotated[Path, typer.Argument(metavar="FILE", help=SCORES)],
    key: Annotated[Path | None, typer.Option(metavar="FILE", help=KEY)] = None,
    min_sensitivity: Annotated[float, typer.Option(min=0, max=1, help="Least lower bound of sensitivity.")] = 0.8,
    min_specificity: Annotated[float, typer.Option(min=0, max=1, help="Least lower bound of specificity.")] = 0.8,
    certificate: Annotated[Path | None, typer.Option(metavar="FILE", help=CERTIFICATE)] = None,
    language: Annotated[str, typer.Option(metavar="TAG", help=LANGUAGE)] = "en",
    output: Output = OutputFormat.TEXT,
    as_data: Annotated[bool, typer.Option("--json", help="The same as -o json.")] = False,
) -> None:
    """Compare judges with people: agreement by criterion, and how surely a judge finds the failures that people find.

    Exits with 0 if the judge is certified, with 1 if not.

    Example: subterra judge calibrate labels.csv --key labels-key.json
    """
    with exit_on_error():
        from subterra_cli.agents.certificate_file import make_certificate, write_certificate
        from subterra_cli.agents.judge_calibration import calibrate_judges
        from subterra_cli.agents.people_scores import read_scores
        from subterra_cli.output.render import as_json

        scores = read_scores(file, key)
        found = calibrate_judges(scores, min_sensitivity, min_specificity)
        if certificate is not None and found.certified:
            write_certificate(certificate, make_certificate(found, scores, language))
    typer.echo(as_json(found.data()) if as_data or output is OutputFormat.JSON else "\n".join(found.lines()))
    raise typer.Exit(0 if found.certified else 1)
