"""`up`, `down`, `purge` and `status`: in which order components start and stop."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from subterra_cluster import binaries, cleanup
from subterra_cluster.config import IMAGE_PREFIX, NODE_IP, NODE_NAME, PAUSE_IMAGE, Paths, Ports
from subterra_cluster.host import prerequisites
from subterra_cluster.host.processes import Daemon, Supervisor, alive
from subterra_cluster.host.shell import ClusterError, locked, say, step
from subterra_cluster.images.builder import Builder
from subterra_cluster.images.oci import single_file_image
from subterra_cluster.images.registry import Registry, allow_pulls
from subterra_cluster.images.share import Containerd, read_images
from subterra_cluster.kubernetes import control_plane, files, node, pki
from subterra_cluster.kubernetes.control_plane import Plane

CLIENTS = ("admin", "controllers", "scheduler", "kubelet", "proxy", "coredns", "localpv")

# The last to start is the first to stop; the kubelet before all, else it would start pods again.
STOP_ORDER = (
    "kubelet",
    "localpv",
    "coredns",
    "kube-proxy",
    "kube-scheduler",
    "kube-controller-manager",
    "kube-apiserver",
    "etcd",
)


class Cluster:
    """The cluster of one checkout."""

    def __init__(self, paths: Paths, ports: Ports | None = None) -> None:
        """Set folders and ports; nothing is started yet."""
        self.paths = paths
        self.ports = ports or Ports()
        self.supervisor = Supervisor(paths.pids, paths.logs)

    def up(self, registry: Registry | None = None) -> None:
        """Start or repair the cluster; returns at once if it is healthy. With a registry it pulls, and built images stay out."""
        began = time.monotonic()
        prerequisites.ensure(self.paths, self.ports, node=True, images=False)
        with locked(self.paths.cache / "cluster.lock", "the cluster"):
            plane = self._plane(binaries.ensure(self.paths.cache))
            self._prepare(plane)
            if registry:
                allow_pulls(self.paths, registry)
            started = self._start(plane)
            if started:
                self._finish(plane)
        what = f"cluster up in {time.monotonic() - began:.1f} s" if started else "the cluster is already up"
        say(f"{what}; kubeconfig: {self.paths.kubeconfig}")

    def _plane(self, folder: Path) -> Plane:
        """Settings that the components share."""
        return Plane(folder / "subterra-cluster", self.paths.pki, self.paths.state / "etcd", NODE_IP, self.ports)

    def _prepare(self, plane: Plane) -> None:
        """Create the address, keys, kubeconfigs and configuration files that do not exist yet."""
        node.prepare(self.paths, self.ports)
        pki.create(self.paths.pki, NODE_IP)
        pki.write_kubeconfigs(self.paths.pki, CLIENTS, plane.server)
        pki.write_private(self.paths.kubeconfig, pki.kubeconfig(self.paths.pki, "admin", plane.server))

    def _start(self, plane: Plane) -> bool:
        """Start what is not running, in three waves; whether anything was started."""
        waves: list[tuple[str, list[Daemon]]] = [
            ("etcd, containerd", [control_plane.etcd(plane), node.containerd(self.paths)]),
            ("API server", [control_plane.api_server(plane)]),
            ("controllers, scheduler, kubelet, Services, DNS, volumes", self._components(plane)),
        ]
        started = False
        for title, daemons in waves:
            todo = [daemon for daemon in daemons if not self._well(daemon)]
            if not todo:
                continue
            with step(f"starting {title}" if len(todo) == len(daemons) else f"restarting {names(todo)}"):
                if title.startswith("controllers"):
                    self._before_components(plane)
                for daemon in todo:
                    self.supervisor.ensure(daemon)
                for daemon in todo:
                    self.supervisor.wait(daemon)
            started = True
        return started

    def _components(self, plane: Plane) -> list[Daemon]:
        """Components that need only the API server and start together."""
        return [
            control_plane.controllers(plane),
            control_plane.scheduler(plane),
            node.kubelet(plane, self.paths),
            node.kube_proxy(plane, self.paths),
            node.coredns(plane, self.paths),
            node.localpv(plane, self.paths),
        ]

    def _before_components(self, plane: Plane) -> None:
        """Create the objects of a new cluster and the image that every pod needs."""
        for thing in files.objects():
            plane.api.apply(thing)
        containerd = Containerd(self.paths)
        if PAUSE_IMAGE not in containerd.images():
            program = plane.binary.with_name("pause").read_bytes()
            containerd.load(single_file_image(PAUSE_IMAGE, program))

    def _well(self, daemon: Daemon) -> bool:
        """Whether a daemon runs with the current command and is healthy."""
        record = self.supervisor.record(daemon.name)
        if record is None or not alive(record) or record.command != list(daemon.command):
            return False
        return daemon.ready() or _within(daemon.ready, 3.0)

    def _finish(self, plane: Plane) -> None:
        """Wait for the node, and share the images that were built earlier unless it pulls them."""
        with step("waiting for the node"):
            if not _within(lambda: control_plane.node_ready(plane.api, NODE_NAME), 60.0):
                raise ClusterError(f"the node does not become ready; see {self.paths.logs}/kubelet.log")
            if not _within(lambda: defaults_exist(plane), 30.0):
                raise ClusterError(f"the default ServiceAccount does not appear; see {self.paths.logs}")
        if not self.paths.registries.exists():
            self.share()

    def share(self) -> None:
        """Import the built images into the running cluster."""
        containerd = Containerd(self.paths)
        for image in read_images(Builder(self.paths).storage, IMAGE_PREFIX + "/"):
            if containerd.images().get(image.name) != image.digest:
                with step(f"sharing {image.name}"):
                    containerd.share(image)

    def running(self) -> bool:
        """Whether containerd runs, so that images can be shared."""
        return self.supervisor.running("containerd")

    def down(self) -> None:
        """Stop everything and remove all but the cache; also works after a crash or without a cluster."""
        if not self.paths.state.exists():
            say("there is no cluster")
            return
        if not node.is_root():
            raise ClusterError("`down` needs root, as `up` did")
        with locked(self.paths.cache / "cluster.lock", "the cluster"):
            with step("stopping components"):
                for name in STOP_ORDER:
                    self.supervisor.stop(name, patience=3.0 if name == "kubelet" else 0.0)
            with step("removing containers"):
                cleanup.kill_pods(self.paths)
                self.supervisor.stop("containerd", patience=3.0)
            with step("removing network, mounts and files"):
                cleanup.clear_network()
                cleanup.clear_cgroups()
                cleanup.clear_files(self.paths)
                if shutil.which("buildah"):
                    Builder(self.paths).clear_interrupted()

    def purge(self) -> None:
        """Remove the cluster and the cache: binaries, images, downloaded toolchains."""
        self.down()
        with step(f"removing {self.paths.cache}"):
            cleanup.unmount(self.paths.cache)
            shutil.rmtree(self.paths.cache, ignore_errors=True)

    def status(self) -> bool:
        """Print a line per component and the node's state; whether all are healthy."""
        folder = binaries.cached(self.paths.cache)
        if folder is None or not self.paths.state.exists():
            print("there is no cluster; `up` creates one")
            return False
        plane = self._plane(folder)
        daemons = [control_plane.etcd(plane), node.containerd(self.paths), control_plane.api_server(plane)]
        well = True
        for daemon in [*daemons, *self._components(plane)]:
            record = self.supervisor.record(daemon.name)
            healthy = alive(record) and daemon.ready()
            well = well and healthy
            memory = resident_memory(record.pid) if record and alive(record) else 0
            state = "healthy" if healthy else "running, not healthy" if alive(record) else "not running"
            print(f"{daemon.name:26} {state:26} {record.pid if record else '-':>8} {memory // 2**20:>6} MiB")
        ready = control_plane.node_ready(plane.api, NODE_NAME)
        print(f"{'node ' + NODE_NAME:26} {'ready' if ready else 'not ready'}")
        print(f"kubeconfig: {self.paths.kubeconfig}")
        return well and ready


def names(daemons: list[Daemon]) -> str:
    """The daemons' names, comma-separated."""
    return ", ".join(daemon.name for daemon in daemons)


def resident_memory(pid: int) -> int:
    """A process's memory in bytes."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def defaults_exist(plane: Plane) -> bool:
    """Whether pods can be created in the default namespace."""
    return plane.api.get("/api/v1/namespaces/default/serviceaccounts/default") is not None


def _within(condition: Callable[[], bool], seconds: float) -> bool:
    """Wait until ``condition`` holds; whether it did in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
