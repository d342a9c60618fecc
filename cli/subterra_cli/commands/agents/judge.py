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
CERTIFICATE = "Where to write the certificate of certified judges, for `gate.judgeCertificates` of an agent; - is standard output."
LANGUAGE = "Language of the conversations, for the certificate."
BIAS = "What `subterra judge bias` wrote about these judges, for the certificate."
AGENT = "The CompiledAgent or CompileRun whose judges are asked."
PROCEDURE_FILE = "The file of its Procedure."
BIASES = "Where to write the counts, for `subterra judge calibrate --bias`; - is standard output."
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
    """Write conversations for people to score.

    Also writes a guide for them and the key. The sheet hides which agent each conversation is from and what the judges say.

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
    bias_file: Annotated[Path | None, typer.Option("--bias", metavar="FILE", help=BIAS)] = None,
    output: Output = OutputFormat.TEXT,
    as_data: Annotated[bool, typer.Option("--json", help="The same as -o json.")] = False,
) -> None:
    """Compare judges with people, and certify them or not.

    Shows agreement by criterion, and how surely a judge finds the failures that people find.

    Exits with 0 if the judge is certified, with 1 if not.

    Example: subterra judge calibrate labels.csv --key labels-key.json
    """
    with exit_on_error():
        from subterra_cli.agents.certificate_file import make_certificate, with_biases, write_certificate
        from subterra_cli.agents.judge_calibration import calibrate_judges
        from subterra_cli.agents.people_scores import read_scores
        from subterra_cli.output.render import as_json
        from subterra_cli.output.written_file import say_apart

        scores = read_scores(file, key)
        found = calibrate_judges(scores, min_sensitivity, min_specificity)
        if certificate is not None and found.certified:
            made = make_certificate(found, scores, language)
            write_certificate(certificate, with_biases(made, bias_file) if bias_file else made)
    say_apart(certificate, as_json(found.data()) if as_data or output is OutputFormat.JSON else "\n".join(found.lines()))
    raise typer.Exit(0 if found.certified else 1)


@judges.command()
def bias(
    report: Annotated[Path, typer.Argument(metavar="REPORT|FOLDER", help=REPORT)],
    procedure: Annotated[str, typer.Option(metavar="FILE", help=PROCEDURE_FILE)],
    agent: Annotated[str, typer.Option(metavar="FILE", help=AGENT)],
    count: Annotated[int, typer.Option("--conversations", "-n", min=1, help="Number of conversations.")] = 40,
    seed: Annotated[int, typer.Option(help="Decides which conversations.")] = 1,
    max_usd: Annotated[str, typer.Option("--max-usd", metavar="USD", help="Maximum US dollars to spend.")] = "5",
    prices: Annotated[str | None, typer.Option(metavar="FILE", help="Model prices, in the form of the chart's values.")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE", help=BIASES)] = None,
) -> None:
    """Count how often judges change a score without a reason.

    Asks them again about the same conversations, with the criteria in another order, in another length or format, or with other
    names of models.

    Needs the keys of the judges' providers.

    Example: subterra judge bias report/ --procedure travel.yaml --agent agent.yaml
    """
    with exit_on_error():
        import asyncio

        from subterra_cli.agents import judge_bias_run
        from subterra_cli.agents.evaluation_transcripts import read_transcripts
        from subterra_cli.dataset.sample_settings import parse_usd
        from subterra_cli.errors import CommandError
        from subterra_cli.files.manifests import read_compile, read_prices
        from subterra_cli.output.written_file import say_apart
        from subterra_core.procedure.graph import Graph

        most = parse_usd(max_usd)
        if most is None:
            raise CommandError(f"--max-usd: {max_usd} is not an amount of US dollars above 0; write one such as 0.50")
        request = read_compile(list(dict.fromkeys((procedure, agent))), recompile=False)
        asked = judge_bias_run.agent_judges(request, read_prices(prices) if prices else {})
        drawn = judge_bias_run.draw_conversations(read_transcripts(report).conversations, count, seed)
        calls = len(drawn) * len(asked) * judge_bias_run.CALLS
        typer.echo(f"{len(drawn):,} conversations, {calls:,} calls, never more than ${most.normalize():f}", err=True)
        run = judge_bias_run.BiasRun(Graph(request.procedure), asked, drawn, most)
        found = asyncio.run(run.measure())
        if output is not None:
            judge_bias_run.write_biases(output, found)
    say_apart(output, "\n".join(judge_bias_run.bias_lines(found)))
