"""Reads Subterra's resources and reaches its Services with the user's kubeconfig."""

import base64
import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
from kubernetes import client, config

from subterra_api.v1alpha1 import GROUP, VERSION
from subterra_cli.errors import CommandError
from subterra_operator.labels import HEARTBEAT_NAME, HEARTBEAT_TIME

OPERATOR_NAMESPACE = "subterra-system"
"""Where the documentation installs the operator."""


class ClusterAccessError(CommandError):
    """The cluster, or an object in it, cannot be used; the message says why and what to do."""


@dataclass(frozen=True)
class ClusterTarget:
    """A namespace of a cluster."""

    namespace: str
    kubeconfig: str | None = None
    context: str | None = None

    def flags(self) -> list[str]:
        """kubectl's flags for this target."""
        flags = ["--namespace", self.namespace]
        flags += ["--kubeconfig", self.kubeconfig] if self.kubeconfig else []
        return flags + (["--context", self.context] if self.context else [])


class ResourceReader:
    """Reads objects of the subterra.dev API group as plain dicts."""

    def __init__(self, target: ClusterTarget) -> None:
        self.target = target
        try:
            api = config.new_client_from_config(config_file=target.kubeconfig, context=target.context)
        except config.ConfigException as error:
            raise ClusterAccessError(f"no cluster configured ({error}); set KUBECONFIG or pass --kubeconfig") from None
        self._objects, self._core = client.CustomObjectsApi(api), client.CoreV1Api(api)
        self._ahead = timedelta(0)
        """How far the API server's clock is ahead of this machine's."""

    def now(self) -> datetime:
        """The time by the API server's clock, which statuses and heartbeats go by; this machine's until something was read."""
        return datetime.now(UTC) + self._ahead

    def last_heartbeat(self) -> datetime | None:
        """Time of the operator's last heartbeat; `None` if there is none, or none that the user may read."""
        found: dict[str, datetime] = {}
        for config_map in self._heartbeats():
            with contextlib.suppress(KeyError, TypeError, ValueError):
                found[config_map.metadata.namespace] = datetime.fromisoformat(config_map.metadata.annotations[HEARTBEAT_TIME])
        return found.get(self.target.namespace) or max(found.values(), default=None)

    def _heartbeats(self) -> list[Any]:
        """The heartbeats of all operators; with fewer rights those in the likely namespaces."""
        try:
            listed: list[Any] = self._core.list_config_map_for_all_namespaces(
                field_selector=f"metadata.name={HEARTBEAT_NAME}"
            ).items
        except client.ApiException:
            return [found for namespace in (self.target.namespace, OPERATOR_NAMESPACE) for found in self._heartbeat_in(namespace)]
        except Exception:
            return []
        return listed

    def _heartbeat_in(self, namespace: str) -> list[Any]:
        with contextlib.suppress(Exception):
            return [self._core.read_namespaced_config_map(HEARTBEAT_NAME, namespace)]
        return []

    def get(self, plural: str, name: str) -> dict[str, Any] | None:
        """The object, or `None` if it does not exist. Raises ClusterAccessError."""
        try:
            resource: dict[str, Any]
            resource, _, headers = self._objects.get_namespaced_custom_object_with_http_info(
                GROUP, VERSION, self.target.namespace, plural, name
            )
        except client.ApiException as error:
            if error.status == 404:
                return None
            raise ClusterAccessError(f"reading {plural}/{name} failed: {error.status} {error.reason}") from None
        except Exception as error:
            raise ClusterAccessError(f"the cluster does not respond: {error}") from None
        if (date := _date_of(headers)) is not None:
            self._ahead = date - datetime.now(UTC)
        return resource

    def all_of(self, plural: str) -> list[dict[str, Any]]:
        """All objects of a kind in the namespace, by name. Raises ClusterAccessError."""
        with _explained(f"listing {plural}"):
            found: list[dict[str, Any]] = self._objects.list_namespaced_custom_object(
                GROUP, VERSION, self.target.namespace, plural
            )["items"]
        return sorted(found, key=lambda item: str(item["metadata"]["name"]))

    def secret_value(self, name: str, key: str) -> str:
        """A value of a Secret. Raises ClusterAccessError."""
        with _explained(f"reading Secret {name}"):
            data = self._core.read_namespaced_secret(name, self.target.namespace).data or {}
        try:
            return base64.b64decode(data[key]).decode()
        except (KeyError, ValueError):
            raise ClusterAccessError(f"Secret {name} has no readable key {key}") from None

    def pods(self, selector: str) -> list[dict[str, Any]]:
        """Pods with these labels, as JSON. Raises ClusterAccessError."""
        with _explained("listing pods"):
            found = self._core.list_namespaced_pod(self.target.namespace, label_selector=selector)
        return [self._plain(pod) for pod in found.items]

    def warnings(self) -> list[dict[str, Any]]:
        """Events of type Warning in the namespace, as JSON; empty for a user who may not read them."""
        try:
            found = self._core.list_namespaced_event(self.target.namespace, field_selector="type=Warning")
        except client.ApiException:
            return []
        return [self._plain(event) for event in found.items]

    def _plain(self, item: Any) -> dict[str, Any]:
        plain: dict[str, Any] = self._core.api_client.sanitize_for_serialization(item)
        return plain

    def patch(self, plural: str, name: str, body: dict[str, Any]) -> None:
        """Merges ``body`` into an object. Raises ClusterAccessError."""
        with _explained(f"changing {plural}/{name}"):
            self._objects.patch_namespaced_custom_object(
                GROUP, VERSION, self.target.namespace, plural, name, body, _content_type="application/merge-patch+json"
            )


