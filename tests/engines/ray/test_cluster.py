"""The generate stage on a real Ray cluster of several nodes, of which some die: bytes, money, and who does the work."""

import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import psutil
import pytest

from subterra_api.job_contract.environment import RAY_ADDRESS_VARIABLE, RAY_ENVIRONMENT, WORKERS_VARIABLE
from subterra_api.job_contract.messages import Budget
from subterra_jobs.errors import BudgetExceededError, InfrastructureError
from subterra_jobs.generate import main as stage
from subterra_jobs.generate.plan.plan import plan_conversations
from subterra_jobs.generate.workers import ray_runtime
from subterra_jobs.generate.workers.ray_pool import PoolShape, RayPool
from subterra_jobs.generate.written_conversation import Conversation
from subterra_jobs.spending.ledger import Ledger
from subterra_jobs.store.artifact_store import ArtifactStore
from subterra_testkit.runs.generation_inputs import PAID, run_input
from subterra_testkit.runs.generation_runs import generate, lease_of
from subterra_testkit.runs.in_process_pool import InProcessPool
from subterra_testkit.servers.fake_llm_api import FakeLLMApi, fake_llm_api

STORE_BYTES = "80000000"


class RayCluster:
    """Ray processes as the pods of a RayJob have them: a head without processors, and nodes with one."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self._folder, self._environment = (
            folder,
            os.environ | RAY_ENVIRONMENT | environment | {"PYTHONPATH": ray_runtime._python_path()},
        )
        with closing(socket.create_server(("", 0))) as taken:
            self._port = taken.getsockname()[1]
        self.head = self._start("head", "--head", f"--port={self._port}", "--include-dashboard=false", f"--temp-dir={folder}")
        self.nodes: list[subprocess.Popen[bytes]] = []
        self._wait_for_head()

    @property
    def address(self) -> str:
        return f"{socket.gethostbyname(socket.gethostname())}:{self._port}"

    def _wait_for_head(self) -> None:
        """As KubeRay's init container of each worker does."""
        deadline = time.monotonic() + 180
        while not ray_runtime._answers(self.address):
            assert self.head.poll() is None and time.monotonic() < deadline, (self._folder / "head.log").read_text()[-3000:]
            time.sleep(0.1)

    def add_node(self) -> None:
        self.nodes.append(self._start(f"node-{len(self.nodes)}", f"--address={self.address}", cpus=1))

    def kill(self, started: "subprocess.Popen[bytes]") -> None:
        """Kills a node with everything on it, as when a machine is gone."""
        root = psutil.Process(started.pid)
        for process in [*root.children(recursive=True), root]:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        started.wait()

    def close(self) -> None:
        for started in (*self.nodes, self.head):
            if started.poll() is None:
                self.kill(started)

    def _start(self, name: str, *options: str, cpus: int = 0) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", f"--num-cpus={cpus}", "--num-gpus=0"]
        command += [f"--object-store-memory={STORE_BYTES}", *options]
        with (self._folder / f"{name}.log").open("wb") as log:
            return subprocess.Popen(command, env=self._environment, stdout=log, stderr=subprocess.STDOUT)


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeLLMApi]:
    with fake_llm_api(FakeLLMApi(seconds=0.05)) as found:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", found.url)
        monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-test")
        yield found


@pytest.fixture
def cluster(api: FakeLLMApi) -> Iterator[RayCluster]:
    """A cluster whose nodes have the key, as workers' pods do. Paths of sockets may have 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp", ignore_cleanup_errors=True) as folder:
        made = RayCluster(Path(folder), {"ANTHROPIC_BASE_URL": api.url, "ANTHROPIC_API_KEY": "sk-test"})
        try:
            made.add_node()
            made.add_node()
            yield made
        finally:
            made.close()


def test_a_node_that_dies_costs_no_more_than_its_calls_in_flight_and_the_dataset_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, api: FakeLLMApi, cluster: RayCluster
) -> None:
    run = run_input(tmp_path / "several", teacher=PAID)
    monkeypatch.setenv(RAY_ADDRESS_VARIABLE, cluster.address)
    monkeypatch.setenv(WORKERS_VARIABLE, "2")
    monkeypatch.setattr(stage, "MAX_LLM_CALLS", 4)
    killer = threading.Thread(target=kill_when_paid, args=(cluster, api, 60))
    killer.start()
    outcome, spread = generate(run, tmp_path / "several-output")
    killer.join()
    turns = sum(len(planned.path) + len(planned.audited) for planned in plan_conversations(run.procedure, run.generation))
    assert turns <= api.paid <= turns + 4, "at most the calls in flight on that node are paid again"
    booked = [payment.usd for payment in Ledger(ArtifactStore(run.store), run.run).new_payments()]
    assert float(sum(booked)) >= 0.0036 * api.paid - 1e-9, "and what they may have cost is booked"
    assert float(outcome.usd) == pytest.approx(float(sum(booked)))
    monkeypatch.setattr(stage, "RayPool", InProcessPool)
    monkeypatch.delenv(RAY_ADDRESS_VARIABLE)
    _, alone = generate(run_input(tmp_path / "alone", teacher=PAID), tmp_path / "alone-output")
    assert {file.name: file.read_bytes() for file in spread.iterdir()} == {file.name: file.read_bytes() for file in alone.iterdir()}


def kill_when_paid(cluster: RayCluster, api: FakeLLMApi, count: int) -> None:
    """Kills one of the two nodes; nobody brings another one, so that its worker never comes back."""
    deadline = time.monotonic() + 120
    while api.paid < count and time.monotonic() < deadline:
        time.sleep(0.01)
    cluster.kill(cluster.nodes[0])


def test_workers_of_two_nodes_share_one_cap(tmp_path: Path, api: FakeLLMApi, cluster: RayCluster) -> None:
    run = run_input(tmp_path, teacher=PAID)
    shape = PoolShape(workers=2, batch=4, concurrency=8, calls=8)
    conversations = [Conversation(planned) for planned in plan_conversations(run.procedure, run.generation)]
    with (
        pytest.raises(BudgetExceededError, match=r"cap .* is \$0.1"),
        RayPool(run, shape, Budget(max_usd="0.1"), lease_of(run).check, cluster.address) as pool,
    ):
        pool.write(conversations, lambda _: None)
    assert 0 < api.paid * 0.0036 <= 0.1


def test_a_head_that_is_gone_ends_the_attempt_with_an_error_that_is_retried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cluster: RayCluster
) -> None:
    monkeypatch.setattr(ray_runtime, "CHECK_SECONDS", 0.2)
    monkeypatch.setattr(ray_runtime, "HEAD_SECONDS", 1.0)
    run = run_input(tmp_path, teacher=PAID)
    conversations = [Conversation(planned) for planned in plan_conversations(run.procedure, run.generation)]
    shape = PoolShape(workers=2, batch=1, concurrency=1, calls=1)
    with RayPool(run, shape, Budget(), lease_of(run).check, cluster.address) as pool:
        pool.write(conversations[:1], lambda _: cluster.kill(cluster.head))
        with pytest.raises(InfrastructureError, match=r"no longer answers|ended with exit code"):
            pool.write(conversations, lambda _: None)
