"""``python -m bench.pipeline.serving``: ten rollouts and a drained pod under clients on open connections, then throughput.

Real vLLM servers with the operator's command and hook, behind a stand-in for kube-proxy. Without ``--model`` they serve the tiny
model, untrained. Prints what it measured, and as the last line all of it as JSON.
"""

import argparse
import asyncio
import json
import sys
import tempfile
from pathlib import Path

import yaml
from bench.pipeline.serving.rollouts import Served, roll_out, throughput

from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_testkit.repository import EXAMPLES
from subterra_testkit.runs.tiny_model import untrained

CONVERSATIONS = (1, 8, 32)
UNTRAINED_TOKENS = 24
"""An untrained model does not end its replies."""


def main() -> int:
    """0 when no request failed."""
    options = _parser().parse_args()
    spec = ProcedureSpec.model_validate(yaml.safe_load(options.procedure.read_text())["spec"])
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        made = options.model or untrained(spec, folder / "model")
        kind = "bundled" if options.model else "scratch"
        served = Served(made, kind, spec, None if options.model else UNTRAINED_TOKENS)
        figures = asyncio.run(roll_out(served, folder / "rollouts", options.clients, options.rounds)).figures()
        sys.stdout.write(f"{figures}\n")
        sys.stdout.flush()
        rows = asyncio.run(throughput(served, folder / "throughput", CONVERSATIONS, options.seconds))
    for row in rows:
        sys.stdout.write(f"{row}\n")
    sys.stdout.write(json.dumps(figures | {"throughput": rows}) + "\n")
    return 1 if figures["failed_requests"] else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Failed requests in rollouts, and throughput, of a served model.")
    add = parser.add_argument
    add("--model", type=Path, metavar="DIR", help="a model directory of the train stage, made from the bundled model")
    add("--procedure", type=Path, default=EXAMPLES / "travel/procedure.yaml", metavar="FILE", help="whose customers talk")
    add("--clients", type=int, default=24, help="clients on open connections")
    add("--rounds", type=int, default=5, help="each has a promotion and a rollback")
    add("--seconds", type=float, default=20, help="of each measurement of throughput")
    return parser


if __name__ == "__main__":
    sys.exit(main())