@contextlib.contextmanager
def _explained(action: str) -> Iterator[None]:
    """Turns what goes wrong with a request into a ClusterAccessError."""
    try:
        yield
    except client.ApiException as error:
        raise ClusterAccessError(f"{action} failed: {error.status} {error.reason}") from None
    except Exception as error:
        raise ClusterAccessError(f"the cluster does not respond: {error}") from None


def _date_of(headers: Mapping[str, str] | None) -> datetime | None:
    """The time at which the server answered."""
    with contextlib.suppress(KeyError, TypeError, ValueError):
        return parsedate_to_datetime((headers or {})["Date"])
    return None


def get_condition(resource: dict[str, Any], kind: str) -> dict[str, str]:
    """The condition of this type; empty if it is not set yet."""
    conditions: list[dict[str, str]] = resource.get("status", {}).get("conditions", [])
    return next((c for c in conditions if c["type"] == kind), {})


def kubectl_path() -> str:
    """Path of kubectl. Raises ClusterAccessError."""
    path = shutil.which("kubectl")
    if path is None:
        raise ClusterAccessError(
            'kubectl is not on PATH; install it, or use the one of the local cluster: eval "$(make -s cluster-env)"'
        )
    return path


@contextlib.contextmanager
def port_forward(target: ClusterTarget, service: str, port: int, timeout: float = 30.0) -> Iterator[str]:
    """A local URL that reaches a Service's port while the context is open. Raises ClusterAccessError."""
    command = [kubectl_path(), *target.flags(), "port-forward", f"service/{service}", f":{port}"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=dict(os.environ))
    try:
        url = _forwarded_url(process, service)
        _wait_until_ready(url, process, timeout)
        yield url
    finally:
        process.terminate()
        process.wait(timeout=10)


def _forwarded_url(process: "subprocess.Popen[str]", service: str) -> str:
    """The local URL, once kubectl has named it. kubectl may print warnings first."""
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        if "Forwarding from 127.0.0.1:" in line:
            return "http://127.0.0.1:" + line.split("127.0.0.1:", 1)[1].split(" ", 1)[0]
        said = line.strip() or said
    raise ClusterAccessError(f"service {service} cannot be reached: {said or 'kubectl port-forward ended'}")


def _wait_until_ready(url: str, process: "subprocess.Popen[str]", timeout: float) -> None:
    deadline = time.monotonic() + timeout
    while True:
        try:
            answer = httpx.get(f"{url}/v1/models", timeout=5)
            if answer.status_code != httpx.codes.UNAUTHORIZED:  # it answers, and who has a key may talk to it
                answer.raise_for_status()
        except httpx.HTTPError as error:
            if process.poll() is not None:
                raise ClusterAccessError("kubectl port-forward ended; the pod it reached is gone or refuses connections") from None
            if time.monotonic() > deadline:
                raise ClusterAccessError(f"the agent does not respond: {error}") from None
            time.sleep(0.5)
        else:
            return
