"""A namespace on the embedded cluster: real kubelet, scheduler, Services and DNS. Needs root and the images."""

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from subterra_cluster.config import default_paths
from subterra_demo import steps
from subterra_operator.labels import labels_of
from subterra_operator.resources import Object

PLACE = steps.DemoCluster()
PATIENCE = 900.0


@dataclass(frozen=True)
class NodeNamespace:
    """What tests do in a namespace, with kubectl."""

    name: str

    def kubectl(self, *words: str, stdin: str | None = None) -> str:
        """The output of a kubectl command, which must succeed."""
        command = PLACE.kubectl("--namespace", self.name, *words)
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def read(self, kind: str, name: str = "") -> Any:
        """An object, or all of a kind."""
        found = json.loads(self.kubectl("get", kind, *([name] if name else []), "--output=json", "--show-managed-fields"))
        return found if name else found["items"]

    def apply(self, obj: Object) -> None:
        """Creates or changes an object."""
        self.kubectl("apply", "--filename=-", stdin=json.dumps(obj))

    def pod_of(self, **marks: str) -> Object | None:
        """The newest running pod with these labels of ours."""
        wanted = {f"subterra.dev/{name}": value for name, value in marks.items()}
        alive = [
            pod for pod in self.read("pods") if wanted.items() <= labels_of(pod).items() and pod["status"].get("phase") == "Running"
        ]
        return max(alive, key=lambda pod: str(pod["metadata"]["creationTimestamp"]), default=None)

    def knows(self, definition: str) -> bool:
        """Whether the API server serves a CRD's objects; `kubectl wait` fails on a definition that has no conditions yet."""
        conditions = self.read("customresourcedefinition", definition).get("status", {}).get("conditions") or ()
        return any((each["type"], each["status"]) == ("Established", "True") for each in conditions)

    def store(self) -> Path:
        """The folder of the namespace's volume on this machine."""
        [claim] = self.read("persistentvolumeclaims")
        return default_paths().volumes / str(claim["spec"]["volumeName"])

    def stage(self, run: str, name: str) -> Object:
        """A stage in a run's status; empty as long as it has none."""
        stages = self.read("compilerun", run).get("status", {}).get("stages", [])
        return next((dict(stage) for stage in stages if stage["name"] == name), {})

    def has_succeeded(self, run: str, name: str) -> bool:
        """Whether a stage has; it must not have failed."""
        stage = self.stage(run, name)
        assert stage.get("state") != "Failed", stage["message"]
        return bool(stage.get("state") == "Succeeded")

    def delete(self, pod: Object) -> None:
        """Removes a pod without waiting for its processes."""
        self.kubectl("delete", "pod", pod["metadata"]["name"], "--grace-period=0", "--force")


@contextmanager
def operated(namespace: NodeNamespace) -> Iterator[None]:
    """The embedded cluster with the operator and this namespace, which is deleted at the end of the block."""
    if os.geteuid() != 0:
        pytest.skip("the embedded cluster needs root")
    steps.cluster_up(PLACE)
    steps.install_chart(PLACE)
    namespace.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace.name}})
    yield
    subprocess.run(PLACE.kubectl("delete", "namespace", namespace.name, "--wait=false"), check=False)


def until(met: Callable[[], Any], what: str, pause: float = 0.5) -> Any:
    """Waits for something true, and returns it."""
    deadline = time.monotonic() + PATIENCE
    while not (found := met()):
        assert time.monotonic() < deadline, f"waited in vain until {what}"
        time.sleep(pause)
    return found


def kill_processes(pod: Object) -> None:
    """SIGKILL to what runs in a pod's containers, as an out-of-memory killer would send it."""
    uid = pod["metadata"]["uid"]
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            ours = uid in (process / "cgroup").read_text().replace("_", "-")
            if ours and b"subterra_jobs" in (process / "cmdline").read_bytes():
                os.kill(int(process.name), signal.SIGKILL)
