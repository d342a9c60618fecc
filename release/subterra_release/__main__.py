"""``python -m subterra_release VERSION --registry REGISTRY``: makes a release into out/release/VERSION."""

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from subterra_cluster import binaries
from subterra_cluster.config import IMAGE_PREFIX, REPOSITORY, Ports, default_paths
from subterra_cluster.host import prerequisites
from subterra_cluster.host.shell import ClusterError
from subterra_cluster.images.builder import Builder, find_uv
from subterra_release.chart_archive import chart_files, packed
from subterra_release.release_error import ReleaseError
from subterra_release.single_file import packed_site

VERSION = re.compile(r"(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*)){2}(-(alpha|beta|rc)\.[0-9]+)?")
"""What both Helm and Python take for a version."""
REGISTRY = re.compile(r"[a-z0-9.-]+(:[0-9]+)?(/[a-z0-9._-]+)*")
IMAGES = ("operator", "jobs")
BILLS = {
    "cli": ("cli",),
    "operator": ("operator",),
    "jobs": ("generate", "train", "evaluate", "exporter", "serve-cpu"),
}
"""Bills of materials, with the extras of the lock file that each is about."""


def output(*command: str | Path, folder: Path = REPOSITORY, variables: Mapping[str, str] | None = None) -> str:
    """What a program prints. Raises ReleaseError with its last words."""
    environment = {**os.environ, **(variables or {})}
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()[-3:]
        raise ReleaseError(f"{command[0]} {command[1]} failed: {' '.join(said)}")
    return done.stdout


def commit_time(allow_changes: bool) -> int:
    """Time of the commit that is released, for everything that carries a time. Raises ReleaseError for uncommitted changes."""
    if not allow_changes and output("git", "status", "--porcelain").strip():
        raise ReleaseError("there are uncommitted changes; commit them, or pass --allow-changes for a trial")
    return int(output("git", "log", "-1", "--format=%ct"))


def exported(version: str, folder: Path) -> Path:
    """The commit's files in ``folder``, with the version in them."""
    archive = folder / "source.tar"
    output("git", "archive", "--output", archive, "HEAD")
    source = folder / "source"
    source.mkdir()
    output("tar", "--extract", "--file", archive, "--directory", source)
    package = source / "api/subterra_api/__init__.py"
    package.write_text(re.sub(r'^__version__ = ".*"$', f'__version__ = "{version}"', package.read_text(), flags=re.M))
    return source


def command_line(source: Path, target: Path, epoch: int) -> None:
    """Writes the wheel, and the single file of the command line."""
    uv, fixed = find_uv(default_paths().cache), {"SOURCE_DATE_EPOCH": str(epoch)}
    output(uv, "build", "--wheel", "--out-dir", target, source, variables=fixed)
    (target / ".gitignore").unlink(missing_ok=True)
    [wheel] = target.glob("*.whl")
    with tempfile.TemporaryDirectory() as folder:
        site, locked = Path(folder) / "site", Path(folder) / "locked.txt"
        extras = [word for extra in BILLS["cli"] for word in ("--extra", extra)]
        output(uv, "export", "--frozen", "--no-emit-project", *extras, "--output-file", locked, folder=source)
        output(uv, "pip", "install", "--python", sys.executable, "--target", site, "--require-hashes", "-r", locked)
        output(uv, "pip", "install", "--python", sys.executable, "--target", site, "--no-deps", wheel)
        file = target / "subterra.pyz"
        file.write_bytes(packed_site(site, sys.version_info[:2], epoch))
        file.chmod(0o755)


def bills_of_materials(source: Path, target: Path, version: str, epoch: int) -> None:
    """Writes what is in command line and images, from the lock file, in CycloneDX's format."""
    uv = find_uv(default_paths().cache)
    for name, extras in BILLS.items():
        words = [word for extra in extras for word in ("--extra", extra)]
        bill = json.loads(output(uv, "export", "--frozen", "--format", "cyclonedx1.5", *words, folder=source))
        bill["metadata"]["timestamp"] = datetime.fromtimestamp(epoch, UTC).isoformat()
        bill["metadata"]["component"] |= {"name": f"subterra-{name}", "version": version}
        bill.pop("serialNumber", None)
        bill["serialNumber"] = f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(bill, sort_keys=True))}"
        (target / f"{name}.cdx.json").write_text(json.dumps(bill, indent=1) + "\n")


