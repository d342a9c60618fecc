"""``python -m bench.wordings_shift``: conformance with customer phrasings that the agent was never trained on.

Plays the evaluation's scenarios with the customers' lines replaced by those of a phrases file, and prints one line of JSON. Without
``--input`` it measures the agent that `make demo` left running.
"""

import argparse
import asyncio
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.wordings_shift.phrases import Phrases, load_phrases, rephrase_scenarios
from pydantic import ValidationError

from subterra_api.job_contract.messages import ExitCode, RunInput
from subterra_core.procedure.graph import Graph
from subterra_jobs.dialogue.turn_limit import max_reply_tokens
from subterra_jobs.errors import StageError
from subterra_jobs.evaluate.analysis.summary import summarise
from subterra_jobs.evaluate.judge.judges import examine_by_rules
from subterra_jobs.evaluate.judge.rule_labeller import RuleLabeller
from subterra_jobs.evaluate.scenarios.build import build_scenarios
from subterra_jobs.evaluate.simulate.participants import CANDIDATE
from subterra_jobs.evaluate.simulate.simulation import ScriptedRun, simulate_scripted

PHRASES = Path(__file__).with_name("travel_phrases.yaml")


def main() -> int:
    """0 when conformance was measured; otherwise an exit code of the stages, or 1 if the demo does not run."""
    arguments = _arguments()
    try:
        phrases = load_phrases(arguments.phrases)
        if arguments.input is None:
            return _measure_demo(phrases)
        _print(measure(RunInput.model_validate_json(arguments.input.read_text()), phrases, arguments.url))
    except (StageError, ValidationError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return int(error.code) if isinstance(error, StageError) else int(ExitCode.INVALID_INPUT)
    return 0


def measure(run: RunInput, phrases: Phrases, url: str) -> dict[str, Any]:
    """Conformance on the run's scenarios, with ``phrases`` for the customers, of the agent at ``url``."""
    graph = Graph(run.procedure)
    scenarios = rephrase_scenarios(graph, phrases, build_scenarios(graph, run.evaluation), run.evaluation.seed)
    played: ScriptedRun = asyncio.run(simulate_scripted(url, scenarios, max_tokens=max_reply_tokens(graph.spec), wait_seconds=10))
    labeller = RuleLabeller(graph)
    results = [examine_by_rules(graph, labeller, *pair) for pair in zip(scenarios, played.conversations, strict=True)]
    scores = summarise({CANDIDATE: results}, run.evaluation.seed)
    return {
        "n": scores.scenarios,
        "seed": run.evaluation.seed,
        "model": played.model,
        "procedure": run.procedure_digest,
        "conformance": scores.conformance.model_dump(),
        "failureRate": scores.failure_rate.model_dump(),
        "slotsExact": scores.slots_exact,
    }


def _measure_demo(phrases: Phrases) -> int:
    from subterra_cli.cluster import ClusterAccessError
    from subterra_demo.steps import StepError

    try:
        with _demo_agent() as (run, url):
            _print(measure(run, phrases, url))
    except (StepError, ClusterAccessError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


@contextmanager
def _demo_agent() -> Iterator[tuple[RunInput, str]]:
    """Input of the run that the demo's agent serves, and a URL of the agent."""
    from subterra_cli.cluster import ClusterTarget, port_forward
    from subterra_demo.steps import AGENT, NAMESPACE, DemoCluster, run, tools_on_path

    tools_on_path()
    demo = DemoCluster()

    def field(kind: str, name: str, path: str) -> str:
        return run(demo.kubectl("get", kind, name, "--namespace", NAMESPACE, f"--output=jsonpath={path}"), quiet=True)

    served = field("compiledagent", AGENT, "{.status.serving.run}")
    content = field("configmap", f"{served}-input", r"{.data.input\.json}")
    with port_forward(ClusterTarget(NAMESPACE, demo.kubeconfig), AGENT, 8000) as url:
        yield RunInput.model_validate_json(content), url


def _print(figures: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(figures) + "\n")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.wordings_shift", description=str(__doc__).partition("\n")[0])
    parser.add_argument("--input", type=Path, help="input file of a run; default: the run that the demo's agent serves")
    parser.add_argument("--phrases", type=Path, default=PHRASES, help="YAML file with other customer phrasings")
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="with --input: the served model (default: %(default)s)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
