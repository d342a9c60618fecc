"""A stranger with a kubeconfig and the files of a release installs it as the guide says, and talks to an agent.

The cluster is a second one, in an empty folder. Its node has no image of ours and pulls from the registry that the release is in.
The stranger's commands do not see this checkout. The images are those that `make demo` or `make images` left in the cache.
"""

import base64
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.tools import registry
from tests.tools.registry import PASSWORD, USER

from subterra_cluster import binaries
from subterra_cluster.cluster_lifecycle import Cluster
from subterra_cluster.config import IMAGE_PREFIX, NODE_IP, PAUSE_IMAGE, Ports, default_cache, default_paths
from subterra_cluster.images.builder import Builder, find_uv
from subterra_cluster.images.registry import Registry
from subterra_cluster.images.share import Containerd, read_images
from subterra_release import __main__ as command
from subterra_testkit.documented_commands import commands
from subterra_testkit.exported_models import signing_secret
from subterra_testkit.repository import ROOT

GUIDE = ROOT / "docs/guides/install.md"
VERSION = "0.2.0"
"""The guide's."""
NEXT_VERSION = "0.3.0"
"""The one that the guide upgrades to."""
SMALL: dict[str, Any] = {
    "baseModel": {"uri": "scratch"},
    "generation": {"conversations": 400},
    "training": {"maxSteps": 200},
    "evaluation": {"scenarios": 120},
}
LENIENT = {"minScenarios": 1, "minScore": 1, "maxFailureRate": 1, "minConformance": 0, "minPhrasings": 0, "maxFabricationRate": 1}
ON_A_CPU = ["--dtype=float32", "--enforce-eager"]
"""What vLLM needs for such a model, of which production knows only where it is."""
LIMIT = 1500.0
HIDDEN = 'mount -t tmpfs none "$0" && cd "$HOME/release" && exec bash -euo pipefail -c "$1"'
"""Runs the command $1 where folder $0 is empty."""

pytestmark = [pytest.mark.exhaustive, pytest.mark.timeout(3600)]
"""The jobs image is compressed, pulled and unpacked: 7 GB. Then a tiny model is trained, evaluated and served."""


class QuickBuilder(Builder):
    """The images of the cache, compressed with zstd, which takes a tenth of the time of gzip."""

    def buildah(self, *words: str | Path, log: Path | None = None) -> str:
        quick = ("--compression-format=zstd", "--compression-level=1") if words[0] == "push" else ()
        return super().buildah(*words[:1], *quick, *words[1:], log=log)


@dataclass(frozen=True)
class Stranger:
    """Somebody with a home, a kubeconfig, usual programs and the files of the release."""

    home: Path
    host: str
    """The registry, as the node and this machine see it."""
    variables: dict[str, str]

    @property
    def host_for_pods(self) -> str:
        """The registry, as pods see it."""
        return f"{NODE_IP}:{self.host.rpartition(':')[2]}"

    def run(self, line: str) -> str:
        """What a command of the guide prints, in the folder with the release."""
        for placeholder, value in (("registry.example", self.host), (r"\bNAME\b", USER), (r"\bPASSWORD\b", PASSWORD)):
            line = re.sub(placeholder, value, line)
        words = ["unshare", "--mount", "bash", "-c", HIDDEN, str(ROOT), line]
        done = subprocess.run(words, env=self.variables, capture_output=True, text=True, check=False, timeout=LIMIT)
        print(f"$ {line}\n{done.stdout}{done.stderr}")
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def pushed(self, name: str) -> str:
        """The release's image, by digest."""
        return str(json.loads((self.home / "release/images.json").read_text())[name])

    def get(self, words: str) -> Any:
        """What ``kubectl get`` says."""
        return json.loads(self.run(f"kubectl get {words} --output=json"))


def missing() -> str | None:
    """What this machine lacks; `None` if the test can run."""
    built = {image.name for image in read_images(Builder(default_paths()).storage, IMAGE_PREFIX)}
    with socket.socket() as probe:
        busy = probe.connect_ex(("127.0.0.1", Ports().kubelet_health)) == 0
    lacks = {
        "the embedded cluster needs root": os.geteuid() != 0,
        "the registry is not built: make test-install builds it": not registry.path_of("registry", default_cache()).exists(),
        "there are no images: make images builds them": not {f"{IMAGE_PREFIX}/{name}:dev" for name in command.IMAGES} <= built,
        "another cluster runs here: make cluster-down stops it": busy,
    }
    return next((words for words, lacking in lacks.items() if lacking), None)


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stranger]:
    """A release in a registry with TLS and a password, and a stranger with a cluster that trusts this registry."""
    if words := missing():
        pytest.skip(words)
    program, folder = registry.path_of("registry", default_cache()), tmp_path_factory.mktemp("release")
    with registry.serving(program, folder, NODE_IP) as running, pytest.MonkeyPatch.context() as patch:
        for name, value in registry.logged_in(running, folder).items():
            patch.setenv(name, value)
        patch.setattr(command, "built_images", lambda source, names: QuickBuilder(default_paths()))
        options = ["--allow-changes", "--output", str(folder / "made")]
        assert command.main([VERSION, "--registry", f"{running.host}/subterra", *options]) == 0
        cluster = Cluster(default_paths(folder / "cluster"))
        try:
            cluster.up(Registry(running.host, running.authority))
            yield Stranger(*arrived(folder, running.host, cluster))
        finally:
            cluster.down()
            shutil.rmtree(folder / "data")


