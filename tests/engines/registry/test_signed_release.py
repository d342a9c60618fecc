"""A release reaches a real registry with TLS and a password, and a stranger with the public key can verify and use all of it."""

import base64
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.tools import registry
from tests.tools.registry import Registry

from subterra_cluster import binaries
from subterra_cluster.config import IMAGE_PREFIX, default_cache, default_paths
from subterra_cluster.go_programs import path_of
from subterra_cluster.images import oci
from subterra_cluster.images.builder import Builder
from subterra_cluster.kubernetes.control_plane import ControlPlane
from subterra_release import __main__ as command
from subterra_release import krew_manifest, signatures
from subterra_release.__main__ import pushed_images
from subterra_testkit.repository import ROOT

VERSION = "1.2.3"
SECRET = "the key's password"
OFFLINE = "--insecure-ignore-tlog=true"

pytestmark = [pytest.mark.exhaustive, pytest.mark.timeout(900)]
"""The release is made within the first test: a wheel, all packages of the command line in one file, fourteen signatures."""


@dataclass(frozen=True)
class Released:
    """A release, where it was pushed, and the programs with which a stranger looks at it."""

    folder: Path
    registry: Registry
    cosign: Path
    helm: Path
    commit: str

    @property
    def pushed(self) -> dict[str, str]:
        """References with digests of what was pushed."""
        return dict(json.loads((self.folder / "images.json").read_text()))

    def verified(self, command: str, *words: str | Path, key: Path | None = None) -> "subprocess.CompletedProcess[str]":
        """What cosign says with the public key."""
        line = [self.cosign, command, "--key", key or self.folder / "cosign.pub", OFFLINE, *words]
        return subprocess.run(line, capture_output=True, text=True, check=False)

    def statement(self, kind: str, reference: str) -> dict[str, Any]:
        """The verified in-toto statement of this kind about what was pushed."""
        done = self.verified("verify-attestation", "--type", kind, reference)
        assert done.returncode == 0, done.stderr
        [line] = done.stdout.strip().splitlines()
        return dict(json.loads(base64.b64decode(json.loads(line)["payload"])))


def keys(cosign: Path, folder: Path) -> Path:
    """A private key with a password in a new folder, the public one next to it."""
    folder.mkdir()
    subprocess.run([cosign, "generate-key-pair"], cwd=folder, check=True, capture_output=True)
    return folder / "cosign.key"


def tiny_images(folder: Path) -> Builder:
    """A builder whose images hold some bytes each."""
    builder = Builder(replace(default_paths(), cache=folder))
    for name in ("operator", "jobs"):
        archive = folder / f"{name}.tar"
        archive.write_bytes(oci.single_file_image(f"{IMAGE_PREFIX}/{name}:dev", name.encode()))
        identity = builder.buildah("pull", "--quiet", f"oci-archive:{archive}").strip()
        builder.buildah("tag", identity, f"{IMAGE_PREFIX}/{name}:dev")
    return builder


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Released]:
    """A release of this commit, made with a key, whose images are tiny."""
    cache = default_cache()
    cosign, server = path_of(signatures.SOURCES, cache), registry.path_of("registry", cache)
    helm = binaries.cached(cache)
    if helm is None or not cosign.exists() or not server.exists():
        pytest.skip("cosign and the registry are not built: make test-release builds them")
    if not shutil.which("buildah"):
        pytest.skip("buildah is not installed: make test-tools installs it")
    folder = tmp_path_factory.mktemp("release")
    with registry.serving(server, folder) as running, pytest.MonkeyPatch.context() as patch:
        for name, value in registry.logged_in(running, folder).items():
            patch.setenv(name, value)
        patch.setenv("COSIGN_PASSWORD", SECRET)
        builder, target, address = tiny_images(folder), folder / "made", f"{running.host}/subterra"
        elsewhere = pushed_images(builder, "built-elsewhere", address, ["jobs"], plain_http=False)["jobs"]
        patch.setattr(command, "built_images", lambda source, names: builder)
        options = ["--key", str(keys(cosign, folder / "keys")), "--downloads", "https://files.example", "--allow-changes"]
        options += ["--image", f"jobs={elsewhere}", "--output", str(target)]
        commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
        assert command.main([VERSION, "--registry", address, *options]) == 0
        yield Released(target, running, cosign, helm / "helm", commit)


