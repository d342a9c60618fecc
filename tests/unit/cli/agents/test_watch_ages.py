"""How old is what `subterra watch` shows?"""

import io
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from kubernetes import client
from rich.console import Console

from subterra_cli.agents import watch_compile
from subterra_cli.agents.watch_compile import OperatorWatch, age, progress_table, stage_views, watch
from subterra_cli.cluster import ClusterAccessError, ClusterTarget, ResourceReader

START = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
RUNNING = {"name": "train", "state": "Running", "percent": 42, "startedAt": "2026-11-20T12:00:00Z"}
HEARD = {**RUNNING, "reportedAt": "2026-11-20T12:05:00Z", "message": "40 of 95 steps"}
AGENT = {"metadata": {"name": "travel", "generation": 1}, "status": {"currentRun": "travel-1"}}


def line(stage: dict[str, Any], minutes: float) -> str:
    """The line about the training, so long after the start."""
    views = stage_views(AGENT, {"status": {"stages": [stage]}}, START + timedelta(minutes=minutes))
    return views[1].line()


def test_a_stage_that_is_heard_reads_as_before() -> None:
    assert line(HEARD, 5.9) == "train: Running 42% 40 of 95 steps"


def test_a_stage_that_is_not_heard_says_for_how_long() -> None:
    assert line(HEARD, 17) == "train: Running 42% no progress heard for 12 min; 40 of 95 steps"
    assert line(RUNNING, 3) == "train: Running 42% no progress heard for 3 min", "not since its start"


@pytest.mark.parametrize(
    "stage",
    [{**RUNNING, "message": "pod pending: unschedulable"}, {**HEARD, "state": "Succeeded"}, {**HEARD, "state": "Failed"}],
    ids=["its message says why", "done", "failed"],
)
def test_where_nothing_is_to_be_heard_nothing_is_said(stage: dict[str, Any]) -> None:
    assert "heard" not in line(stage, 60)


def test_without_a_clock_no_age_is_said() -> None:
    assert "heard" not in stage_views(AGENT, {"status": {"stages": [HEARD]}})[1].line()


def test_an_age_reads_like_one() -> None:
    assert [age(seconds) for seconds in (61, 725, 7500)] == ["1 min", "12 min", "2 h 5 min"]


class Cluster:
    """A cluster whose operator beats until it stops; the time passes with every look."""

    target = ClusterTarget("demo")

    def __init__(self, stops_after: float | None = None) -> None:
        self.seconds, self.looks, self._stops_after = 0.0, 0, stops_after
        self.stage = HEARD

    def now(self) -> datetime:
        return START + timedelta(minutes=5, seconds=self.seconds)

    def last_heartbeat(self) -> datetime | None:
        self.looks += 1
        if self._stops_after is None:
            return None
        return START + timedelta(minutes=5, seconds=min(self.seconds, self._stops_after))

    def get(self, plural: str, name: str) -> dict[str, Any]:
        return AGENT if plural == "compiledagents" else {"status": {"stages": [self.stage]}}

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds


def shown(cluster: Cluster, monkeypatch: pytest.MonkeyPatch, timeout: float) -> list[str]:
    """The log of a watch that is never served."""
    monkeypatch.setattr(watch_compile.time, "sleep", cluster.sleep)
    output = io.StringIO()
    reader: Any = cluster
    with pytest.raises(ClusterAccessError, match="is not served"):
        watch(reader, "travel", Console(file=output, width=200), timeout=timeout, clock=lambda: cluster.seconds)
    return [text for text in output.getvalue().splitlines() if text]


def test_the_log_says_once_that_nothing_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = shown(Cluster(), monkeypatch, 300)
    assert lines == [
        "[     0s] train: Running 42% 40 of 95 steps",
        "[ 1m 01s] train: Running 42% no progress heard for 1 min; 40 of 95 steps",
    ]


def test_an_operator_that_is_not_heard_is_told_once_and_looked_for_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Cluster(stops_after=100)
    lines = shown(cluster, monkeypatch, 300)
    [told] = [text for text in lines if "operator" in text]
    assert "the operator was last heard 1 min ago, so this may be out of date; check its pod" in told
    assert cluster.looks == 20


