"""What krew and Artifact Hub are given has the form that they document."""

import hashlib
import sys
import tarfile
from pathlib import Path
from typing import Literal

import pytest
import yaml
from pydantic import BaseModel, ConfigDict, Field, HttpUrl, TypeAdapter

from subterra_release import artifact_hub, krew_manifest
from subterra_release.__main__ import write_plugin
from subterra_release.chart_archive import chart_files
from subterra_testkit.repository import ROOT

EPOCH = 1_790_000_000
IMAGES = {name: f"registry.example/subterra/{name}@sha256:{letter * 64}" for name, letter in (("operator", "a"), ("jobs", "b"))}
CRDS = [yaml.safe_load(file.read_text()) for file in sorted((ROOT / "crds").glob("*.yaml"))]


class Strict(BaseModel):
    """A document without fields that its reader does not know."""

    model_config = ConfigDict(extra="forbid")


class Labels(Strict):
    os: Literal["linux", "darwin", "windows"]
    arch: Literal["amd64", "arm64"]


class Selector(Strict):
    matchLabels: Labels  # noqa: N815


class Platform(Strict):
    selector: Selector
    uri: HttpUrl
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    bin: str


class PluginSpec(Strict):
    version: str = Field(pattern=r"^v\d+\.\d+\.\d+(-[a-z]+\.\d+)?$")
    homepage: HttpUrl | None = None
    shortDescription: str = Field(max_length=50, pattern=r"^[^\n]+$")  # noqa: N815
    description: str
    caveats: str
    platforms: list[Platform] = Field(min_length=1)


class Metadata(Strict):
    name: str = Field(pattern=r"^[\w-]+$")


class Plugin(Strict):
    """krew's manifest, version v1alpha2."""

    apiVersion: Literal["krew.googlecontainertools.github.com/v1alpha2"]  # noqa: N815
    kind: Literal["Plugin"]
    metadata: Metadata
    spec: PluginSpec


class Image(Strict):
    name: str
    image: str = Field(pattern="@sha256:[0-9a-f]{64}$")
    platforms: list[str]


class Card(Strict):
    kind: str
    version: str
    name: str = Field(pattern=r"^[a-z]+\.subterra\.dev$")
    displayName: str  # noqa: N815
    description: str = Field(min_length=10)


def written(folder: Path, downloads: str | None, homepage: str | None = None, version: str = "1.2.3") -> Path:
    """A folder with the plugin of a single file of some bytes."""
    folder.mkdir(exist_ok=True)
    (folder / "subterra.pyz").write_bytes(b"#!/usr/bin/env python3\nprint('here')\n")
    write_plugin(ROOT, folder, version, EPOCH, downloads, homepage)
    return folder


def test_krews_manifest_has_the_archives_digest_and_its_form(tmp_path: Path) -> None:
    folder = written(tmp_path, "https://files.example/v1.2.3/")
    archive = folder / "kubectl-subterra-1.2.3-linux-amd64.tar.gz"
    plugin = Plugin.model_validate(yaml.safe_load((folder / "krew.yaml").read_text()))
    [platform] = plugin.spec.platforms
    assert platform.sha256 == hashlib.sha256(archive.read_bytes()).hexdigest()
    assert str(platform.uri) == f"https://files.example/v1.2.3/{archive.name}"
    assert f"{sys.version_info.major}.{sys.version_info.minor}" in plugin.spec.caveats
    with tarfile.open(archive) as opened:
        assert opened.getnames() == [platform.bin, "LICENSE"]
        assert opened.getmember(platform.bin).mode == 0o755
        assert opened.extractfile(platform.bin).read() == (folder / "subterra.pyz").read_bytes()


def test_the_same_single_file_makes_the_same_archive(tmp_path: Path) -> None:
    one, two = (written(tmp_path / name, "https://files.example") for name in ("one", "two"))
    name = krew_manifest.archive_name("1.2.3")
    assert (one / name).read_bytes() == (two / name).read_bytes()


def test_files_of_a_repository_on_github_are_on_its_release_page(tmp_path: Path) -> None:
    manifest = yaml.safe_load((written(tmp_path, None, "https://github.com/me/subterra") / "krew.yaml").read_text())
    assert manifest["spec"]["platforms"][0]["uri"].startswith("https://github.com/me/subterra/releases/download/v1.2.3/kubectl-")
    assert manifest["spec"]["homepage"] == "https://github.com/me/subterra"


@pytest.mark.parametrize("homepage", [None, "https://git.example/subterra"])
def test_without_an_address_there_is_no_manifest(tmp_path: Path, homepage: str | None, capsys: pytest.CaptureFixture[str]) -> None:
    assert not (written(tmp_path, None, homepage) / "krew.yaml").exists()
    assert "nothing says where the files can be downloaded; pass DOWNLOADS=https://…" in capsys.readouterr().out


@pytest.mark.parametrize(("version", "prerelease"), [("1.2.3", "false"), ("1.2.3-rc.1", "true")])
def test_artifact_hub_finds_images_and_kinds_in_the_chart(version: str, prerelease: str) -> None:
    made = artifact_hub.annotations(version, IMAGES, CRDS, "https://github.com/me/subterra")
    chart = yaml.safe_load(chart_files(ROOT / "charts/subterra", version, IMAGES, made)["Chart.yaml"])
    found = {name.removeprefix("artifacthub.io/"): value for name, value in chart["annotations"].items()}
    assert all(isinstance(value, str) for value in found.values())
    images = TypeAdapter(list[Image]).validate_python(yaml.safe_load(found["images"]))
    assert {image.name: image.image for image in images} == IMAGES
    cards = TypeAdapter(list[Card]).validate_python(yaml.safe_load(found["crds"]))
    assert {card.kind for card in cards} == {"Procedure", "CompileRun", "CompiledAgent"}
    assert {name: found[name] for name in ("license", "operator", "prerelease", "category")} == {
        "license": "Apache-2.0",
        "operator": "true",
        "prerelease": prerelease,
        "category": "ai-machine-learning",
    }
    assert yaml.safe_load(found["links"]) == [{"name": "source", "url": "https://github.com/me/subterra"}]
