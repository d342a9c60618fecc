"""``python -m subterra_release VERSION --registry REGISTRY``: makes a release into out/release/VERSION."""

import argparse
import hashlib
import json
import os
import re
import shutil
import sys
import tempfile
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import yaml

from subterra_cluster import binaries
from subterra_cluster.config import IMAGE_PREFIX, REPOSITORY, Ports, default_paths
from subterra_cluster.host import prerequisites
from subterra_cluster.host.shell import ClusterError
from subterra_cluster.images.builder import Builder, find_uv
from subterra_release import artifact_hub, krew_manifest, provenance, tar_archive
from subterra_release.chart_archive import chart_files, packed
from subterra_release.program_output import output
from subterra_release.release_error import ReleaseError
from subterra_release.signatures import Signer, signer
from subterra_release.single_file import packed_site

VERSION = re.compile(r"(0|[1-9][0-9]*)(\.(0|[1-9][0-9]*)){2}(-(alpha|beta|rc)\.[0-9]+)?")
"""What both Helm and Python take for a version."""
REGISTRY = re.compile(r"[a-z0-9.-]+(:[0-9]+)?(/[a-z0-9._-]+)*")
IMAGES = ("operator", "jobs")
BILLS = {
    "cli": ("cli",),
    "operator": ("operator",),
    "jobs": ("generate", "train", "evaluate", "exporter", "registry", "serve-cpu"),
}
"""Bills of materials, with the extras of the lock file that each is about."""


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


def built_images(source: Path, names: Sequence[str]) -> Builder:
    """Builds the images of ``source``; returns the builder, which has them."""
    paths = replace(default_paths(), repository=source)
    prerequisites.ensure(paths, Ports(), node=False, images=True)
    builder = Builder(paths)
    builder.build(names)
    return builder


def pushed_images(builder: Builder, version: str, registry: str, names: Sequence[str], *, plain_http: bool) -> dict[str, str]:
    """Pushes the images that the builder has; returns their references with digests."""
    insecure, result = ["--tls-verify=false"] if plain_http else [], {}
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            file, reference = Path(folder) / name, f"{registry}/{name}"
            builder.buildah(
                "push", "--digestfile", file, *insecure, f"{IMAGE_PREFIX}/{name}:dev", f"docker://{reference}:{version}"
            )
            result[name] = f"{reference}@{file.read_text().strip()}"
    return result


def write_chart(
    source: Path, target: Path, version: str, images: Mapping[str, str], epoch: int, homepage: str | None = None
) -> Path:
    """Writes the chart's archive, which `helm lint` accepts."""
    crds = [yaml.safe_load(file.read_text()) for file in sorted((source / "crds").glob("*.yaml"))]
    annotations = artifact_hub.annotations(version, images, crds, homepage)
    file = target / f"subterra-{version}.tgz"
    file.write_bytes(packed(chart_files(source / "charts/subterra", version, images, annotations), epoch))
    output(binaries.ensure(default_paths().cache) / "helm", "lint", file)
    return file


def pushed_chart(chart: Path, registry: str, *, plain_http: bool) -> str:
    """Pushes the chart as an OCI artifact; returns its reference with the digest."""
    options = ["--plain-http"] if plain_http else []
    said = output(binaries.ensure(default_paths().cache) / "helm", "push", chart, f"oci://{registry}/charts", *options)
    if not (digest := re.search(r"^Digest: (sha256:[0-9a-f]{64})$", said, re.M)):
        raise ReleaseError(f"helm pushed {chart.name} and printed no digest: {said.strip()}")
    return f"{registry}/charts/subterra@{digest[1]}"


def write_plugin(source: Path, target: Path, version: str, epoch: int, downloads: str | None, homepage: str | None) -> None:
    """Writes the kubectl plugin, and its manifest for krew if its archive will have an address."""
    files = krew_manifest.plugin_files((target / "subterra.pyz").read_bytes(), (source / "LICENSE").read_bytes())
    archive = tar_archive.packed(files, epoch, programs=[krew_manifest.PROGRAM])
    (target / krew_manifest.archive_name(version)).write_bytes(archive)
    if not (downloads := downloads or krew_manifest.default_downloads(homepage, version)):
        print("no manifest for krew: nothing says where the files can be downloaded; pass DOWNLOADS=https://…")
        return
    digest = hashlib.sha256(archive).hexdigest()
    manifest = krew_manifest.manifest(version, downloads, digest, homepage, sys.version_info[:2])
    (target / "krew.yaml").write_text(yaml.safe_dump(manifest, sort_keys=False))


def write_checksums(target: Path) -> dict[str, str]:
    """Writes SHA256SUMS of all files in ``target``; returns them by name."""
    files = sorted(file for file in target.iterdir() if file.is_file() and file.name != "SHA256SUMS")
    digests = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
    (target / "SHA256SUMS").write_text("".join(f"{digest}  {name}\n" for name, digest in digests.items()))
    return digests


def locked_files(source: Path) -> dict[str, str]:
    """Files that pin what is built, with their SHA-256."""
    names = [Path("uv.lock"), *(file.relative_to(source) for file in source.glob("images/**/requirements.txt"))]
    return {str(name): hashlib.sha256((source / name).read_bytes()).hexdigest() for name in names}


