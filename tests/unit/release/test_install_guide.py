"""The install guide's commands fit the chart and the command line that a release has."""

import io
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from subterra_api import __version__
from subterra_cli.main import app
from subterra_cluster import binaries
from subterra_cluster.config import default_cache
from subterra_release import krew_manifest
from subterra_release.chart_archive import chart_files, packed
from subterra_testkit.documented_commands import commands
from subterra_testkit.repository import ROOT

GUIDE = ROOT / "docs/guides/install.md"
PROTECTED = "From a registry with a password"
VERSION = "0.2.0"
IMAGES = {name: f"registry.example/subterra/{name}@sha256:{letter * 64}" for name, letter in (("operator", "a"), ("jobs", "b"))}


def rendered(install: str, chart: Path) -> list[dict[str, object]]:
    """What the guide's `helm install` would create."""
    built = binaries.cached(default_cache())
    if built is None:
        pytest.skip("the binaries are not built: make test builds them")
    words = ["template" if word == "install" else word for word in shlex.split(install)]
    words = [str(chart) if word.startswith("oci://") else word for word in words]
    done = subprocess.run([built / "helm", *words[1:]], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [item for item in yaml.safe_load_all(io.StringIO(done.stdout)) if item]


@pytest.mark.parametrize(("heading", "secrets"), [("Install", None), (PROTECTED, [{"name": "registry-login"}])])
def test_helm_takes_the_values_of_each_install_command(heading: str, secrets: list[dict[str, str]] | None, tmp_path: Path) -> None:
    [install] = [line for line in commands(GUIDE, heading) if line.startswith("helm install")]
    assert f"oci://registry.example/subterra/charts/subterra --version {VERSION}" in install
    chart = tmp_path / "subterra.tgz"
    chart.write_bytes(packed(chart_files(ROOT / "charts/subterra", VERSION, IMAGES), 1_790_000_000))
    [operator] = [item for item in rendered(install, chart) if item["kind"] == "Deployment"]
    [settings] = [item for item in rendered(install, chart) if item["kind"] == "ConfigMap" and "settings.yaml" in item["data"]]
    assert operator["spec"]["template"]["spec"].get("imagePullSecrets") == secrets
    read = yaml.safe_load(settings["data"]["settings.yaml"])
    assert (read["store"]["accessMode"], read["imagePullSecrets"]) == ("ReadWriteOnce", [item["name"] for item in secrets or []])


def test_the_namespaces_that_get_the_secret_are_those_of_the_operator_and_of_the_first_agent() -> None:
    [loop] = [line for line in commands(GUIDE, PROTECTED) if line.startswith("for ")]
    [created] = [line.split()[-1] for line in commands(GUIDE, PROTECTED) if line.startswith("kubectl create namespace")]
    assert re.match(r"for namespace in (.*); do", loop)[1].split() == [created, "default"]
    assert not [line for line in commands(GUIDE, "A first agent") if "--namespace" in line or " -n " in line]


def test_files_that_the_guide_names_are_those_of_a_release() -> None:
    named = " ".join(commands(GUIDE, "The command line"))
    made = {f"subterra-{VERSION}-py3-none-any.whl", "subterra.pyz", "krew.yaml", krew_manifest.archive_name(VERSION)}
    assert {file for file in made if file in named} == made


def test_every_subcommand_of_the_guide_exists() -> None:
    lines = [*commands(GUIDE, "The command line"), *commands(GUIDE, "A first agent")]
    used = {match[1] for line in lines if (match := re.search(r"(?:^|\| |\s)subterra(?:\.pyz)? ([a-z]+)", line))}
    assert used == {"version", "init", "watch", "chat"}
    for name in used:
        assert CliRunner().invoke(app, [name, "--help"]).exit_code == 0


def test_the_readmes_commands_are_the_guides() -> None:
    helm, *others = commands(ROOT / "README.md", "Without a checkout")
    assert helm in commands(GUIDE, "Install")
    [uvx] = [line.partition(" subterra version")[0] for line in commands(GUIDE, "The command line") if line.startswith("uvx")]
    known = {line.split(" | ")[-1] for line in commands(GUIDE, "A first agent")}
    assert {line.removeprefix(f"{uvx} ") for line in others} == known


def test_the_package_without_its_extra_says_how_to_install_it() -> None:
    """`uvx --from subterra-0.2.0-py3-none-any.whl` has none of the packages that the command line needs."""
    absent = "import sys; sys.modules['typer'] = None; import subterra_cli.main"
    done = subprocess.run([ROOT / ".venv/bin/python", "-c", absent], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.strip() == (
        "subterra: the packages of its command line are missing; install it with the extra cli, "
        f"for example: uvx --from './subterra-{__version__}-py3-none-any.whl[cli]' subterra"
    )


def test_a_loop_is_one_command_and_comments_are_none(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    first = "# no heading\na \\\n  b\nfor x in 1; do\n  c\ndone"
    page.write_text(f"# A\n```sh\n{first}\n```\n```yaml\nd: 1\n```\n## B\n```sh\ne\n```\n")
    assert commands(page, "A") == ["a    b", "for x in 1; do\n  c\ndone"]
    assert commands(page, "B") == ["e"]
    with pytest.raises(LookupError, match="has no heading 'C'"):
        commands(page, "C")
