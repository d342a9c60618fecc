"""The generate stage on a real Ray cluster of several nodes, of which some die: bytes, money, and who does the work."""

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from subterra_api.job_contract.artifacts import artifact_path
from subterra_api.job_contract.environment import (
    BUDGET_VARIABLE,
    RAY_ADDRESS_VARIABLE,
    RAY_ENVIRONMENT,
    TERMINATION_LOG_VARIABLE,
    WORKERS_VARIABLE,
)
from subterra_api.job_contract.messages import ExitCode, RunInput, StageResult
from subterra_jobs.generate import main as stage
from subterra_jobs.generate.plan.plan import plan_conversations
from subterra_jobs.generate.workers import ray_runtime
from subterra_jobs.spending.ledger import Ledger
from subterra_jobs.store.artifact_store import ArtifactStore
from subterra_testkit.runs.generation_inputs import PAID, run_input
from subterra_testkit.runs.generation_runs import generate
from subterra_testkit.runs.in_process_pool import InProcessPool
from subterra_testkit.servers.fake_llm_api import FakeLLMApi, fake_llm_api

PATIENCE = 270
"""Seconds for a driver on a busy machine: Ray alone may take 30 to start, three times."""
STORE_BYTES = "80000000"
TOKEN = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "token-of-the-tests"}
"""As KubeRay gives it to each pod. Without a mode a head asks for a token where the machine has one, and nodes bring none."""
pytestmark = pytest.mark.timeout(3 * PATIENCE)
DRIVER = """
from subterra_jobs.generate import main as stage
from subterra_jobs.generate.workers import ray_pool, ray_runtime
from subterra_jobs.stage import runner
{settings}
runner.main("generate", stage.work)
"""


@dataclass
class RayNode:
    """A `ray start` and its log, as a pod has them."""

    process: "subprocess.Popen[bytes]"
    log: Path

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    @property
    def started(self) -> bool:
        return ray_runtime.STARTED in self.log.read_text(errors="replace")

    def kill(self) -> None:
        """Kills the node with everything on it, as when a machine is gone."""
        if self.alive:
            root = psutil.Process(self.process.pid)
            for process in [*root.children(recursive=True), root]:
                with suppress(psutil.NoSuchProcess):
                    process.kill()
        self.process.wait()


class RayCluster:
    """Ray processes as the pods of a RayJob have them: a head without processors, and nodes with one; each is made again."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self._folder, self._made = folder, 0
        self._environment = os.environ | RAY_ENVIRONMENT | TOKEN | {"PYTHONPATH": ray_runtime._python_path()} | environment
        self.head: RayNode | None = None
        self.nodes: list[RayNode] = []

    def need(self, nodes: int) -> None:
        """Makes what is missing to a head and so many nodes, and ends what is too much."""
        if self.head is None or not self.head.alive:
            self.close()
            self.head = self._made_to_start(self._start_head)
        alive = [node for node in self.nodes if node.alive]
        for node in alive[nodes:]:
            node.kill()
        self.nodes = alive[:nodes]
        first_tries = [self._start_node() for _ in range(nodes - len(self.nodes))]
        self.nodes += [self._made_to_start(self._start_node, node) for node in first_tries]

    def close(self) -> None:
        for node in (*self.nodes, *filter(None, [self.head])):
            node.kill()
        self.head, self.nodes = None, []

    def _made_to_start(self, start: Callable[[], RayNode], first: RayNode | None = None) -> RayNode:
        """A node that has started. Ray's 30 s are not enough on a busy machine; KubeRay makes such a pod again, and again."""
        deadline, node = time.monotonic() + PATIENCE, first or start()
        while not node.started:
            assert time.monotonic() < deadline, node.log.read_text()[-3000:]
            time.sleep(0.1)
            node = node if node.alive else start()
        return node

    def _start_head(self) -> RayNode:
        with closing(socket.create_server(("", 0))) as taken:
            port = taken.getsockname()[1]
        self.address = f"127.0.0.1:{port}"
        temp = self._folder / str(self._made)
        return self._start(
            "--head",
            f"--port={port}",
            "--include-dashboard=false",
            f"--temp-dir={temp}",
            "--no-monitor",
        )

    def _start_node(self) -> RayNode:
        return self._start(f"--address={self.address}", cpus=1)

    def _start(self, *options: str, cpus: int = 0) -> RayNode:
        self._made += 1
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", f"--num-cpus={cpus}", "--num-gpus=0"]
        command += ["--include-log-monitor=false", f"--object-store-memory={STORE_BYTES}", *options]
        log = self._folder / f"{self._made}.log"
        with log.open("wb") as output:
            return RayNode(subprocess.Popen(command, env=self._environment, stdout=output, stderr=subprocess.STDOUT), log)


@pytest.fixture(scope="module")
def served() -> Iterator[FakeLLMApi]:
    with fake_llm_api(FakeLLMApi(seconds=0.05)) as found:
        yield found


