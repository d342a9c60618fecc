"""The control plane: etcd, API server, controllers, scheduler. On its own it is a fast, rootless fixture for tests.

with ControlPlane(tmp_path, controllers=True) as plane:
    subprocess.run([plane.kubectl, "--kubeconfig", plane.kubeconfig, "get", "namespaces"])
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import socket
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from subterra_cluster import binaries
from subterra_cluster.config import DOMAIN, SERVICE_CIDR, Ports, default_cache
from subterra_cluster.host.processes import Daemon, Supervisor
from subterra_cluster.host.shell import ClusterError
from subterra_cluster.kubernetes import pki
from subterra_cluster.kubernetes.api import Api, Object, answers, unverified

LOCALHOST = "127.0.0.1"
FAKE_NODE = "fake1"


@dataclass(frozen=True)
class Plane:
    """Settings that the components of one control plane share."""

    binary: Path
    pki: Path
    data: Path
    address: str
    ports: Ports
    for_tests: bool = False
    audit: Path | None = None

    @property
    def server(self) -> str:
        """The API server's URL."""
        return f"https://{self.address}:{self.ports.api}"

    @property
    def api(self) -> Api:
        """A client with all rights."""
        return Api(self.server, self.pki)


def etcd(plane: Plane) -> Daemon:
    """The database; only the API server has a certificate for it."""
    client, peer = f"https://{LOCALHOST}:{plane.ports.etcd}", f"http://{LOCALHOST}:{plane.ports.etcd_peer}"
    metrics = f"http://{LOCALHOST}:{plane.ports.etcd_metrics}"
    command = [str(plane.binary), "etcd", "--name=etcd", f"--data-dir={plane.data}"]
    command += [f"--listen-client-urls={client}", f"--advertise-client-urls={client}"]
    command += [f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}"]
    command += [f"--initial-cluster=etcd={peer}", f"--listen-metrics-urls={metrics}", "--log-level=warn"]
    command += [f"--cert-file={plane.pki}/etcd.crt", f"--key-file={plane.pki}/etcd.key", "--client-cert-auth"]
    command += [f"--trusted-ca-file={plane.pki}/{pki.ETCD_AUTHORITY}.crt"]
    if plane.for_tests:
        command.append("--unsafe-no-fsync")
    return Daemon("etcd", command, lambda: answers(f"{metrics}/health"), timeout=30)


def api_server(plane: Plane, *, service_accounts: bool = True) -> Daemon:
    """The API server. Without controllers there are no ServiceAccounts, so pods run without one."""
    folder = plane.pki
    command = [str(plane.binary), "kube-apiserver", f"--bind-address={plane.address}"]
    command += [f"--advertise-address={plane.address}", f"--secure-port={plane.ports.api}", "--allow-privileged=true"]
    command += [f"--tls-cert-file={folder}/apiserver.crt", f"--tls-private-key-file={folder}/apiserver.key"]
    command += [f"--client-ca-file={folder}/ca.crt", "--anonymous-auth=false", "--profiling=false"]
    command += [f"--etcd-servers=https://{LOCALHOST}:{plane.ports.etcd}"]
    command += [f"--etcd-cafile={folder}/{pki.ETCD_AUTHORITY}.crt"]
    command += [f"--etcd-certfile={folder}/apiserver-etcd.crt", f"--etcd-keyfile={folder}/apiserver-etcd.key"]
    command += ["--authorization-mode=Node,RBAC", f"--service-cluster-ip-range={SERVICE_CIDR}"]
    command += [f"--service-account-issuer=https://kubernetes.default.svc.{DOMAIN}"]
    command += [f"--service-account-key-file={folder}/service-accounts.pub"]
    command += [f"--service-account-signing-key-file={folder}/service-accounts.key"]
    command += [f"--kubelet-client-certificate={folder}/apiserver-kubelet.crt"]
    command += [f"--kubelet-client-key={folder}/apiserver-kubelet.key"]
    command += [f"--kubelet-certificate-authority={folder}/ca.crt"]
    command += ["--kubelet-preferred-address-types=InternalIP", "--enable-admission-plugins=NodeRestriction"]
    if plane.for_tests:  # a loopback address is no valid endpoint of the Service "kubernetes"
        command.append("--endpoint-reconciler-type=none")
    if not service_accounts:
        command.append("--disable-admission-plugins=ServiceAccount")
    if plane.audit is not None:
        command += [f"--audit-log-path={plane.audit}", f"--audit-policy-file={_audit_policy(plane.audit)}"]
    return Daemon("kube-apiserver", command, plane.api.ready)


