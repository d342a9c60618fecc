"""``python -m bench.evaluation.paper``: an evaluation with all of the paper's arms, without a cluster, and its tables.

By default with stand-ins that make every kind of failure, whose counts the table must have. With ``--agent FILE`` the simulator,
judges and baselines are the hosted models of that file, paid with the keys in ANTHROPIC_API_KEY and OPENAI_API_KEY, and
``--candidate URL`` is the server of the compiled model. Prints Markdown, then a line of JSON; the report is in out/paper/.
"""

import argparse
import json
import logging
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import yaml
from bench.evaluation.paper import plan
from bench.evaluation.paper.checks import made_flaws, problems
from bench.evaluation.paper.stand_ins import FlawedAgent, FlawedCompany, KnownFlaws
from bench.evaluation.paper.tables import lines, table

from subterra_api.job_contract.artifacts import artifact_path
from subterra_api.job_contract.environment import BUDGET_VARIABLE, ENDPOINTS_VARIABLE, PRICES_VARIABLE, VLLM_VARIABLE
from subterra_api.job_contract.messages import RunInput
from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_jobs.errors import StageError
from subterra_jobs.evaluate.analysis.paper_tables.score_tables import compare_runs
from subterra_jobs.evaluate.main import work
from subterra_jobs.stage.environment import StageEnvironment
from subterra_jobs.stage.runner import execute
from subterra_testkit.servers.fake_chat_server import Chat, fake_chat_server
from subterra_testkit.servers.fake_llm_api import FakeLLMApi, fake_llm_api

Json = dict[str, Any]
SCENARIOS = 40
SHARES = {"candidate": 0.3, plan.SONNET["model"]: 0.15, plan.BASE: 0.6}
"""Conversations in which each stand-in makes a mistake: many, so that few scenarios have all kinds."""
MISROUTED = 0.4
FREE = {"input": "0", "output": "0"}


def main() -> int:
    """0 when the evaluation ended and the table of failures has what the stand-ins did."""
    options = _parser().parse_args()
    logging.basicConfig(level=logging.WARNING)
    procedure = ProcedureSpec.model_validate(yaml.safe_load(options.procedure.read_text())["spec"])
    try:
        return _with_hosted_models(procedure, options) if options.agent else _with_stand_ins(procedure, options)
    except (plan.PlanError, StageError) as error:
        sys.stderr.write(f"{error}\n")
        return 1


def _with_stand_ins(procedure: ProcedureSpec, options: argparse.Namespace) -> int:
    known = KnownFlaws()
    with _stand_ins(procedure, known) as (hosted, candidate), tempfile.TemporaryDirectory(prefix="paper-") as store:
        variables = {
            VLLM_VARIABLE: candidate,
            "ANTHROPIC_BASE_URL": hosted,
            "ANTHROPIC_API_KEY": "stand-in",
            "OPENAI_API_KEY": "stand-in",
            ENDPOINTS_VARIABLE: json.dumps([f"{hosted}/v1"]),
            PRICES_VARIABLE: json.dumps({plan.BASE: FREE}),
        }
        evaluation = plan.stand_in_evaluation(hosted, options.scenarios or SCENARIOS)
        run = plan.planned_run(procedure, evaluation, plan.BASE, Path(store), options.seed)
        report, transcripts, seconds = _evaluate(run, variables, options.folder)
    made = made_flaws(report, transcripts, known)
    wrong = [*problems(report, made)]
    _print(report, options, seconds, {"made": {arm: dict(counts) for arm, counts in made.items()}, "problems": wrong}, made)
    return 1 if wrong else 0


@contextmanager
def _stand_ins(procedure: ProcedureSpec, known: KnownFlaws) -> Iterator[tuple[str, str]]:
    """URLs of the hosted models and of the candidate."""
    agents = {model: FlawedAgent(procedure, share, known) for model, share in SHARES.items()}
    company = FlawedCompany(procedure, agents, MISROUTED, known)

    def reply(right: str, chat: Chat) -> str | None:
        return agents["candidate"].respond([each for each in chat if each["role"] != "system"])

    with ExitStack() as stack:
        api = stack.enter_context(fake_llm_api(FakeLLMApi(answer=company, input_tokens=None)))
        candidate, _ = stack.enter_context(fake_chat_server(procedure, reply))
        yield api.url, candidate


