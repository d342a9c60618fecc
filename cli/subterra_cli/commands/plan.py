"""``subterra plan``."""

from typing import Annotated

import typer

from subterra_cli.commands.options import Output, OutputFormat, exit_on_error

FILES = "A Procedure, and the CompiledAgent or CompileRun that compiles it."
RECOMPILE = "Estimate a later compile, which also evaluates the version being served."
PRICES = "Model prices, in the form of the chart's values."
SHAPE = "config.json of a base model whose shape is not known, or its directory, which is checked then."
POOLS = "The chart's values, with the node pools that the manifests name."
STORE = "Size of the store's claim; default: the chart's 20Gi."


def plan(
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help=FILES)],
    recompile: Annotated[bool, typer.Option("--recompile", help=RECOMPILE)] = False,
    prices: Annotated[str | None, typer.Option(metavar="FILE", help=PRICES)] = None,
    model_shape: Annotated[str | None, typer.Option(metavar="FILE", help=SHAPE)] = None,
    pools: Annotated[str | None, typer.Option(metavar="FILE", help=POOLS)] = None,
    store_size: Annotated[str, typer.Option(metavar="SIZE", help=STORE)] = "20Gi",
    output: Output = OutputFormat.TEXT,
) -> None:
    """Estimate what a compile costs and whether its training fits.

    Lists each item of cost before anything is applied, and the facts that clients of the agent send. Exits with 1 when a cap in the
    manifests does not cover the minimum cost; a training that does not fit is a warning.

    Example: subterra plan examples/travel/procedure.yaml examples/travel/agent.yaml
    """
    with exit_on_error():
        from subterra_cli import cost_plan
        from subterra_cli.files.manifests import read_compile, read_pools, read_prices
        from subterra_cli.files.training_request import read_training
        from subterra_cli.output import facts_table, training_part
        from subterra_cli.output.render import as_json, console
        from subterra_core.procedure.context_contract import context_facts, context_schema
        from subterra_jobs.stage import environment

        given = read_prices(prices) if prices else {}
        request = read_compile(files, recompile=recompile)
        known_pools = read_pools(pools) if pools else {}
        training = read_training(request, shape_file=model_shape, store_size=store_size, pools=known_pools)
        estimate = cost_plan.estimate(request, given, environment.current_date())  # last: it takes seconds
        if output is OutputFormat.JSON:
            contract = {"training": training_part.data(training), "context": context_schema(request.procedure, request.name)}
            typer.echo(as_json(cost_plan.data(estimate) | contract))
        else:
            console().print(cost_plan.table(estimate))
            facts = facts_table.plan_lines(context_facts(request.procedure))
            for line in (*cost_plan.lines(estimate), *training_part.lines(training), *facts):
                typer.echo(line)
    raise typer.Exit(0 if estimate.is_covered else 1)
