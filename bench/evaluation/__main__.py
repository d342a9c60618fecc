"""``python -m bench.evaluation``: how much longer simulation takes than the same requests alone, with 50 concurrent conversations.

The server is a separate process that responds after a fixed time. Prints a table, then a line of JSON.
"""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from subterra_core.procedure.graph import Graph
from subterra_jobs.evaluate.scenarios.build import build_scenarios
from subterra_jobs.evaluate.scenarios.scenario import Scenario
from subterra_jobs.evaluate.scheduling import Schedule
from subterra_jobs.evaluate.simulate.agents import Arm, ServedAgent
from subterra_jobs.evaluate.simulate.conversation import Conversation
from subterra_jobs.evaluate.simulate.conversation_cache import ConversationCache
from subterra_jobs.evaluate.simulate.simulation import agent_turn_limit, simulate_all
from subterra_jobs.evaluate.simulate.user_simulator import LLMUserFactory, customer_request
from subterra_jobs.evaluate.simulate.vllm_client import VLLMClient
from subterra_jobs.llm.client_pool import ClientPool
from subterra_jobs.llm.response_cache import ResponseCache
from subterra_jobs.stage.cancellation import Cancellation
from subterra_jobs.stage.environment import StageEnvironment
from subterra_jobs.store.artifact_store import ArtifactStore
from subterra_testkit.runs.evaluation_runs import MODEL, run_input
from subterra_testkit.runs.generation_inputs import TRAVEL_1, travel

CONCURRENCY = 50
CONVERSATIONS = 100
SECONDS = (0.2, 1.0)
SPEC = travel()


@contextmanager
def server(seconds: float) -> Iterator[str]:
    """URL of a server that responds after ``seconds``."""
    command = [sys.executable, "-m", "bench.evaluation.server", str(seconds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.kill()


async def played(url: str, cast: list[Scenario], folder: Path) -> tuple[tuple[Conversation, ...], float]:
    """As the stage plays them: paid customers with ledger and kept answers, replies and conversations kept too."""
    store = ArtifactStore(folder.as_uri())
    pool = ClientPool(store, TRAVEL_1, "evaluate", StageEnvironment.parse(os.environ), "answers")
    users = LLMUserFactory(pool.client(MODEL, "evaluation.simulator", "simulator"), SPEC)
    async with httpx.AsyncClient(base_url=url, timeout=60, trust_env=False) as http:
        speaker = ServedAgent(VLLMClient(http, "candidate", 256), "model", ResponseCache(store, "served"))
        began = time.monotonic()
        schedule = Schedule(7, asyncio.Semaphore(CONCURRENCY), Cancellation())
        caches = {"candidate": ConversationCache(store, "model", "simulator")}
        arms, limit = [Arm("candidate", speaker, "model")], agent_turn_limit(cast)
        found = await simulate_all(arms, cast, users, schedule, max_agent_turns=limit, caches=caches)
        took = time.monotonic() - began
    await pool.close()
    return found["candidate"], took


async def alone(url: str, cast: list[Scenario], dialogues: tuple[Conversation, ...]) -> tuple[int, float]:
    """Sends the same requests, one at a time per conversation; returns their number and duration."""
    waiting, calls = list(zip(cast, dialogues, strict=True)), 0
    began = time.monotonic()
    async with httpx.AsyncClient(base_url=url, timeout=60, trust_env=False) as http:

        async def worker() -> None:
            nonlocal calls
            while waiting:
                for path, body in requests(*waiting.pop()):
                    (await http.post(path, json=body)).json()
                    calls += 1

        await asyncio.gather(*(worker() for _ in range(CONCURRENCY)))
    return calls, time.monotonic() - began


def requests(scenario: Scenario, dialogue: Conversation) -> Iterator[tuple[str, dict[str, object]]]:
    """The requests of a conversation: one per turn of either side, and the customer's last, which added no turn."""
    for at in range(len(dialogue.chat) + 1):
        chat = dialogue.chat[:at]
        if at < len(dialogue.chat) and dialogue.chat[at]["role"] == "assistant":
            yield "/v1/chat/completions", {"model": "candidate", "messages": [*chat] or [{"role": "system", "content": ""}]}
        elif not (at == 0 and scenario.opener):
            asked = customer_request(SPEC, scenario, chat)
            system, messages = [{"type": "text", "text": asked.system}], [*map(dict, asked.messages)]
            yield "/v1/messages", {"model": MODEL.model, "system": system, "messages": messages, "max_tokens": asked.max_tokens}


def figures(seconds: float) -> dict[str, float]:
    """One measurement, with this response time."""
    cast = build_scenarios(Graph(SPEC), run_input(Path("/nowhere"), scenarios=CONVERSATIONS).evaluation)
    with server(seconds) as url, tempfile.TemporaryDirectory() as folder:
        os.environ |= {"ANTHROPIC_BASE_URL": url, "ANTHROPIC_API_KEY": "none"}
        cpu = time.process_time()
        dialogues, took = asyncio.run(played(url, cast, Path(folder)))
        cpu = time.process_time() - cpu
        calls, bare = asyncio.run(alone(url, cast, dialogues))
    return {
        "seconds_a_call": seconds,
        "calls": calls,
        "played": round(took, 2),
        "alone": round(bare, 2),
        "overhead": round(took / bare - 1, 4),
        "cpu_ms_per_call": round(1000 * cpu / calls, 2),
    }


def main() -> None:
    """Prints a row per response time, then the overheads as JSON."""
    rows = [figures(seconds) for seconds in SECONDS]
    sys.stdout.write("| " + " | ".join(rows[0]) + " |\n|" + "---|" * len(rows[0]) + "\n")
    for row in rows:
        sys.stdout.write("| " + " | ".join(map(str, row.values())) + " |\n")
    sys.stdout.write(json.dumps({"overhead_at_50": {str(row["seconds_a_call"]): row["overhead"] for row in rows}}) + "\n")


if __name__ == "__main__":
    main()
