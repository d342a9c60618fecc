"""Provenance of a release in SLSA's format: which commit, with which parameters and locked dependencies, built by whom."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://slsa.dev/provenance/v1"
BUILD_TYPE = "https://subterra.dev/release/v1"
LOCAL_BUILDER = "https://subterra.dev/release/make"


@dataclass(frozen=True)
class Build:
    """What a release was made from, and by whom."""

    version: str
    registry: str
    commit: str
    repository: str | None
    """Address of the source repository, if it has one that others can reach."""
    locked: Mapping[str, str]
    """Files that pin dependencies, with their SHA-256."""
    given_images: Mapping[str, str]
    """Images that were built elsewhere, by name."""


def predicate(build: Build, environment: Mapping[str, str]) -> dict[str, Any]:
    """SLSA's provenance, version 1. The same build in the same place gives the same provenance."""
    address = {"uri": f"git+{build.repository}"} if build.repository else {}
    source = {**address, "digest": {"gitCommit": build.commit}}
    locks = [{"name": name, "digest": {"sha256": digest}} for name, digest in sorted(build.locked.items())]
    parameters: dict[str, Any] = {"version": build.version, "registry": build.registry}
    if build.given_images:
        parameters["images"] = dict(build.given_images)
    return {
        "buildDefinition": {
            "buildType": BUILD_TYPE,
            "externalParameters": parameters,
            "resolvedDependencies": [source, *locks],
        },
        "runDetails": _run_details(environment),
    }


def _run_details(environment: Mapping[str, str]) -> dict[str, Any]:
    """The GitHub workflow and its run, or else `make release` on somebody's machine."""
    if environment.get("GITHUB_ACTIONS") != "true":
        return {"builder": {"id": LOCAL_BUILDER}}
    server, run = environment["GITHUB_SERVER_URL"], environment["GITHUB_RUN_ID"]
    invocation = f"{server}/{environment['GITHUB_REPOSITORY']}/actions/runs/{run}/attempts/{environment['GITHUB_RUN_ATTEMPT']}"
    return {"builder": {"id": f"{server}/{environment['GITHUB_WORKFLOW_REF']}"}, "metadata": {"invocationId": invocation}}


def statement(digests: Mapping[str, str], provenance: Mapping[str, Any]) -> dict[str, Any]:
    """An in-toto statement that files, by name with their SHA-256, have this provenance."""
    subjects = [{"name": name, "digest": {"sha256": digest}} for name, digest in sorted(digests.items())]
    return {"_type": STATEMENT, "subject": subjects, "predicateType": PREDICATE, "predicate": dict(provenance)}


def public_address(remote: str) -> str | None:
    """The web address of a git remote, without credentials; `None` for one that only this machine reaches."""
    remote = remote.strip().removesuffix("/").removesuffix(".git")
    if found := re.fullmatch(r"https://(?:[^@/]+@)?([\w.-]+(?::\d+)?/.+)", remote):
        return f"https://{found[1]}"
    if found := re.fullmatch(r"(?:ssh://)?git@([\w.-]+)[:/]([^/].*)", remote):
        return f"https://{found[1]}/{found[2]}"
    return None