def test_an_operator_that_comes_back_is_told_too() -> None:
    cluster = Cluster(stops_after=0)
    reader: Any = cluster
    operator = OperatorWatch(reader, lambda: cluster.seconds)
    assert operator.warning() == ""
    cluster.seconds = 125
    assert "last heard 2 min ago" in operator.warning()
    cluster._stops_after = 125
    assert "last heard" in operator.warning(), "it is not asked again at once"
    cluster.seconds = 140
    assert operator.warning() == ""


def test_the_table_has_the_warning_below_it() -> None:
    output = io.StringIO()
    views = stage_views(AGENT, {"status": {"stages": [HEARD]}}, START + timedelta(minutes=17))
    Console(file=output, width=160).print(progress_table("travel", views, 1, "the operator was last heard 3 min ago"))
    text = output.getvalue()
    assert "no progress heard for 12 min" in text and text.rstrip().endswith("the operator was last heard 3 min ago")


class ConfigMaps:
    """ConfigMaps as the API server returns them to a user with few rights or many."""

    def __init__(self, beats: dict[str, str], everywhere: bool = True) -> None:
        self._beats, self._everywhere = beats, everywhere

    def list_config_map_for_all_namespaces(self, field_selector: str) -> Any:
        if not self._everywhere:
            raise client.ApiException(status=403)
        assert field_selector == "metadata.name=subterra-operator-heartbeat"
        return SimpleNamespace(items=[self._of(namespace) for namespace in self._beats])

    def read_namespaced_config_map(self, name: str, namespace: str) -> Any:
        if namespace not in self._beats:
            raise client.ApiException(status=404 if namespace == "demo" else 403)
        return self._of(namespace)

    def _of(self, namespace: str) -> Any:
        annotations = {"subterra.dev/beat": self._beats[namespace]} if self._beats[namespace] else None
        return SimpleNamespace(metadata=SimpleNamespace(namespace=namespace, annotations=annotations))


EARLY, LATE = "2026-11-20T12:00:00.5+00:00", "2026-11-20T12:01:00+00:00"


@pytest.mark.parametrize(
    ("config_maps", "beat"),
    [
        (ConfigMaps({"subterra-system": EARLY}), EARLY),
        (ConfigMaps({"subterra-system": EARLY, "other": LATE}), LATE),
        (ConfigMaps({"demo": EARLY, "other": LATE}), EARLY),
        (ConfigMaps({"subterra-system": EARLY}, everywhere=False), EARLY),
        (ConfigMaps({"elsewhere": EARLY}, everywhere=False), None),
        (ConfigMaps({"subterra-system": ""}), None),
        (ConfigMaps({"subterra-system": "nonsense"}), None),
        (ConfigMaps({}), None),
    ],
    ids=["one", "the latest", "the namespace's own", "few rights", "no rights", "no beat yet", "not a time", "none"],
)
def test_the_heartbeat_is_read_as_far_as_the_users_rights_go(config_maps: ConfigMaps, beat: str | None) -> None:
    reader = ResourceReader.__new__(ResourceReader)
    core: Any = config_maps
    reader.target, reader._core = ClusterTarget("demo"), core
    assert reader.last_heartbeat() == (datetime.fromisoformat(beat) if beat else None)


def test_ages_go_by_the_api_servers_clock() -> None:
    reader = ResourceReader.__new__(ResourceReader)
    ahead = datetime.now(UTC) + timedelta(hours=3)
    answer = ({}, 200, {"Date": f"{ahead:%a, %d %b %Y %H:%M:%S} GMT"})
    objects: Any = SimpleNamespace(get_namespaced_custom_object_with_http_info=lambda *_: answer)
    reader.target, reader._objects, reader._ahead = ClusterTarget("demo"), objects, timedelta(0)
    reader.get("compiledagents", "travel")
    assert abs(reader.now() - ahead) < timedelta(seconds=10)
