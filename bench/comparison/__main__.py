"""``python -m bench.comparison``: the same customers with a compiled model, with its base model in two ways, and with a tiny model.

Every arm is a real vLLM server, one at a time. Without ``--compiled`` and ``--scratch`` the models are compiled first, which takes
an hour or more on two cores; they are kept below ``out/comparison``. Prints Markdown and writes it to ``out/comparison.md``.
"""

import argparse
import sys
import tempfile
from decimal import Decimal
from pathlib import Path

import yaml
from bench.comparison.comparing import Comparison, heading
from bench.comparison.customers import MOST_PHRASINGS, draw_customers
from bench.comparison.plans import ARMS, COMPILED, make_plans, warnings, write_datasets
from bench.comparison.playing import PlaySettings, Serve, serve_with_vllm
from bench.comparison.progress import Progress
from tests.tools.models import bundled_models

from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_core.procedure.graph import Graph
from subterra_jobs.errors import StageError
from subterra_jobs.evaluate.judge.free_words.embedding_labeller import labelling_quality, make_labeller


def main() -> int:
    """0 when all arms were measured, 1 when one failed or none could be measured."""
    options, progress = parser().parse_args(), Progress()
    try:
        whole = compare(options, bundled_models(), serve_with_vllm, progress)
    except (StageError, OSError) as error:
        progress.say(str(error))
        return 1
    sys.stdout.write(options.output.read_text())
    return 0 if whole else 1


def compare(options: argparse.Namespace, models: Path, serve: Serve, progress: Progress) -> bool:
    """Writes the page; false if an arm failed. ``models`` has the models of the jobs image. Raises StageError."""
    procedure = ProcedureSpec.model_validate(yaml.safe_load(options.procedure.read_text())["spec"])
    graph = Graph(procedure)
    for directory in filter(None, (options.compiled, options.scratch)):
        if not (directory / "config.json").is_file():
            raise NotADirectoryError(f"{directory} is no model directory: it has no config.json")
    options.output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="comparison-") as work:
        progress.say("writing the training data")
        datasets = write_datasets(procedure, Path(work))
        training = [dataset.directory for dataset in datasets.values()]
        customers = draw_customers(graph, training, options.seed, options.scenarios, options.phrasings)
        labeller = make_labeller(graph, models)
        quality = labelling_quality(labeller, datasets["bundled"].directory, options.seed)
        plans = make_plans(options, graph, datasets, models, progress)
    settings = PlaySettings(serve, options.concurrency, options.seed, options.folder, progress)
    lines = [*heading(str(options.procedure), customers, settings, options.usd_per_hour, quality), *warnings(options, procedure)]
    comparison = Comparison(graph, labeller, customers, settings, options.usd_per_hour, lines)
    return comparison.run(plans, COMPILED, options.output.write_text)


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    found = argparse.ArgumentParser(prog="python -m bench.comparison", description=str(__doc__).partition("\n")[0])
    add = found.add_argument
    add("--procedure", type=Path, default=Path("examples/travel/procedure.yaml"), help="a Procedure (default: %(default)s)")
    for name in ("compiled", "scratch"):
        add(f"--{name}", type=Path, metavar="DIR", help="a model directory of the train stage (default: one compiled right here)")
        add(f"--{name}-seconds", type=float, metavar="S", help="how long DIR took to compile (default: unknown)")
    add("--arms", nargs="+", choices=ARMS, default=ARMS, help="which ones to play (default: all)")
    add("--scenarios", type=_positive, default=60, help="customers with the author's phrasings (default: %(default)s)")
    add("--phrasings", type=int, choices=range(1, MOST_PHRASINGS + 1), metavar="N", default=40, help=_PHRASINGS)
    add("--seed", type=int, default=7, help="seed of the customers (default: %(default)s)")
    add("--concurrency", type=_positive, default=4, help="conversations at a time (default: %(default)s)")
    add("--usd-per-hour", type=Decimal, default=Decimal("0.10"), help="price of this machine (default: %(default)s)")
    add("--output", type=Path, default=Path("out/comparison.md"), help="the page (default: %(default)s)")
    add("--folder", type=Path, default=Path("out/comparison"), help="models, logs and conversations (default: %(default)s)")
    return found


def _positive(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number above 0")
    return int(text)


_PHRASINGS = f"customers with held-out phrasings, at most {MOST_PHRASINGS} (default: %(default)s)"


if __name__ == "__main__":
    sys.exit(main())
