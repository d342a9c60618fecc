"""A release: the chart has its version and images by digest, the same commit gives the same bytes, the single file runs."""

import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import yaml

from subterra_cli.files.chart_values import ChartValues
from subterra_cluster import binaries
from subterra_cluster.config import default_cache
from subterra_release.__main__ import bills_of_materials, main, write_chart, write_checksums
from subterra_release.chart_archive import chart_files, packed
from subterra_release.release_error import ReleaseError
from subterra_release.single_file import packed_site
from subterra_testkit.repository import ROOT

CHART = ROOT / "charts/subterra"
EPOCH = 1_790_000_000
IMAGES = {name: f"registry.example/subterra/{name}@sha256:{letter * 64}" for name, letter in (("operator", "a"), ("jobs", "b"))}


def test_a_released_chart_has_its_version_and_images_by_digest() -> None:
    files = chart_files(CHART, "1.2.3", IMAGES)
    assert {yaml.safe_load(files["Chart.yaml"])[field] for field in ("version", "appVersion")} == {"1.2.3"}
    values = yaml.safe_load(files["values.yaml"])
    assert {name: values["images"][name] for name in IMAGES} == IMAGES
    assert ChartValues.model_validate(values)


@pytest.mark.parametrize("reference", ["registry.example/operator:1.2.3", "", "registry.example/operator@sha256:12"])
def test_an_image_without_a_digest_is_refused(reference: str) -> None:
    with pytest.raises(ReleaseError, match=r"image operator: .* has no digest; push it first"):
        chart_files(CHART, "1.2.3", {**IMAGES, "operator": reference})


def test_the_same_commit_makes_the_same_archive() -> None:
    files = chart_files(CHART, "1.2.3", IMAGES)
    assert packed(files, EPOCH) == packed(dict(reversed(files.items())), EPOCH)
    with tarfile.open(fileobj=io.BytesIO(packed(files, EPOCH))) as archive:
        assert archive.getnames()[0] == "subterra/Chart.yaml"
        assert {entry.mtime for entry in archive} == {EPOCH}


def test_helm_takes_the_archive_and_renders_the_digests(tmp_path: Path) -> None:
    built = binaries.cached(default_cache())
    if built is None:
        pytest.skip("the binaries are not built: make test builds them")
    file = write_chart(ROOT, tmp_path, "1.2.3", IMAGES, EPOCH)
    rendered = subprocess.run([built / "helm", "template", "x", file], capture_output=True, text=True, check=True).stdout
    assert IMAGES["operator"] in rendered
    assert IMAGES["jobs"] in rendered
    assert "helm.sh/chart: subterra-1.2.3" in rendered


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A single file whose `subterra` says what it was given and where its packages are."""
    package = tmp_path / "site/subterra_cli"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "main.py").write_text("import sys\ndef app(prog_name): print(prog_name, sys.argv[1:], sys.path[0])\n")
    (tmp_path / "site/bin").mkdir()
    (tmp_path / "site/bin/left-out").write_text("")
    file = tmp_path / "subterra.pyz"
    file.write_bytes(packed_site(tmp_path / "site", sys.version_info[:2], EPOCH))
    return file


def started(file: Path, cache: Path) -> "subprocess.CompletedProcess[str]":
    variables = {**os.environ, "XDG_CACHE_HOME": str(cache)}
    return subprocess.run([sys.executable, "-I", file, "lint", "x"], env=variables, capture_output=True, text=True, check=False)


def test_the_single_file_unpacks_itself_once_and_runs(program: Path, tmp_path: Path) -> None:
    first = started(program, tmp_path / "cache")
    assert first.stderr == ""
    [folder] = (tmp_path / "cache/subterra-cli").iterdir()
    assert first.stdout == f"subterra ['lint', 'x'] {folder}/site\n"
    assert not (folder / "site/bin").exists()
    made = folder.stat().st_mtime_ns
    assert started(program, tmp_path / "cache").stdout == first.stdout
    assert folder.stat().st_mtime_ns == made


def test_the_single_file_says_which_python_it_needs(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    file = tmp_path / "subterra.pyz"
    file.write_bytes(packed_site(tmp_path / "site", (2, 7), EPOCH))
    assert "this file needs Python 2.7" in started(file, tmp_path / "cache").stderr


def test_bills_of_materials_list_what_the_lock_file_has_and_are_the_same_each_time(tmp_path: Path) -> None:
    made = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        bills_of_materials(ROOT, tmp_path / name, "1.2.3", EPOCH)
        made.append({file.name: file.read_bytes() for file in (tmp_path / name).iterdir()})
    assert made[0] == made[1]
    packages = {name: {each["name"] for each in json.loads(text)["components"]} for name, text in made[0].items()}
    assert "kopf" in packages["operator.cdx.json"]
    assert "torch" in packages["jobs.cdx.json"]
    assert "typer" in packages["cli.cdx.json"]
    assert "torch" not in packages["cli.cdx.json"] | packages["operator.cdx.json"]


def test_a_flipped_byte_fails_the_checksums(tmp_path: Path) -> None:
    (tmp_path / "a.tgz").write_bytes(b"chart")
    write_checksums(tmp_path)
    assert (tmp_path / "SHA256SUMS").read_text() == f"{hashlib.sha256(b'chart').hexdigest()}  a.tgz\n"
    check = ["sha256sum", "--check", "--quiet", "SHA256SUMS"]
    assert subprocess.run(check, cwd=tmp_path, capture_output=True, check=False).returncode == 0
    (tmp_path / "a.tgz").write_bytes(b"chast")
    assert subprocess.run(check, cwd=tmp_path, capture_output=True, check=False).returncode == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["1.2.3-trial", "--registry", "r.example/a"], "VERSION 1.2.3-trial is not a version"),
        (["v1", "--registry", "r.example/a"], "VERSION v1 is not a version; write one such as 0.2.0"),
        (["1.2.3", "--registry", "https://r.example"], "REGISTRY https://r.example is not a registry"),
    ],
)
def test_what_cannot_be_released_is_refused_before_anything_is_built(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 1
    assert words in capsys.readouterr().err