def pushed_images(source: Path, version: str, registry: str, names: Sequence[str], *, plain_http: bool) -> dict[str, str]:
    """Builds the images and pushes them; returns their references with digests."""
    paths = replace(default_paths(), repository=source)
    prerequisites.ensure(paths, Ports(), node=False, images=True)
    builder, result = Builder(paths), {}
    builder.build(names)
    insecure = ["--tls-verify=false"] if plain_http else []
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            file, reference = Path(folder) / name, f"{registry}/{name}"
            builder.buildah(
                "push", "--digestfile", file, *insecure, f"{IMAGE_PREFIX}/{name}:dev", f"docker://{reference}:{version}"
            )
            result[name] = f"{reference}@{file.read_text().strip()}"
    return result


def write_chart(source: Path, target: Path, version: str, images: Mapping[str, str], epoch: int) -> Path:
    """Writes the chart's archive, which `helm lint` accepts."""
    file = target / f"subterra-{version}.tgz"
    file.write_bytes(packed(chart_files(source / "charts/subterra", version, images), epoch))
    output(binaries.ensure(default_paths().cache) / "helm", "lint", file)
    return file


def push_chart(chart: Path, registry: str, *, plain_http: bool) -> str:
    """Pushes the chart as an OCI artifact; returns helm's words with its digest."""
    options = ["--plain-http"] if plain_http else []
    return output(binaries.ensure(default_paths().cache) / "helm", "push", chart, f"oci://{registry}/charts", *options)


def write_checksums(target: Path) -> None:
    """Writes SHA256SUMS of all files in ``target``."""
    files = sorted(file for file in target.iterdir() if file.is_file() and file.name != "SHA256SUMS")
    lines = [f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in files]
    (target / "SHA256SUMS").write_text("".join(lines))


def parser() -> argparse.ArgumentParser:
    """The argument parser."""
    result = argparse.ArgumentParser(prog="subterra_release", description="Makes a release into out/release/VERSION.")
    result.add_argument("version", help="such as 0.2.0; chart, images and command line get it")
    result.add_argument("--registry", required=True, help="where images and chart are pushed, such as registry.example/subterra")
    result.add_argument("--image", action="append", default=[], metavar="NAME=REFERENCE@DIGEST", help="pushed already: not built")
    result.add_argument("--allow-changes", action="store_true", help="for a trial: uncommitted changes are left out")
    result.add_argument("--no-push-chart", action="store_true", help="only write the chart's archive")
    result.add_argument("--plain-http", action="store_true", help="the registry has no TLS")
    return result


def release(options: argparse.Namespace) -> Path:
    """Makes the release; returns its folder. Raises ReleaseError."""
    if not VERSION.fullmatch(options.version):
        raise ReleaseError(f"VERSION {options.version} is not a version; write one such as 0.2.0 or 0.2.0-rc.1")
    if not REGISTRY.fullmatch(options.registry):
        raise ReleaseError(f"REGISTRY {options.registry} is not a registry; write one such as registry.example/subterra")
    epoch = commit_time(options.allow_changes)
    target: Path = REPOSITORY / "out/release" / options.version
    if target.exists():
        raise ReleaseError(f"{target} exists; remove it, or choose another version")
    with tempfile.TemporaryDirectory() as folder:
        source, made = exported(options.version, Path(folder)), Path(folder) / "made"
        made.mkdir()
        command_line(source, made, epoch)
        bills_of_materials(source, made, options.version, epoch)
        images = dict(given.split("=", 1) for given in options.image)
        if missing := [name for name in IMAGES if name not in images]:
            images |= pushed_images(source, options.version, options.registry, missing, plain_http=options.plain_http)
        (made / "images.json").write_text(json.dumps(images, indent=1, sort_keys=True) + "\n")
        chart = write_chart(source, made, options.version, images, epoch)
        write_checksums(made)
        if not options.no_push_chart:
            print(push_chart(chart, options.registry, plain_http=options.plain_http).strip())
        shutil.copytree(made, target)
    return target


def main(arguments: Sequence[str] | None = None) -> int:
    """Makes a release and returns the exit code."""
    try:
        target = release(parser().parse_args(arguments))
    except (ReleaseError, ClusterError) as failure:
        print(f"error: {failure}", file=sys.stderr)
        return 1
    print(f"{target}: {', '.join(sorted(file.name for file in target.iterdir()))}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