def _with_hosted_models(procedure: ProcedureSpec, options: argparse.Namespace) -> int:
    if not options.candidate:
        raise plan.PlanError("the compiled model has to be served; name its server, such as --candidate http://127.0.0.1:8000")
    agent = yaml.safe_load(options.agent.read_text())
    base = plan.base_model(agent)
    variables = {VLLM_VARIABLE: options.candidate, BUDGET_VARIABLE: json.dumps({"maxUSD": options.max_usd})}
    if options.same_model:
        variables |= {ENDPOINTS_VARIABLE: json.dumps([options.same_model]), PRICES_VARIABLE: json.dumps({base: FREE})}
    evaluation = plan.agent_evaluation(agent, options.same_model, options.scenarios)
    run = plan.planned_run(procedure, evaluation, base, options.folder / "store", options.seed)
    report, _, seconds = _evaluate(run, variables, options.folder)
    _print(report, options, seconds, {})
    return 0


def _evaluate(run: RunInput, variables: Mapping[str, str], folder: Path) -> tuple[Json, list[Json], float]:
    """The report and transcripts of the stage, run in this process, and its seconds. The report's files are left in `folder`."""
    began = time.monotonic()
    os.environ.update(variables)  # the providers' own libraries read them there
    execute("evaluate", work, run, environment=StageEnvironment.parse(os.environ), port=0)
    artifact = Path(run.store.removeprefix("file://")) / artifact_path("evaluate", run.keys.report)
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("report.html", "report.json", "transcripts.jsonl"):
        (folder / name).write_bytes((artifact / name).read_bytes())
    transcripts = [json.loads(line) for line in (folder / "transcripts.jsonl").read_text().splitlines()]
    return json.loads((folder / "report.json").read_text()), transcripts, time.monotonic() - began


def _print(
    report: Json, options: argparse.Namespace, seconds: float, checked: Json, made: Mapping[str, Counter[str]] | None = None
) -> None:
    other = json.loads(options.against.read_text()) if options.against else None
    runs = compare_runs(report["scenarios"], other["scenarios"]) if other else None
    text = [*lines(report, other, runs)]
    if made is not None:
        modes = sorted({mode for counts in made.values() for mode in counts})
        text += ["", "**Flaws that the stand-ins made**", ""]
        text += table([{"mode": mode} | {arm: counts[mode] for arm, counts in made.items()} for mode in modes])
    paper = report["paper"]
    summary = {
        "scenarios": len(report["scenarios"]),
        "seconds": round(seconds),
        "report": str(options.folder / "report.html"),
        "failures": {arm: found["failures"] for arm, found in paper["failures"].items()},
        "percentOfInContext": paper["percentOfInContext"],
        "timesCandidateUsd": {arm: row["timesCandidateUsd"] for arm, row in paper["effort"].items()},
        **({"acrossRuns": runs} if runs else {}),
        **checked,
    }
    sys.stdout.write("\n".join([*text, "", json.dumps(summary)]) + "\n")


def _parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(prog="python -m bench.evaluation.paper", description=str(__doc__).partition("\n")[0])
    found.add_argument("--procedure", type=Path, default=Path("examples/travel/procedure.yaml"), help="default: %(default)s")
    found.add_argument("--scenarios", type=int, help=f"number of scenarios (default: {SCENARIOS}, or the agent file's)")
    found.add_argument("--seed", type=int, help="of the scenarios")
    found.add_argument("--agent", type=Path, help="agent file with hosted models, such as examples/paper/travel-3b-rtx5090.yaml")
    found.add_argument("--candidate", help="URL of the server of the compiled model")
    found.add_argument("--same-model", help="URL, with /v1, of a server of the base model, for the same-model arm")
    found.add_argument("--max-usd", default="100", help="cap on what providers may charge (default: %(default)s)")
    found.add_argument("--against", type=Path, help="report.json of another evaluation, compared with Mann-Whitney U")
    found.add_argument("--folder", type=Path, default=Path("out/paper"), help="report (default: %(default)s)")
    return found


if __name__ == "__main__":
    sys.exit(main())
