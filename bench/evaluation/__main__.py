"""``python -m bench.evaluation``: how much longer playing takes than the same requests alone, with 50 conversations at once.

The server is a process of its own that answers after a set time. Prints a table, then a line of JSON.
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

from subterra_api.job_contract.messages import Budget
from subterra_core.procedure.graph import Graph
from subterra_jobs.evaluate.scenarios import build
from subterra_jobs.evaluate.scenarios.scenario import Scenario
from subterra_jobs.evaluate.simulate.agents import Condition, Served
from subterra_jobs.evaluate.simulate.conversation_cache import DialogueStore
from subterra_jobs.evaluate.simulate.simulation import Dialogue, play_all, turn_cap
from subterra_jobs.evaluate.simulate.user_simulator import ModelUsers, ask
from subterra_jobs.evaluate.simulate.vllm_client import Candidate
from subterra_jobs.llm.client_pool import ClientPool
from subterra_jobs.llm.response_cache import AnswerStore
from subterra_jobs.stage.cancellation import Halt
from subterra_jobs.store.artifacts import ArtifactStore
from subterra_testkit.evaluation_runs import MODEL, run_input
from subterra_testkit.generation_inputs import TRAVEL_1, travel

CONCURRENCY = 50
CONVERSATIONS = 100
SECONDS = (0.2, 1.0)
SPEC = travel()


@contextmanager
def server(seconds: float) -> Iterator[str]:
    """URL of a server that answers after so long."""
    command = [sys.executable, "-m", "bench.evaluation.server", str(seconds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.kill()


async def played(url: str, cast: list[Scenario], folder: Path) -> tuple[tuple[Dialogue, ...], float]:
    """As the stage plays them: paid customers with ledger and kept answers, replies and conversations kept too."""
    store = ArtifactStore(folder.as_uri())
    desk = ClientPool(store, TRAVEL_1, "evaluate", Budget(), "answers")
    users = ModelUsers(desk.caller(MODEL, "evaluation.simulator", "simulator"), SPEC)
    async with httpx.AsyncClient(base_url=url, timeout=60, trust_env=False) as http:
        speaker = Served(Candidate(http, "candidate", 256), "model", AnswerStore(store, "served"))
        began = time.monotonic()
        found = await play_all(
            [Condition("candidate", speaker, "model")], cast, users, seed=7, cap=turn_cap(cast),
            slots=asyncio.Semaphore(CONCURRENCY), halt=Halt(), libraries={"candidate": DialogueStore(store, "model", "simulator")},
        )  # fmt: skip
        took = time.monotonic() - began
    await desk.close()
    return found["candidate"], took


async def alone(url: str, cast: list[Scenario], dialogues: tuple[Dialogue, ...]) -> tuple[int, float]:
    """The same requests, one after the other in each conversation: their number, and how long they take."""
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


def requests(scenario: Scenario, dialogue: Dialogue) -> Iterator[tuple[str, dict[str, object]]]:
    """What a conversation took: a call for each turn of either side, and the customer's last, which brought no turn."""
    for at in range(len(dialogue.chat) + 1):
        chat = dialogue.chat[:at]
        if at < len(dialogue.chat) and dialogue.chat[at]["role"] == "assistant":
            yield "/v1/chat/completions", {"model": "candidate", "messages": [*chat] or [{"role": "system", "content": ""}]}
        elif not (at == 0 and scenario.opener):
            asked = ask(SPEC, scenario, chat)
            system, messages = [{"type": "text", "text": asked.system}], [*map(dict, asked.messages)]
            yield "/v1/messages", {"model": MODEL.model, "system": system, "messages": messages, "max_tokens": asked.max_tokens}


def figures(seconds: float) -> dict[str, float]:
    """One measurement."""
    cast = build.build(Graph(SPEC), run_input(Path("/nowhere"), scenarios=CONVERSATIONS).evaluation)
    with server(seconds) as url, tempfile.TemporaryDirectory() as folder:
        os.environ |= {"ANTHROPIC_BASE_URL": url, "ANTHROPIC_API_KEY": "none"}
        cpu = time.process_time()
        dialogues, took = asyncio.run(played(url, cast, Path(folder)))
        cpu = time.process_time() - cpu
        calls, bare = asyncio.run(alone(url, cast, dialogues))
    return {
        "seconds_a_call": seconds, "calls": calls, "played": round(took, 2), "alone": round(bare, 2),
        "overhead": round(took / bare - 1, 4), "cpu_ms_per_call": round(1000 * cpu / calls, 2),
    }  # fmt: skip


rows = [figures(seconds) for seconds in SECONDS]
sys.stdout.write("| " + " | ".join(rows[0]) + " |\n|" + "---|" * len(rows[0]) + "\n")
for row in rows:
    sys.stdout.write("| " + " | ".join(map(str, row.values())) + " |\n")
sys.stdout.write(json.dumps({"overhead_at_50": {str(row["seconds_a_call"]): row["overhead"] for row in rows}}) + "\n")