def arrived(folder: Path, host: str, cluster: Cluster) -> tuple[Path, str, dict[str, str]]:
    """The stranger's home, with what a stranger has."""
    home = folder / "home"
    programs = home / "bin"
    shutil.copytree(folder / "made", home / "release")
    (home / ".kube").mkdir()
    shutil.copy(cluster.paths.kubeconfig, home / ".kube/config")
    programs.mkdir()
    uv = find_uv(default_cache())
    for program in (uv, uv.with_name("uvx")):
        shutil.copy(program, programs)
    for name in ("kubectl", "helm"):
        (programs / name).symlink_to(binaries.ensure(default_cache()) / name)
    (programs / "python3").symlink_to(Path(sys._base_executable).resolve())
    installed = programs / "subterra"
    installed.write_text(f'#!/bin/sh\nexec python3 -I {shlex.quote(str(home / "release/subterra.pyz"))} "$@"\n')
    installed.chmod(0o755)
    kept = {name: value for name, value in os.environ.items() if name.startswith("UV_") or name.lower().endswith("_proxy")}
    own = {"PATH": f"{programs}:/usr/bin:/bin:/usr/sbin:/sbin", "HOME": str(home), "LANG": "C.UTF-8"}
    return home, host, kept | own | {"SSL_CERT_FILE": os.environ["SSL_CERT_FILE"]}


def test_the_operator_is_available_with_images_that_the_node_pulled_from_the_registry(stranger: Stranger) -> None:
    for line in commands(GUIDE, "From a registry with a password"):
        stranger.run(line)
    [operator] = stranger.get("deployments --namespace subterra-system")["items"]
    assert operator["status"]["availableReplicas"] == operator["spec"]["replicas"] == 2
    for pod in stranger.get("pods --namespace subterra-system")["items"]:
        [container] = pod["status"]["containerStatuses"]
        assert container["imageID"] == stranger.pushed("operator")
    crds = stranger.run("kubectl get crds --output=name").split()
    assert [name for name in crds if name.endswith(".subterra.dev")]


def smaller(file: Path) -> None:
    """Makes of the agent that `subterra init` writes one that is compiled in minutes."""
    procedure, agent = yaml.safe_load_all(file.read_text())
    agent["spec"]["compile"]["template"] = SMALL
    agent["spec"]["promotion"] = {"gate": LENIENT}
    file.write_text(yaml.safe_dump_all([procedure, agent]))


def test_a_first_agent_is_compiled_served_and_answers_as_the_guide_says(stranger: Stranger) -> None:
    init, *others, chat = commands(GUIDE, "A first agent")
    stranger.run(init)
    smaller(stranger.home / "release/shop.yaml")
    for line in others:
        stranger.run(line)
    greeting, customer, reply = stranger.run(chat).strip().splitlines()
    assert greeting == "agent: Hello! Do you want to bring a bicycle in, or talk to a mechanic?"
    assert customer == "you: I'd like to bring my bike."
    assert reply.startswith("agent: ")
    pods = stranger.get("pods --namespace default")["items"]
    images = {container["image"] for pod in pods for container in pod["spec"]["containers"]}
    assert images == {stranger.pushed("jobs")}


def with_secrets(stranger: Stranger, namespaces: tuple[str, ...]) -> str:
    """Gives pods of the namespaces the registry's password and authority, and returns the public key of ``promoter``."""
    kept, (key, public_key) = stranger.home / "registry", signing_secret(stranger.home / "promoter")
    kept.mkdir()
    auth = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    (kept / ".dockerconfigjson").write_text(json.dumps({"auths": {stranger.host_for_pods: {"auth": auth}}}))
    shutil.copy(stranger.home.parent / "registry.crt", kept / "ca.crt")
    for namespace in namespaces:
        words = f"kubectl create secret generic --namespace {namespace}"
        stranger.run(f"{words} registry --type=kubernetes.io/dockerconfigjson --from-file={kept}")
        stranger.run(f"{words} promoter --from-file={key}")
    return public_key


def written_production(stranger: Stranger, public_key: str) -> Path:
    """The agent's file in production's repository; it names no model yet."""
    nothing = f"sha256:{64 * '0'}"
    model = {
        "uri": f"oci://{stranger.host_for_pods}/agents/shop@{nothing}",
        "digest": nothing,
        "registrySecret": {"name": "registry"},
        "requireAttestation": {"publicKey": public_key},
    }
    agent = {
        "apiVersion": "subterra.dev/v1alpha1",
        "kind": "CompiledAgent",
        "metadata": {"name": "shop", "namespace": "production"},
        "spec": {"model": model, "serving": {"args": ON_A_CPU}},
    }
    file = stranger.home / "production/agent.yaml"
    file.parent.mkdir()
    file.write_text(yaml.safe_dump(agent, width=1000))
    who = "git config user.name Author; git config user.email author@example.org"
    stranger.run(f"cd {file.parent}; git init --quiet; {who}; git add .; git commit --quiet --message First")
    return file