def sign_release(made: Path, digests: Mapping[str, str], pushed: Mapping[str, str], build: provenance.Build, by: Signer) -> None:
    """Signs the files in ``made`` and what was pushed, and attests where all of it comes from and what is in the images.

    About images that were built elsewhere it attests nothing, because this build does not know.
    """
    origin = provenance.predicate(build, os.environ)
    with tempfile.TemporaryDirectory() as folder:
        predicate, statement = Path(folder) / "predicate.json", Path(folder) / "statement.json"
        predicate.write_text(json.dumps(origin))
        statement.write_text(json.dumps(provenance.statement(digests, origin)))
        by.attest_files(statement, made / "provenance.intoto.json")
        for name in (*digests, "SHA256SUMS"):
            by.sign_file(made / name)
        for name, reference in pushed.items():
            by.sign(reference)
            if name in build.given_images:
                continue
            by.attest(reference, "slsaprovenance1", predicate)
            if name in BILLS:
                by.attest(reference, "cyclonedx", made / f"{name}.cdx.json")


def parser() -> argparse.ArgumentParser:
    """The argument parser."""
    result = argparse.ArgumentParser(prog="subterra_release", description="Makes a release into out/release/VERSION.")
    result.add_argument("version", help="such as 0.2.0; chart, images and command line get it")
    result.add_argument("--registry", required=True, help="where images and chart are pushed, such as registry.example/subterra")
    result.add_argument("--key", help="cosign's private key: a file, env://NAME or the address in a key service; signs everything")
    result.add_argument("--downloads", help="address of the folder where the files will be offered, for krew")
    result.add_argument("--image", action="append", default=[], metavar="NAME=REFERENCE@DIGEST", help="pushed already: not built")
    result.add_argument("--allow-changes", action="store_true", help="for a trial: uncommitted changes are left out")
    result.add_argument("--no-push-chart", action="store_true", help="only write the chart's archive")
    result.add_argument("--plain-http", action="store_true", help="the registry has no TLS")
    result.add_argument("--output", type=Path, help="write into this folder instead of out/release/VERSION")
    return result


def checked(options: argparse.Namespace) -> Path:
    """The folder that the release will be. Raises ReleaseError for options that make none."""
    if not VERSION.fullmatch(options.version):
        raise ReleaseError(f"VERSION {options.version} is not a version; write one such as 0.2.0 or 0.2.0-rc.1")
    if not REGISTRY.fullmatch(options.registry):
        raise ReleaseError(f"REGISTRY {options.registry} is not a registry; write one such as registry.example/subterra")
    target: Path = options.output or REPOSITORY / "out/release" / options.version
    if target.exists():
        raise ReleaseError(f"{target} exists; remove it, or choose another version")
    return target


def release(options: argparse.Namespace) -> Path:
    """Makes the release; returns its folder. Raises ReleaseError."""
    target, epoch = checked(options), commit_time(options.allow_changes)
    by = signer(options.key, default_paths().cache, os.environ, plain_http=options.plain_http) if options.key else None
    homepage = provenance.public_address(output("git", "config", "--default", "", "--get", "remote.origin.url"))
    with tempfile.TemporaryDirectory() as folder:
        source, made = exported(options.version, Path(folder)), Path(folder) / "made"
        made.mkdir()
        command_line(source, made, epoch)
        write_plugin(source, made, options.version, epoch, options.downloads, homepage)
        bills_of_materials(source, made, options.version, epoch)
        given = dict(image.split("=", 1) for image in options.image)
        pushed = dict(given)
        if missing := [name for name in IMAGES if name not in given]:
            builder = built_images(source, missing)
            pushed |= pushed_images(builder, options.version, options.registry, missing, plain_http=options.plain_http)
        chart = write_chart(source, made, options.version, pushed, epoch, homepage)
        if not options.no_push_chart:
            pushed["chart"] = pushed_chart(chart, options.registry, plain_http=options.plain_http)
        (made / "images.json").write_text(json.dumps(pushed, indent=1, sort_keys=True) + "\n")
        if by:
            (made / "cosign.pub").write_text(by.public_key())
        digests = write_checksums(made)
        if by:
            commit = output("git", "rev-parse", "HEAD").strip()
            build = provenance.Build(options.version, options.registry, commit, homepage, locked_files(source), given)
            sign_release(made, digests, pushed, build, by)
        shutil.copytree(made, target)
    return target


def main(arguments: Sequence[str] | None = None) -> int:
    """Makes a release and returns the exit code."""
    options = parser().parse_args(arguments)
    try:
        target = release(options)
    except (ReleaseError, ClusterError) as failure:
        print(f"error: {failure}", file=sys.stderr)
        return 1
    for name, reference in json.loads((target / "images.json").read_text()).items():
        print(f"{name}: {reference}")
    print(f"{target}: {', '.join(sorted(file.name for file in target.iterdir()))}")
    print(f"signed with {options.key}" if options.key else "nothing is signed: no KEY was given")
    return 0


if __name__ == "__main__":
    sys.exit(main())
