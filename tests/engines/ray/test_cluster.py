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

import httpx
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
from subterra_operator.specs.stage_env.ray_job import FIRST_DRIVER
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

    def __init__(self, folder: Path, api: FakeLLMApi, dashboard: int | None = None) -> None:
        self._folder, self._dashboard = folder, dashboard
        self.keys = {"ANTHROPIC_BASE_URL": api.url, "ANTHROPIC_API_KEY": "sk-test"}
        self._environment = os.environ | RAY_ENVIRONMENT | TOKEN | {"PYTHONPATH": ray_runtime._python_path()} | self.keys
        self.head: RayNode | None = None
        self.nodes: list[RayNode] = []
        self._all: list[RayNode] = []

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
        for node in self._all:
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
        port, temp = free_port(), self._folder / str(len(self._all))
        self.address = f"127.0.0.1:{port}"
        options = ["--head", f"--port={port}", f"--temp-dir={temp}", "--no-monitor"]
        options += [f"--dashboard-port={self._dashboard}"] if self._dashboard else ["--include-dashboard=false"]
        return self._start(*options)

    def _start_node(self) -> RayNode:
        return self._start(f"--address={self.address}", cpus=1)

    def _start(self, *options: str, cpus: int = 0) -> RayNode:
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", f"--num-cpus={cpus}", "--num-gpus=0"]
        command += ["--include-log-monitor=false", f"--object-store-memory={STORE_BYTES}", *options]
        log = self._folder / f"{len(self._all)}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(command, env=self._environment, stdout=output, stderr=subprocess.STDOUT)
        self._all.append(RayNode(process, log))
        return self._all[-1]


def free_port() -> int:
    with closing(socket.create_server(("", 0))) as taken:
        return int(taken.getsockname()[1])


@pytest.fixture(scope="module")
def served() -> Iterator[FakeLLMApi]:
    with fake_llm_api(FakeLLMApi(seconds=0.05)) as found:
        yield found


@contextmanager
def ray_cluster(api: FakeLLMApi, dashboard: int | None = None) -> Iterator[RayCluster]:
    """A cluster whose nodes have the key, as workers' pods do. Paths of sockets may have 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp", ignore_cleanup_errors=True) as folder:
        made = RayCluster(Path(folder), api, dashboard)
        try:
            yield made
        finally:
            made.close()


@pytest.fixture(scope="module")
def shared(served: FakeLLMApi) -> Iterator[RayCluster]:
    """Tests kill parts of it, and get what is missing made again."""
    with ray_cluster(served) as made:
        yield made


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
    variables = {RAY_ADDRESS_VARIABLE: cluster.address, WORKERS_VARIABLE: "2", TERMINATION_LOG_VARIABLE: str(log)} | environment
    with (folder / "stderr").open("wb") as stderr:
        process = subprocess.Popen(command, env=os.environ | TOKEN | variables | cluster.keys, stderr=stderr, cwd=folder)
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


@pytest.mark.exhaustive  # test_broker.py: all workers count against one cap
def test_workers_of_two_nodes_share_one_cap(tmp_path: Path, api: FakeLLMApi, cluster: RayCluster) -> None:
    run = run_input(tmp_path, teacher=PAID)
    with driver(tmp_path, run, cluster, **{BUDGET_VARIABLE: '{"maxUSDPer30Days": "0.1"}'}) as (process, log):
        assert process.wait(PATIENCE) == ExitCode.BUDGET_EXCEEDED
    assert log.read_text().startswith("the cap per 30 days is $0.1: ")
    assert 0 < api.paid * 0.0036 <= 0.1


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


def test_a_cluster_without_a_processor_ends_the_attempt_and_says_what_to_look_at(
    tmp_path: Path, api: FakeLLMApi, shared: RayCluster
) -> None:
    shared.need(0)
    run = run_input(tmp_path, teacher=PAID)
    with driver(tmp_path, run, shared, "ray_pool.UNSTAFFED_SECONDS = 1.0") as (process, log):
        assert process.wait(PATIENCE) == ExitCode.INFRASTRUCTURE
    assert log.read_text().startswith("none of 2 workers has got a processor for 0 minutes; see that the pods")
    assert api.paid == 0


@pytest.mark.exhaustive  # test_ray_runtime.py: the thread that watches the head
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


@pytest.mark.exhaustive  # Ray's dashboard is ten processes
def test_the_dashboard_knows_the_driver_by_the_id_that_kuberay_asks_for(tmp_path: Path, served: FakeLLMApi) -> None:
    port = free_port()
    with ray_cluster(served, port) as cluster:
        cluster.need(0)
        with driver(tmp_path, run_input(tmp_path), cluster, "ray_pool.UNSTAFFED_SECONDS = 1.0") as (process, _):
            assert process.wait(PATIENCE) == ExitCode.INFRASTRUCTURE
        address = f"http://127.0.0.1:{port}/api/jobs/{FIRST_DRIVER}"
        refused = httpx.get(address, timeout=60)
        job = httpx.get(address, headers={"x-ray-authorization": f"Bearer {TOKEN['RAY_AUTH_TOKEN']}"}, timeout=60).json()
    assert refused.status_code == 401
    assert (job["type"], job["job_id"], job["status"]) == ("DRIVER", FIRST_DRIVER, "SUCCEEDED")
