"""The registry that a node pulls images from, as containerd wants it described."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from subterra_cluster.config import Paths
from subterra_cluster.host.shell import ClusterError, write_if_changed


@dataclass(frozen=True)
class Registry:
    """A registry with TLS: its host with the port, and the authority of its certificate unless the machine trusts it."""

    host: str
    authority: Path | None = None


def hosts_file(registry: Registry, authority: Path | None) -> str:
    """containerd's ``hosts.toml`` for the registry, whose authority is in the file ``authority``."""
    lines = [f'server = "https://{registry.host}"', f'[host."https://{registry.host}"]', '  capabilities = ["pull", "resolve"]']
    return "\n".join([*lines, *([f'  ca = "{authority}"'] if authority else []), ""])


def allow_pulls(paths: Paths, registry: Registry) -> None:
    """Lets the node pull from the registry; containerd reads this at each pull. Raises ClusterError for a missing certificate."""
    folder, copy = paths.registries / registry.host, None
    folder.mkdir(parents=True, exist_ok=True)
    if registry.authority:
        copy = folder / "ca.crt"
        try:
            write_if_changed(copy, registry.authority.read_text())
        except OSError as error:
            raise ClusterError(f"--registry-ca {registry.authority} cannot be read: {error.strerror}; check the path") from None
    write_if_changed(folder / "hosts.toml", hosts_file(registry, copy))
