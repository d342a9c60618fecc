"""``python -m bench.real_values --model DIR``: whether an agent keeps real values, such as cities, that it was not trained on.

Says each value in a few phrasings that the agent was never trained on, and looks for it, letter by letter, in the agent's reply.
Prints the values that were changed, then one line of JSON.
"""

import argparse
import asyncio
import json
import random
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml
from bench.wordings_shift.phrases import load_phrases

from subterra_api.v1alpha1.procedure import ProcedureSpec
from subterra_api.v1alpha1.scores import Proportion
from subterra_core.gate.bounds import proportion_bounds
from subterra_core.procedure.graph import Graph
from subterra_core.procedure.template import render
from subterra_jobs.dialogue.sampling import context_lines, real_values, sample_values
from subterra_jobs.dialogue.turn_limit import max_reply_tokens
from subterra_jobs.evaluate.simulate.vllm_client import VLLMClient, wait_for_server
from subterra_testkit.servers.vllm_server import vllm_server

EXAMPLE = Path("examples/travel/procedure.yaml")
PHRASES = Path(__file__).parent / "wordings_shift" / "travel_phrases.yaml"


@dataclass(frozen=True)
class Question:
    """A customer's turn that says `value`, and the agent's knowledge about this customer."""

    value: str
    text: str
    context: str


def main() -> int:
    """0 when the agent was measured."""
    options = _parser().parse_args()
    graph = Graph(ProcedureSpec.model_validate(yaml.safe_load(options.procedure.read_text())["spec"]))
    frames = load_phrases(options.phrases).edges[0].phrases[: options.sentences]
    questions = ask_about(graph, frames, options.variable, options.values, random.Random(options.seed))
    with tempfile.TemporaryDirectory() as work, vllm_server(options.model, "agent", Path(work), kind="bundled") as url:
        replies = asyncio.run(replies_to(url, graph, questions))
    changed = [(asked, reply) for asked, reply in zip(questions, replies, strict=True) if asked.value not in reply]
    for asked, reply in changed:
        sys.stdout.write(f"{asked.value}: {asked.text}\n  {reply}\n")
    sys.stdout.write(json.dumps(figures(options, len(questions), len(changed))) + "\n")
    return 0


def ask_about(graph: Graph, frames: Sequence[str], variable: str, count: int, rng: random.Random) -> list[Question]:
    """Each of `count` real values in each of `frames`. Raises StopIteration when the procedure has no such variable."""
    asked = next(each for each in graph.spec.variables if each.name == variable)
    values = rng.sample(real_values(asked, held_out=True), count)

    def question(value: str, frame: str) -> Question:
        said = sample_values(graph.spec.variables, rng, unseen=True, rich=True) | {variable: value}
        return Question(value, render(frame, said), context_lines(graph.spec, said))

    return [question(value, frame) for value in values for frame in frames]


async def replies_to(url: str, graph: Graph, questions: Sequence[Question]) -> list[str]:
    """What the agent at `url` says to each question, which follows a greeting."""
    async with httpx.AsyncClient(base_url=url, timeout=120) as http:
        name, _ = await wait_for_server(http, 60)
        agent, slots = VLLMClient(http, name, max_reply_tokens(graph.spec)), asyncio.Semaphore(4)

        async def reply(question: Question) -> str:
            hello = {"role": "user", "content": graph.spec.openers[0]}
            async with slots:
                greeting = {"role": "assistant", "content": (await agent.reply([hello], question.context)).text}
                turns = [hello, greeting, {"role": "user", "content": question.text}]
                return (await agent.reply(turns, question.context)).text

        return await asyncio.gather(*map(reply, questions))


def figures(options: argparse.Namespace, asked: int, changed: int) -> dict[str, Any]:
    """How many replies have the value letter by letter, with the 95 % interval of the share."""
    kept = asked - changed
    interval = proportion_bounds(Proportion(hits=kept, of=asked), 0.025)
    return {
        "variable": options.variable,
        "values": options.values,
        "sentences": asked // options.values,
        "exact": kept,
        "of": asked,
        "share": round(kept / asked, 4),
        "interval": [round(interval.low, 4), round(interval.high, 4)],
        "seed": options.seed,
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.real_values", description=str(__doc__).partition("\n")[0])
    add = parser.add_argument
    add("--model", type=Path, required=True, metavar="DIR", help="a model directory of the train stage")
    add("--procedure", type=Path, default=EXAMPLE, help="what it was compiled from (default: %(default)s)")
    add("--phrases", type=Path, default=PHRASES, help="phrasings that it was not trained on; those of the first edge are said")
    add("--variable", default="destination", help="an open variable that the phrasings name (default: %(default)s)")
    add("--values", type=int, default=60, metavar="N", help="values that no training conversation has (default: %(default)s)")
    add("--sentences", type=int, default=3, metavar="N", help="phrasings for each value (default: %(default)s)")
    add("--seed", type=int, default=7, help="seed of the choice of values (default: %(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
