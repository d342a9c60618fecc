"""The command line as a kubectl plugin: an archive for krew and the manifest that names its digest."""

from collections.abc import Mapping
from typing import Any

PLUGIN = "subterra"
PROGRAM = f"kubectl-{PLUGIN}"


def archive_name(version: str) -> str:
    """Name of the plugin's archive."""
    return f"{PROGRAM}-{version}-linux-amd64.tar.gz"


def plugin_files(single_file: bytes, license_text: bytes) -> Mapping[str, bytes]:
    """What the archive holds, the program first."""
    return {PROGRAM: single_file, "LICENSE": license_text}


def manifest(version: str, downloads: str, digest: str, homepage: str | None, python: tuple[int, int]) -> dict[str, Any]:
    """The plugin's manifest; ``downloads`` is the address of the folder that will hold the archive, ``digest`` its SHA-256."""
    platform = {
        "selector": {"matchLabels": {"os": "linux", "arch": "amd64"}},
        "uri": f"{downloads.rstrip('/')}/{archive_name(version)}",
        "sha256": digest,
        "bin": PROGRAM,
    }
    return {
        "apiVersion": "krew.googlecontainertools.github.com/v1alpha2",
        "kind": "Plugin",
        "metadata": {"name": PLUGIN},
        "spec": {
            "version": f"v{version}",
            **({"homepage": homepage} if homepage else {}),
            "shortDescription": "Compile procedures into small models",
            "description": (
                "Checks, draws and compares conversational procedures, estimates what compiling them costs,\n"
                "and follows, explains and talks to the agents that the Subterra operator compiles from them.\n"
            ),
            "caveats": f"Needs Python {python[0]}.{python[1]} as `python3`. The operator is installed with its Helm chart.\n",
            "platforms": [platform],
        },
    }


def default_downloads(repository: str | None, version: str) -> str | None:
    """Where GitHub offers the files of a release, if the repository is there."""
    on_github = (repository or "").startswith("https://github.com/")
    return f"{repository}/releases/download/v{version}" if on_github else None
