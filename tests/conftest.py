"""What tests of several folders need."""

import gc
from collections.abc import Callable, Iterator
from datetime import date
from functools import partial
from pathlib import Path

import hypothesis
import pytest
from tests import programs
from tests.tools import objectstore
from tests.tools.gitops_health import build
from tests.tools.gitops_health.build import Oracle
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import WorkerController

from subterra_cluster import binaries as cluster_binaries
from subterra_cluster.config import default_cache
from subterra_cluster.kubernetes.control_plane import ControlPlane
from subterra_jobs.stage import environment
from subterra_testkit.servers.fake_llm_api import FakeLLMApi, fake_llm_api

TESTS = Path(__file__).parent
hypothesis.settings.register_profile("untimed", deadline=None)  # a busy machine is no counterexample
hypothesis.settings.load_profile("untimed")
TODAY = date(2026, 11, 20)
"""By which hosted models have retired or not, so that tests do not begin to fail on the day on which one of theirs does."""
LONG_FIRST = (
    "unit/jobs/llm",
    "engines/deepspeed",
    "engines/ray",
    "engines/vllm",
    "faults",
    "apiserver",
    "stages/test_evaluation.py",
    "stages/test_scripted_evaluation.py",
    "stages/test_generation_reuse.py",
    "engines",
    "browser",
)
"""Folders and files whose tests share a process, longest first; all others are a group per file.

Unit tests that call hosted models are in one process, since their clients are thousands of modules, which take seconds to import.
"""
HOSTED = (
    "unit/bench/test_thinking_teacher.py",
    "unit/cli/test_models.py",
    "unit/jobs/evaluate/judge/test_llm_labeller.py",
    "unit/jobs/evaluate/simulate/test_user_simulator.py",
)
"""Files that share a process with the tests in ``unit/jobs/llm``."""


class EngineScheduling(LoadScopeScheduling):
    """Keeps tests that share an engine or a file in one process."""

    def _split_scope(self, nodeid: str) -> str:
        return _group(nodeid.partition("::")[0].removeprefix("tests/"))

    def _reschedule(self, node: WorkerController) -> None:
        """Hands out another group when one test is left, not at two: what waits behind them may be minutes, and others are free.

        A process runs its last test only when it knows what comes next.
        """
        if not self.workqueue or self._pending_of(self.assigned_work[node]) < 2:
            super()._reschedule(node)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> EngineScheduling:
    """The scheduler for ``--numprocesses``."""
    return EngineScheduling(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begins with the tests that take longest."""
    items.sort(key=lambda item: _rank(_group(item.path.relative_to(TESTS).as_posix())))


def pytest_collection_finish() -> None:
    """Leaves modules and collected tests, most of the heap, out of every later garbage collection."""
    gc.collect()
    gc.freeze()


def _group(file: str) -> str:
    """The first of `LONG_FIRST` that a test's file is or lies in, or else the file; `file` is relative to this folder."""
    if file in HOSTED:
        return "unit/jobs/llm"
    return next((group for group in LONG_FIRST if file == group or file.startswith(f"{group}/")), file)


def _rank(group: str) -> int:
    return LONG_FIRST.index(group) if group in LONG_FIRST else len(LONG_FIRST)


@pytest.fixture(autouse=True)
def day(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stages and commands in this process see `TODAY`."""
    monkeypatch.setattr(environment, "current_date", lambda: TODAY)


@pytest.fixture(scope="session")
def oracle() -> Callable[..., Oracle]:
    """How a tool reads objects: ``oracle("kstatus")``, ``oracle("lua", script)``, ``oracle("cel", kustomization)``."""
    if not (program := programs.path_of(build.SOURCES, default_cache())).exists():
        pytest.skip("the oracles are not built: make test builds them")

    def asked(*question: str | Path) -> Oracle:
        return partial(build.ask, program, question)

    return asked


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URI of a bucket on a real S3 server; the environment has its address and keys."""
    if not (program := programs.path_of(objectstore.SOURCES, default_cache())).exists():
        pytest.skip("the S3 server is not built: make test builds it")
    with objectstore.serving(program, tmp_path_factory.mktemp("s3") / "data") as environment, pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        yield f"s3://{objectstore.BUCKET}"


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeLLMApi]:
    """The fake Anthropic API, with address and key in the environment."""
    with fake_llm_api() as served:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", served.url)
        monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-test-secret")
        yield served


@pytest.fixture(params=["volume", "memory", "S3"])
def store_uri(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty artifact store of each kind."""
    if request.param == "S3":
        return f"{request.getfixturevalue('s3')}/{tmp_path.name}"
    return tmp_path.as_uri() if request.param == "volume" else f"memory://{tmp_path}"


@pytest.fixture(scope="session")
def kstatus(oracle: Callable[..., Oracle]) -> Oracle:
    """How tools that wait read an object: status and message."""
    return oracle("kstatus")


@pytest.fixture(scope="session")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    """The control plane that all tests share; each has a namespace of its own."""
    if cluster_binaries.cached(default_cache()) is None:
        pytest.skip("the binaries are not built: make test builds them")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GOGC", "400")  # collecting garbage took a third of the API server's time, and memory is plenty
        with ControlPlane(Path(tmp_path_factory.mktemp("plane")), controllers=True) as found:
            yield found
