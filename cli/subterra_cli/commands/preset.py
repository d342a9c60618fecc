"""``subterra preset``."""

from typing import Annotated

import typer

from subterra_cli.commands.options import Output, OutputFormat, exit_on_error

PRESET = "Name of a preset; without one, all are listed."
AGENT = "Name of the agent; default: that of its procedure."
PROCEDURE = "Name of the Procedure to compile."
POOL = "Name of the node pool in your chart's values; default: the preset's own."


def preset(
    name: Annotated[str | None, typer.Argument(metavar="[PRESET]", help=PRESET)] = None,
    procedure: Annotated[str, typer.Option(metavar="NAME", help=PROCEDURE)] = "travel",
    agent: Annotated[str | None, typer.Option(metavar="NAME", help=AGENT)] = None,
    pool: Annotated[str | None, typer.Option(metavar="NAME", help=POOL)] = None,
    output: Output = OutputFormat.TEXT,
) -> None:
    """List presets, or print one as a CompiledAgent.

    A preset has all settings for one model on given hardware.

    The manifest names no preset: what it says is what is compiled, also by a later version.

    Example: subterra preset qwen2.5-3b-1xh200 --procedure travel > agent.yaml
    """
    with exit_on_error():
        from subterra_cli.errors import CommandError
        from subterra_cli.output import preset_text
        from subterra_cli.output.render import as_json, console
        from subterra_core.presets.preset_catalog import UnknownPresetError, preset_named, presets

        if name is None:
            if output is OutputFormat.JSON:
                typer.echo(as_json(preset_text.data(presets())))
            else:
                console().print(preset_text.table(presets()))
                typer.echo(preset_text.FOOTER)
            return
        try:
            chosen = preset_named(name)
        except UnknownPresetError as error:
            raise CommandError(str(error)) from None
        manifest = chosen.manifest(agent or procedure, procedure, pool)
        typer.echo(as_json(manifest) if output is OutputFormat.JSON else preset_text.manifest_text(chosen, manifest), nl=False)
    for warning in chosen.plan.warnings:
        typer.echo(f"warning: {warning}", err=True)
