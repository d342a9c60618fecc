"""Fetches the report of a run from a pod that mounts the store."""

import subprocess
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from subterra_api.job_contract.environment import STORE_MOUNT
from subterra_cli.cluster import ClusterAccessError, ClusterTarget, kubectl_path

LIMIT_SECONDS = 120


def report_path(run: Mapping[str, Any]) -> str:
    """Path of the report in a pod. Raises ClusterAccessError if the run has none."""
    path = run.get("status", {}).get("artifacts", {}).get("reportPath")
    if not path:
        name, phase = run["metadata"]["name"], run.get("status", {}).get("phase") or "Pending"
        raise ClusterAccessError(f"CompileRun {name} has no report yet (phase {phase}); it comes with the stage evaluate")
    return f"{STORE_MOUNT}/{path}/report.html"


def store_containers(pods: Sequence[Mapping[str, Any]], mount: str = STORE_MOUNT) -> Iterator[tuple[str, str]]:
    """Running containers that mount the store, as pod and container."""
    for pod in pods:
        status = pod.get("status", {})
        reported = [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]
        running = {container["name"] for container in reported if "running" in container.get("state", {})}
        spec = pod["spec"]
        for container in (*spec["containers"], *spec.get("initContainers", [])):
            mounts = {each["mountPath"] for each in container.get("volumeMounts", [])}
            if container["name"] in running and mount in mounts:
                yield pod["metadata"]["name"], container["name"]


def fetch(target: ClusterTarget, pods: Sequence[Mapping[str, Any]], path: str) -> bytes:
    """The file at ``path``, read through the first pod that has it. Raises ClusterAccessError."""
    failures = []
    for pod, container in store_containers(pods):
        command = [kubectl_path(), *target.flags(), "exec", pod, "--container", container, "--", "cat", path]
        try:
            done = subprocess.run(command, capture_output=True, timeout=LIMIT_SECONDS, check=False)
        except subprocess.TimeoutExpired:
            failures.append(f"pod {pod}: no answer within {LIMIT_SECONDS} s")
            continue
        if done.returncode == 0 and done.stdout:
            return done.stdout
        failures.append(f"pod {pod}: {done.stderr.decode(errors='replace').strip() or 'the file is empty'}")
    if failures:
        raise ClusterAccessError(f"{path} cannot be read: {'; '.join(failures)}")
    raise ClusterAccessError(
        f"no pod runs in namespace {target.namespace} that mounts the store, so {path} cannot be read; wait until a stage or an "
        "agent runs there, or mount the store's claim in a pod of your own"
    )