def test_everything_that_was_pushed_is_signed(released: Released) -> None:
    assert set(released.pushed) == {"operator", "jobs", "chart"}
    for name, reference in released.pushed.items():
        assert released.verified("verify", reference).returncode == 0, name


@pytest.mark.parametrize("name", ["operator", "chart"])
def test_what_was_built_says_which_commit_it_comes_from(released: Released, name: str) -> None:
    origin = released.statement("slsaprovenance1", released.pushed[name])
    [subject] = origin["subject"]
    assert subject["digest"]["sha256"] == released.pushed[name].partition("@sha256:")[2]
    definition = origin["predicate"]["buildDefinition"]
    assert definition["externalParameters"]["version"] == VERSION
    assert definition["resolvedDependencies"][0]["digest"] == {"gitCommit": released.commit}


def test_an_image_carries_its_bill_of_materials(released: Released) -> None:
    bill = released.statement("cyclonedx", released.pushed["operator"])["predicate"]
    assert bill == json.loads((released.folder / "operator.cdx.json").read_text())


def test_nothing_is_claimed_about_an_image_that_was_built_elsewhere(released: Released) -> None:
    done = released.verified("verify-attestation", "--type", "slsaprovenance1", released.pushed["jobs"])
    assert done.returncode != 0
    assert "no matching attestations" in done.stderr


def test_every_file_is_signed_and_a_flipped_byte_is_noticed(released: Released, tmp_path: Path) -> None:
    names = [line.split()[1] for line in (released.folder / "SHA256SUMS").read_text().splitlines()]
    assert {"subterra.pyz", "cli.cdx.json", f"subterra-{VERSION}.tgz", "krew.yaml"} < set(names)
    for name in (*names, "SHA256SUMS"):
        file = released.folder / name
        assert released.verified("verify-blob", "--signature", f"{file}.sig", file).returncode == 0, name
    chart = released.folder / f"subterra-{VERSION}.tgz"
    content = bytearray(chart.read_bytes())
    content[100] ^= 1
    (tmp_path / chart.name).write_bytes(content)
    refused = released.verified("verify-blob", "--signature", f"{chart}.sig", tmp_path / chart.name)
    assert refused.returncode != 0
    assert "invalid signature" in refused.stderr
    assert subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=released.folder, check=False).returncode == 0


def test_openssl_verifies_a_file_without_cosign(released: Released, tmp_path: Path) -> None:
    file, signature = released.folder / "SHA256SUMS", tmp_path / "signature"
    signature.write_bytes(base64.b64decode((released.folder / "SHA256SUMS.sig").read_text()))
    check = ["openssl", "dgst", "-sha256", "-verify", released.folder / "cosign.pub", "-signature", signature, file]
    assert "Verified OK" in subprocess.run(check, capture_output=True, text=True, check=True).stdout


def test_one_envelope_says_where_all_files_come_from(released: Released, tmp_path: Path) -> None:
    envelope = released.folder / "provenance.intoto.json"
    known = ["--type", "slsaprovenance1", "--signature", envelope]
    for name in ("subterra.pyz", f"subterra-{VERSION}.tgz", "operator.cdx.json"):
        assert released.verified("verify-blob-attestation", *known, released.folder / name).returncode == 0, name
    other = tmp_path / "other"
    other.write_text("not of this release")
    assert released.verified("verify-blob-attestation", *known, other).returncode != 0


def test_another_key_is_refused(released: Released, tmp_path: Path) -> None:
    foreign = keys(released.cosign, tmp_path / "foreign").with_suffix(".pub")
    for reference in released.pushed.values():
        assert released.verified("verify", reference, key=foreign).returncode != 0