@pytest.fixture(scope="module")
def shared(served: FakeLLMApi) -> Iterator[RayCluster]:
    """A cluster whose nodes have the key, as workers' pods do. Paths of sockets may have 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp", ignore_cleanup_errors=True) as folder:
        made = RayCluster(Path(folder), {"ANTHROPIC_BASE_URL": served.url, "ANTHROPIC_API_KEY": "sk-test"})
        try:
            yield made
        finally:
            made.close()


@pytest.fixture
def api(served: FakeLLMApi) -> FakeLLMApi:
    served.paid = 0
    return served


@pytest.fixture
def cluster(shared: RayCluster) -> RayCluster:
    """Two nodes with one processor each."""
    shared.need(2)
    return shared


@contextmanager
def driver(
    folder: Path, run: RunInput, cluster: RayCluster, settings: str = "", **environment: str
) -> Iterator[tuple["subprocess.Popen[bytes]", Path]]:
    """The stage in a process of its own, as in its pod, and its termination message. Ray kills a driver that lost its cluster."""
    source, log = folder / "input.json", folder / "termination"
    source.write_text(run.model_dump_json(by_alias=True))
    command = [sys.executable, "-c", DRIVER.format(settings=settings), "--input", str(source)]
    variables = {RAY_ADDRESS_VARIABLE: cluster.address, WORKERS_VARIABLE: "2", TERMINATION_LOG_VARIABLE: str(log)}
    keys = {"ANTHROPIC_BASE_URL": cluster._environment["ANTHROPIC_BASE_URL"], "ANTHROPIC_API_KEY": "sk-test"}
    with (folder / "stderr").open("wb") as stderr:
        process = subprocess.Popen(command, env=os.environ | TOKEN | variables | keys | environment, stderr=stderr, cwd=folder)
        node = RayNode(process, folder / "stderr")
        try:
            yield process, log
        finally:
            node.kill()
            sys.stderr.write(node.log.read_text(errors="replace"))


def wait_until_paid(api: FakeLLMApi, count: int, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + PATIENCE
    while api.paid < count:
        assert process.poll() is None and time.monotonic() < deadline, f"only {api.paid} of {count} calls were paid"
        time.sleep(0.01)


def test_a_node_that_dies_costs_no_more_than_its_calls_in_flight_and_the_dataset_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, api: FakeLLMApi, cluster: RayCluster
) -> None:
    run = run_input(tmp_path / "several", teacher=PAID)
    with driver(tmp_path, run, cluster, "stage.MAX_LLM_CALLS = 4") as (process, log):
        wait_until_paid(api, 60, process)
        cluster.nodes[0].kill()  # nobody brings another one, so its worker never comes back
        assert process.wait(PATIENCE) == ExitCode.SUCCEEDED
    result = StageResult.model_validate_json(log.read_text())
    turns = sum(len(planned.path) + len(planned.audited) for planned in plan_conversations(run.procedure, run.generation))
    assert turns <= api.paid <= turns + 4, "at most the calls in flight on that node are paid again"
    booked = [payment.usd for payment in Ledger(ArtifactStore(run.store), run.run).new_payments()]
    assert float(sum(booked)) >= 0.0036 * api.paid - 1e-9, "and what they may have cost is booked"
    assert float(result.usd) == pytest.approx(float(sum(booked)))
    monkeypatch.setattr(stage, "RayPool", InProcessPool)
    monkeypatch.setenv("ANTHROPIC_BASE_URL", api.url)
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-test")
    _, alone = generate(run_input(tmp_path / "alone", teacher=PAID), tmp_path / "alone-output")
    spread = tmp_path / "several" / artifact_path("generate", run.keys.dataset)
    assert {file.name: (spread / file.name).read_bytes() for file in alone.iterdir()} == {
        file.name: file.read_bytes() for file in alone.iterdir()
    }


def test_workers_of_two_nodes_share_one_cap(tmp_path: Path, api: FakeLLMApi, cluster: RayCluster) -> None:
    run = run_input(tmp_path, teacher=PAID)
    with driver(tmp_path, run, cluster, **{BUDGET_VARIABLE: '{"maxUSDPer30Days": "0.1"}'}) as (process, log):
        assert process.wait(PATIENCE) == ExitCode.BUDGET_EXCEEDED
    assert log.read_text().startswith("the cap per 30 days is $0.1: ")
    assert 0 < api.paid * 0.0036 <= 0.1


def test_a_head_that_is_gone_ends_the_attempt_with_an_error_that_is_retried(
    tmp_path: Path, api: FakeLLMApi, cluster: RayCluster
) -> None:
    run = run_input(tmp_path, teacher=PAID)
    settings = "stage.MAX_LLM_CALLS = 4; ray_runtime.CHECK_SECONDS, ray_runtime.HEAD_SECONDS = 0.2, 1.0"
    with driver(tmp_path, run, cluster, settings) as (process, log):
        wait_until_paid(api, 5, process)
        assert cluster.head is not None
        cluster.head.kill()
        assert process.wait(60) == ExitCode.INFRASTRUCTURE, "before Ray kills it"
    assert "no longer answers" in log.read_text()
    assert api.paid >= 5


def test_a_cluster_without_a_processor_ends_the_attempt_and_says_what_to_look_at(
    tmp_path: Path, api: FakeLLMApi, shared: RayCluster
) -> None:
    shared.need(0)
    run = run_input(tmp_path, teacher=PAID)
    with driver(tmp_path, run, shared, "ray_pool.UNSTAFFED_SECONDS = 1.0") as (process, log):
        assert process.wait(PATIENCE) == ExitCode.INFRASTRUCTURE
    assert log.read_text().startswith("none of 2 workers has got a processor for 0 minutes; see that the pods")
    assert api.paid == 0