def _audit_policy(log: Path) -> Path:
    """Write the audit policy next to the log: user and request, without bodies."""
    policy = {
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "rules": [{"level": "Metadata"}],
    }
    path = log.with_suffix(".policy.json")
    path.write_text(json.dumps(policy))
    return path


def controllers(plane: Plane) -> Daemon:
    """The controller manager: Jobs, Deployments, ServiceAccounts, garbage collection, claims and so on."""
    folder, port = plane.pki, plane.ports.controllers
    client = "admin" if plane.for_tests else "controllers"
    command = [str(plane.binary), "kube-controller-manager", f"--kubeconfig={folder}/{client}.kubeconfig"]
    command += [f"--bind-address={LOCALHOST}", f"--secure-port={port}", "--leader-elect=false"]
    command += [f"--service-account-private-key-file={folder}/service-accounts.key"]
    command += [f"--root-ca-file={folder}/ca.crt", "--kube-api-qps=200", "--kube-api-burst=400"]
    command += [f"--cluster-signing-cert-file={folder}/ca.crt", f"--cluster-signing-key-file={folder}/ca.key"]
    command += [f"--service-cluster-ip-range={SERVICE_CIDR}", "--profiling=false"]
    command.append(f"--flex-volume-plugin-dir={plane.data.parent}/volume-plugins")  # else made in /usr
    if not plane.for_tests:  # one identity per controller: right, but some seconds slower
        command.append("--use-service-account-credentials")
    return Daemon("kube-controller-manager", command, lambda: _healthy(port))


def scheduler(plane: Plane) -> Daemon:
    """The scheduler."""
    port = plane.ports.scheduler
    command = [str(plane.binary), "kube-scheduler", f"--kubeconfig={plane.pki}/scheduler.kubeconfig"]
    command += [f"--bind-address={LOCALHOST}", f"--secure-port={port}", "--leader-elect=false", "--profiling=false"]
    return Daemon("kube-scheduler", command, lambda: _healthy(port))


def _healthy(port: int) -> bool:
    """Whether a local component with a self-signed certificate is healthy."""
    return answers(f"https://{LOCALHOST}:{port}/healthz", unverified())


def kwok(plane: Plane) -> Daemon:
    """kwok, which simulates nodes and pods: a pod runs at once, a Job's pod succeeds, and no container exists."""
    command = [str(plane.binary), "kwok", f"--kubeconfig={plane.pki}/admin.kubeconfig", "--manage-all-nodes=true"]
    command.append("--node-lease-duration-seconds=40")
    return Daemon("kwok", command, lambda: node_ready(plane.api, FAKE_NODE))


def fake_node() -> Object:
    """The node that kwok simulates."""
    labels = {"kubernetes.io/hostname": FAKE_NODE, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"}
    return {"kind": "Node", "metadata": {"name": FAKE_NODE, "labels": labels}}


def node_ready(api: Api, name: str) -> bool:
    """Whether a node exists and reports Ready."""
    node = api.get(f"/api/v1/nodes/{name}") or {}
    conditions = node.get("status", {}).get("conditions", [])
    return any(item["type"] == "Ready" and item["status"] == "True" for item in conditions)


def free_ports() -> Ports:
    """Distinct ports that are free now."""
    names = [field.name for field in dataclasses.fields(Ports)]
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in names]
        for item in sockets:
            item.bind((LOCALHOST, 0))
        return Ports(**{name: item.getsockname()[1] for name, item in zip(names, sockets, strict=True)})


def start(supervisor: Supervisor, daemon: Daemon) -> None:
    """Start one daemon and wait until it is ready."""
    supervisor.ensure(daemon)
    supervisor.wait(daemon)


