"""A version's last minutes on a real vLLM: clients who keep their connections open move on, and no request fails.

`tests/unit/operator/specs/test_drain.py` has more of it without a model, `make bench-serving` with more versions and clients.
"""

import asyncio
from pathlib import Path

import httpx
import pytest
from tests.engines.vllm.conftest import UNTRAINED

from subterra_cli.chat.load.load_run import LoadRun, customers
from subterra_operator.specs.in_vllm.drainable_vllm import IDLE_PATH
from subterra_operator.specs.vllm_container import drain_command
from subterra_testkit.runs.generation_inputs import travel
from subterra_testkit.servers.serving.pod_end import end_container
from subterra_testkit.servers.serving.tcp_service import TcpService
from subterra_testkit.servers.vllm_server import vllm_process

pytestmark = pytest.mark.timeout(900)
CLIENTS = 8
SHORT = 12
"""Tokens of a reply, which this model does not end."""


@pytest.mark.exhaustive
async def test_no_request_of_eight_clients_fails_when_a_version_takes_over(
    untrained: str, untrained_model: Path, tmp_path: Path
) -> None:
    with vllm_process(untrained_model, UNTRAINED, tmp_path) as (process, port):
        service = TcpService([port])
        async with service.running() as url:
            run, talk = LoadRun(url, UNTRAINED, travel(), customers(travel(), 10, 1), max_tokens=SHORT), True
            clients = asyncio.create_task(run.closed_loop(CLIENTS, lambda: talk))
            await more_requests(run, 2 * CLIENTS)
            service.move(int(untrained.rpartition(":")[2]))
            before = service.connections[port]
            await end_container(process, drain_command(f"http://127.0.0.1:{port}{IDLE_PATH}", 1), grace=300)
            await more_requests(run, 2 * CLIENTS)
            talk = False
            seen = await clients
    assert [request.error for request in seen.requests if request.error] == []
    assert service.connections[port] == before, "clients came back to the former version"
    assert all(request.first_token and request.completion_tokens <= SHORT for request in seen.requests)


async def more_requests(run: LoadRun, number: int) -> None:
    wanted = len(run.requests) + number
    while len(run.requests) < wanted:  # noqa: ASYNC110  the clients tell nobody
        await asyncio.sleep(0.05)


def test_each_response_ends_its_connection_and_the_server_says_how_long_it_has_been_idle(untrained: str) -> None:
    with httpx.Client(base_url=untrained) as client:
        answers = [client.get(path) for path in ("/health", "/v1/models", "/metrics", IDLE_PATH)]
    assert [answer.headers["connection"] for answer in answers] == ["close"] * 4
    assert float(answers[-1].text) >= 0