def test_helm_installs_from_the_registry_alone(released: Released, tmp_path: Path) -> None:
    with ControlPlane(tmp_path / "plane") as plane:
        install = [released.helm, "install", "subterra", f"oci://{released.pushed['chart']}", "--kubeconfig", plane.kubeconfig]
        subprocess.run([*install, "--namespace", "system", "--create-namespace"], cwd=tmp_path, check=True, capture_output=True)
        ask = [plane.kubectl, "--kubeconfig", plane.kubeconfig, "get", "--namespace", "system", "--output", "yaml", "deployment"]
        [operator] = yaml.safe_load(subprocess.run(ask, capture_output=True, text=True, check=True).stdout)["items"]
    [container] = operator["spec"]["template"]["spec"]["containers"]
    assert container["image"] == released.pushed["operator"]


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Environment of a user who has Python and kubectl, and nothing of this checkout."""
    home = tmp_path_factory.mktemp("home")
    programs, krew = home / "bin", home / "krew"
    programs.mkdir()
    (programs / "python3").symlink_to(Path(sys._base_executable).resolve())
    (programs / "kubectl").symlink_to(binaries.binaries_path(default_cache()) / "kubectl")
    return {"PATH": f"{programs}:{krew}/bin:/usr/bin:/bin", "HOME": str(home), "KREW_ROOT": str(krew), "LANG": "C.UTF-8"}


def test_the_single_file_runs_in_an_empty_folder_with_nothing_but_python(
    released: Released, bare: dict[str, str], tmp_path: Path
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()

    def said(*words: str) -> str:
        line = ["python3", "-I", "-S", released.folder / "subterra.pyz", *words]
        return subprocess.run(line, cwd=empty, env=bare, capture_output=True, text=True, check=True).stdout

    assert VERSION in said("version")
    said("init", "shop", "--output", "shop.yaml")
    assert said("lint", "shop.yaml")
    assert {file.name for file in empty.iterdir()} == {"shop.yaml"}


def test_krew_takes_the_manifest_and_kubectl_finds_the_plugin(released: Released, bare: dict[str, str], tmp_path: Path) -> None:
    archive = released.folder / krew_manifest.archive_name(VERSION)
    offline = bare | {"KREW_NO_UPGRADE_CHECK": "1"}
    install = [registry.path_of("krew", default_cache()), "install", f"--manifest={released.folder / 'krew.yaml'}"]
    done = subprocess.run([*install, f"--archive={archive}"], env=offline, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    version = subprocess.run(["kubectl", "subterra", "version"], env=bare, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert VERSION in version.stdout


def test_a_byte_that_changes_in_the_registry_is_noticed(released: Released, tmp_path: Path) -> None:
    manifest = json.loads(blob(released, released.pushed["chart"]).read_text())
    layer = blob(released, manifest["layers"][0]["digest"])
    pull = [released.helm, "pull", f"oci://{released.registry.host}/subterra/charts/subterra", "--version", VERSION]
    assert subprocess.run(pull, cwd=tmp_path, capture_output=True, check=False).returncode == 0
    whole = layer.read_bytes()
    layer.write_bytes(whole[:100] + bytes([whole[100] ^ 1]) + whole[101:])
    assert subprocess.run(pull, cwd=tmp_path, capture_output=True, check=False).returncode != 0
    layer.write_bytes(whole)


def blob(released: Released, digest: str) -> Path:
    """Where the registry keeps what has this digest."""
    name = digest.rpartition("sha256:")[2]
    return released.registry.blobs / name[:2] / name / "data"


def test_the_private_key_and_its_password_are_in_nothing_that_was_made(released: Released) -> None:
    made = [*released.folder.iterdir(), *released.registry.blobs.glob("*/*/data")]
    assert [file for file in made if SECRET.encode() in (content := file.read_bytes()) or b"PRIVATE KEY" in content] == []


def test_what_replaces_a_tag_has_no_signature(released: Released, tmp_path: Path) -> None:
    """The last test: the tag names another chart afterwards."""
    charts, file = f"{released.registry.host}/subterra/charts", f"subterra-{VERSION}.tgz"
    assert released.verified("verify", f"{charts}/subterra:{VERSION}").returncode == 0
    subprocess.run(["tar", "--extract", "--file", released.folder / file], cwd=tmp_path, check=True)
    values = tmp_path / "subterra/values.yaml"
    values.write_text(values.read_text() + "# changed\n")
    for words in (("package", "subterra"), ("push", file, f"oci://{charts}")):
        subprocess.run([released.helm, *words], cwd=tmp_path, check=True, capture_output=True)
    refused = released.verified("verify", f"{charts}/subterra:{VERSION}")
    assert refused.returncode != 0
    assert "no signatures found" in refused.stderr
    assert released.verified("verify", released.pushed["chart"]).returncode == 0