class ControlPlane:
    """A control plane for tests, in its own folder, on free ports of 127.0.0.1; needs no root.

    `controllers` adds the controller manager; `kwok` adds scheduler, kwok and one fake node; `audit` is a file that gets
    a line of JSON for each request. At the end of the `with` block everything is stopped; if this process is killed, the
    kernel ends the components as well.
    """

    def __init__(self, directory: Path, *, controllers: bool = False, kwok: bool = False, audit: Path | None = None) -> None:
        """Choose the folder (created if needed) and the components; nothing starts before `with`."""
        self.directory = directory.absolute()
        self.with_controllers = controllers
        self.with_kwok = kwok
        self._audit = audit
        self.kubeconfig = self.directory / "kubeconfig"
        self._supervisor = Supervisor(self.directory / "pids", self.directory / "logs", die_with_parent=True)
        self._plane: Plane | None = None

    @property
    def plane(self) -> Plane:
        """Addresses, ports and keys; exists inside the `with` block."""
        if self._plane is None:
            raise ClusterError("the control plane is not started: use it as `with ControlPlane(...) as plane`")
        return self._plane

    @property
    def kubectl(self) -> Path:
        """A kubectl of the same version."""
        return self.plane.binary.with_name("kubectl")

    @property
    def server(self) -> str:
        """The API server's URL."""
        return self.plane.server

    @property
    def logs(self) -> Path:
        """The folder of the components' logs."""
        return self._supervisor.logs

    def __enter__(self) -> ControlPlane:
        """Start everything in about four seconds; the first time, building the binaries takes minutes."""
        binary = binaries.ensure(default_cache()) / "subterra-cluster"
        self.directory.mkdir(parents=True, exist_ok=True)
        folder = self.directory / "pki"
        pki.create(folder, LOCALHOST)
        self._plane = Plane(binary, folder, self.directory / "etcd", LOCALHOST, free_ports(), True, self._audit)
        pki.write_kubeconfigs(folder, ("admin", "controllers", "scheduler"), self._plane.server)
        pki.write_private(self.kubeconfig, pki.kubeconfig(folder, "admin", self._plane.server))
        try:
            self._start(self._plane)
        except BaseException:
            self._supervisor.stop_all(patience=0)
            raise
        return self

    def _start(self, plane: Plane) -> None:
        """Start the components in order; those that need only the API server start together."""
        start(self._supervisor, etcd(plane))
        start(self._supervisor, api_server(plane, service_accounts=self.with_controllers))
        rest = [controllers(plane)] if self.with_controllers else []
        if self.with_kwok:
            plane.api.apply(fake_node())
            rest += [scheduler(plane), kwok(plane)]
        for daemon in rest:
            self._supervisor.ensure(daemon)
        for daemon in rest:
            self._supervisor.wait(daemon)
        self._wait_for_defaults(plane)

    def _wait_for_defaults(self, plane: Plane) -> None:
        """Wait for what tests expect to exist: the namespace, and with controllers its ServiceAccount."""
        path = "/api/v1/namespaces/default" + ("/serviceaccounts/default" if self.with_controllers else "")
        deadline = time.monotonic() + 30
        while plane.api.get(path) is None:
            if time.monotonic() > deadline:
                raise ClusterError(f"the API server runs, but {path} does not appear; logs are in {self.logs}")
            time.sleep(0.05)

    def back_up(self, folder: Path) -> None:
        """Copy etcd's data into a new folder; etcd is stopped meanwhile, the other components wait for it."""
        self._supervisor.stop("etcd")
        shutil.copytree(self.plane.data, folder)
        start(self._supervisor, etcd(self.plane))

    def restore(self, folder: Path) -> None:
        """Go back to a backup: all components are stopped, etcd's data is replaced by the copy, all start again."""
        self._supervisor.stop_all()
        shutil.rmtree(self.plane.data)
        shutil.copytree(folder, self.plane.data)
        self._start(self.plane)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Kill everything immediately; the data is no longer needed."""
        self._supervisor.stop_all(patience=0)