def test_production_serves_the_model_of_staging_once_a_commit_names_it(stranger: Stranger) -> None:
    """Staging and production are two namespaces; the time from the commit to an agent that is ready is printed."""
    stranger.run("kubectl create namespace production")
    login = f"--docker-server={stranger.host} --docker-username={USER} --docker-password={PASSWORD}"
    stranger.run(f"kubectl create secret docker-registry registry-login --namespace production {login}")
    public_key = with_secrets(stranger, ("default", "production"))
    to = f"--to oci://{stranger.host_for_pods}/agents/shop --registry-secret registry --signing-secret promoter"
    stranger.run(f"subterra export shop {to}")
    file = written_production(stranger, public_key)
    shutil.copy(ROOT / "gitops/promote.sh", stranger.home)
    stranger.run(f"sh {stranger.home}/promote.sh shop default {file}")
    began = time.monotonic()
    stranger.run(f"kubectl apply --filename {file}")
    stranger.run("kubectl wait compiledagent/shop --namespace production --for=condition=Ready --timeout=15m")
    print(f"ready {time.monotonic() - began:.0f} s after the commit")
    [staged] = stranger.get("compiledagents --namespace default")["items"]
    [promoted] = stranger.get("compiledagents --namespace production")["items"]
    assert promoted["status"]["serving"]["modelDigest"] == staged["status"]["serving"]["modelDigest"]
    said = stranger.run("echo 'A mechanic, please.' | subterra chat shop --namespace production").strip().splitlines()
    assert [words.partition(":")[0] for words in said] == ["agent", "you", "agent"]
    chain = stranger.run("subterra provenance shop --namespace production")
    assert "CompiledAgent default/shop" in chain
    assert "verified by each pod" in chain


def next_release(stranger: Stranger) -> str:
    """Makes a release that differs in the operator's image alone, by a label; returns the image."""
    builder, file, repository = Builder(default_paths()), stranger.home / "digest", f"{stranger.host}/subterra/operator"
    container = builder.buildah("from", "--pull-never", f"{IMAGE_PREFIX}/operator:dev").strip()
    try:
        builder.buildah("config", "--label", "release=next", container)
        image = builder.buildah("commit", "--quiet", container).strip()
        builder.buildah("push", "--digestfile", file, image, f"docker://{repository}:next")
        builder.buildah("rmi", image)
    finally:
        builder.buildah("rm", container)
    images = {"operator": f"{repository}@{file.read_text().strip()}", "jobs": stranger.pushed("jobs")}
    given = [word for name, reference in images.items() for word in ("--image", f"{name}={reference}")]
    options = [*given, "--allow-changes", "--output", str(stranger.home / "next")]
    assert command.main([NEXT_VERSION, "--registry", f"{stranger.host}/subterra", *options]) == 0
    return images["operator"]


def test_an_upgrade_replaces_the_operator_and_no_pod_that_serves(stranger: Stranger) -> None:
    def serving() -> set[str]:
        return {pod["metadata"]["uid"] for space in ("default", "production") for pod in stranger.get(f"pods -n {space}")["items"]}

    image, before = next_release(stranger), serving()
    for line in commands(GUIDE, "Upgrade"):
        stranger.run(line)
    pods = stranger.get("pods --namespace subterra-system")["items"]
    running = [pod["spec"]["containers"][0]["image"] for pod in pods if "deletionTimestamp" not in pod["metadata"]]
    assert set(running) == {image}
    assert serving() == before
    assert len(stranger.get("compileruns --namespace default")["items"]) == 1
    assert stranger.run("echo 'A mechanic, please.' | subterra chat shop").count("agent: ") == 2


def test_the_wheel_answers_without_being_installed(stranger: Stranger) -> None:
    [line] = [line for line in commands(GUIDE, "The command line") if line.startswith("uvx")]
    assert f"subterra {VERSION}" in stranger.run(line)
    chat = line.partition("subterra version")[0] + "subterra chat shop"
    said = stranger.run(f"echo 'A mechanic, please.' | {chat}").strip().splitlines()
    assert [words.partition(":")[0] for words in said] == ["agent", "you", "agent"]


def test_nothing_on_the_node_came_from_anywhere_else(stranger: Stranger) -> None:
    """The pause image, which no registry has, is the cluster's own."""
    node = Containerd(default_paths(stranger.home.parent / "cluster"))
    names = {name for name in node.images() if not name.startswith("sha256:")}
    assert {name.partition("/")[0] for name in names - {PAUSE_IMAGE}} == {stranger.host}
