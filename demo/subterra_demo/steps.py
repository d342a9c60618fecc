"""Steps of the demo before the compilation: cluster, images, chart, resources. Each is idempotent."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from subterra_core.training_fit.bfloat16 import multiplies_in_bfloat16

ROOT = Path(__file__).resolve().parents[2]
KUBECONFIG = ROOT / ".cluster" / "kubeconfig"
NAMESPACE = "demo"
SYSTEM_NAMESPACE = "subterra-system"
RELEASE = "subterra"
AGENT = "travel"
CLUSTER_COMMAND = [sys.executable, "-m", "subterra_cluster"]
EXAMPLE = ROOT / "examples/travel"
SLOW_PROCESSOR = ROOT / "demo/slow_processor.yaml"
"""Changes of the agent for processors that do not multiply in bfloat16."""
SMALLER_AGENT = ROOT / "out/demo-agent.yaml"
PROCESSOR = Path("/proc/cpuinfo")


class StepError(Exception):
    """A step failed; the message says which."""


@dataclass(frozen=True)
class DemoCluster:
    """Cluster of the demo: the embedded one, or a kubeconfig context with a registry it can pull from."""

    context: str | None = None
    registry: str | None = None

    @property
    def embedded(self) -> bool:
        return self.context is None

    @property
    def kubeconfig(self) -> str | None:
        return str(KUBECONFIG) if self.embedded else None

    def kubectl(self, *arguments: str) -> list[str]:
        """A kubectl command for this cluster."""
        return ["kubectl", *self._flags("--context"), *arguments]

    def helm(self, *arguments: str) -> list[str]:
        """A helm command for this cluster."""
        return ["helm", *self._flags("--kube-context"), *arguments]

    def image(self, name: str) -> str:
        """Name of one of our images, as the cluster pulls it."""
        return f"{self.registry or 'localhost/subterra'}/{name}:dev"

    def _flags(self, context_flag: str) -> list[str]:
        return ["--kubeconfig", str(KUBECONFIG)] if self.embedded else [context_flag, str(self.context)]


def run(command: Sequence[str], *, quiet: bool = False) -> str:
    """Runs a command and returns its output; ``quiet`` hides it unless the command fails. Raises StepError."""
    environment = os.environ | {"PYTHONPATH": str(ROOT / "cluster")}
    stdout = subprocess.PIPE if quiet else None
    try:
        done = subprocess.run(command, cwd=ROOT, env=environment, stdout=stdout, stderr=subprocess.STDOUT, text=True, check=False)
    except FileNotFoundError:
        raise StepError(
            f"{command[0]} is not installed; install it, or run the demo without CONTEXT to use the embedded cluster"
        ) from None
    if done.returncode:
        raise StepError(f"`{' '.join(command)}` failed with exit code {done.returncode}\n{done.stdout or ''}")
    return done.stdout or ""


@contextmanager
def step(console: Console, title: str) -> Iterator[None]:
    """Prints a step's title and duration."""
    console.rule(f"[bold]{title}", align="left")
    started = time.monotonic()
    yield
    console.print(f"[dim]{title}: {time.monotonic() - started:.0f} s[/dim]")


def tools_on_path() -> None:
    """Puts the embedded cluster's kubectl and helm first on PATH."""
    os.environ["PATH"] = f"{run([*CLUSTER_COMMAND, 'build'], quiet=True).splitlines()[-1]}:{os.environ['PATH']}"


def cluster_up(cluster: DemoCluster) -> None:
    """Starts the cluster, and gives it our images."""
    if cluster.embedded:
        run([*CLUSTER_COMMAND, "up"])
        tools_on_path()
        run([*CLUSTER_COMMAND, "images"])
    elif cluster.registry:
        run([*CLUSTER_COMMAND, "images", "--registry", cluster.registry])
    else:
        raise StepError("CONTEXT needs REGISTRY: a registry that this machine can push to and the cluster can pull from")


def install_chart(cluster: DemoCluster) -> None:
    """Installs the operator with helm, and waits until it is ready. One that was there starts again: its image may be new."""
    there = run(cluster.helm("list", "--namespace", SYSTEM_NAMESPACE, "--short"), quiet=True).split()
    values = [f"--set=images.operator={cluster.image('operator')}", f"--set=images.jobs={cluster.image('jobs')}"]
    command = cluster.helm("upgrade", "--install", RELEASE, str(ROOT / "charts/subterra"), "--namespace", SYSTEM_NAMESPACE)
    run([*command, "--create-namespace", "--wait", "--timeout=5m", *values], quiet=True)
    if RELEASE in there:
        deployment = ("--namespace", SYSTEM_NAMESPACE, f"deployment/{RELEASE}")
        run(cluster.kubectl("rollout", "restart", *deployment), quiet=True)
        run(cluster.kubectl("rollout", "status", *deployment, "--timeout=5m"), quiet=True)


def apply_example(cluster: DemoCluster) -> str:
    """Creates the namespace, the Procedure and the CompiledAgent; returns what it changed of the example, or nothing.

    The processor of a cluster elsewhere is not known, so the example is applied there as it is.
    """
    labels = '{"metadata":{"labels":{"pod-security.kubernetes.io/enforce":"restricted"}}}'
    namespaces = run(cluster.kubectl("get", "namespace", NAMESPACE, "--ignore-not-found", "--output=name"), quiet=True)
    if not namespaces.strip():
        run(cluster.kubectl("create", "namespace", NAMESPACE), quiet=True)
    run(cluster.kubectl("patch", "namespace", NAMESPACE, "--patch", labels), quiet=True)
    small = cluster.embedded and not multiplies_in_bfloat16(PROCESSOR.read_text().split())
    agent = _smaller_agent(cluster) if small else EXAMPLE / "agent.yaml"
    run(cluster.kubectl("apply", "--namespace", NAMESPACE, "--filename", str(EXAMPLE / "procedure.yaml"), "--filename", str(agent)))
    return "This processor has no bfloat16, so the demo trains less: see demo/slow_processor.yaml" if small else ""


def _smaller_agent(cluster: DemoCluster) -> Path:
    """The example's agent with the changes of `SLOW_PROCESSOR`, as a file that a reader can apply again."""
    patch = cluster.kubectl("patch", "--local", "--filename", str(EXAMPLE / "agent.yaml"), "--type=merge", "--output=yaml")
    SMALLER_AGENT.parent.mkdir(exist_ok=True)
    SMALLER_AGENT.write_text(run([*patch, "--patch-file", str(SLOW_PROCESSOR)], quiet=True))
    return SMALLER_AGENT


def read_artifact(cluster: DemoCluster, version: str, path: str) -> str:
    """Contents of files in the artifact store, read through the pod that serves ``version`` and mounts the store.

    ``path`` may contain wildcards.
    """
    pod = ("--namespace", NAMESPACE, f"deployment/{AGENT}-{version}", "--container", "vllm")
    return run(cluster.kubectl("exec", *pod, "--", "sh", "-c", f"cat /store/{path}"), quiet=True)
