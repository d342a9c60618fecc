"""Builds `images/<name>/Dockerfile` with buildah, without a registry: the Debian base comes from debootstrap."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from subterra_cluster.binaries import pip_install
from subterra_cluster.config import IMAGE_PREFIX, REPOSITORY, Paths
from subterra_cluster.host.shell import ClusterError, locked, run, step
from subterra_cluster.images.leftovers import DiskSpace, in_use, stale_mounts

GUEST = "/run/subterra-build"  # where a build sees what the host mounts
UV_CACHE = "/run/subterra-uv-cache"
AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")
AUTHORITY_VARIABLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "PIP_CERT", "NODE_EXTRA_CA_CERTS")
BASE_LABEL = "dev.subterra.base=2"  # raise the number when `slim` changes
BASE = re.compile(r"^FROM\s+(?:--\S+\s+)*(?:\S+/)?debian:([a-z]+)-slim\b", re.MULTILINE | re.I)


class Builder:
    """buildah with its own store in the cache."""

    def __init__(self, paths: Paths) -> None:
        """Set the store's folders; nothing is created yet."""
        self.paths = paths
        self.storage = paths.containers / "storage"
        self.lent = paths.containers / "lent"

    def buildah(self, *words: str | Path, log: Path | None = None) -> str:
        """Run a buildah command on our store, without its usual bind mount, which hard links cannot cross."""
        head: list[str | Path] = ["buildah", "--root", self.storage, "--runroot", self.paths.containers / "run"]
        head += ["--storage-driver", "overlay", "--storage-opt", "overlay.skip_mount_home=true"]
        return run([*head, *words], log=log)

    def names(self) -> list[str]:
        """The names of all images that can be built."""
        return sorted(path.parent.name for path in (self.paths.repository / "images").glob("*/Dockerfile"))

    def build(self, names: Sequence[str]) -> None:
        """Build the named images (all by default); a rebuild without changes takes a second or two."""
        known = self.names()
        unknown = [name for name in names if name not in known]
        if unknown:
            raise ClusterError(f"there is no images/{unknown[0]}/Dockerfile; there are: {', '.join(known) or 'none'}")
        for name in names or known:
            self.build_file(name, self.paths.repository / "images" / name / "Dockerfile")

    def build_file(self, name: str, dockerfile: Path) -> None:
        """Build one Dockerfile, with the repository as its context and the Debian bases that it starts from.

        Mounts of builds that failed or were killed are removed first: nothing can be built as long as they are there.
        """
        log, space = self.paths.cache / "logs" / f"image-{name}.log", DiskSpace(self.paths.containers)
        log.unlink(missing_ok=True)
        try:
            self._build_file(name, dockerfile, log)
        except ClusterError as error:
            with contextlib.suppress(ClusterError):
                self.clear_interrupted()
            raise space.explained(error, f"building image {name}", (log,)) from None

    def _build_file(self, name: str, dockerfile: Path, log: Path) -> None:
        with locked(self.paths.cache / "images.lock", "preparing image builds"):
            if stale_mounts(self.paths.containers):
                with step("removing what an interrupted build left mounted"):
                    self.clear_interrupted()
            for suite in bases(dockerfile.read_text()):
                self._ensure_base(suite)
            lent = self._lend()
        tag = f"{IMAGE_PREFIX}/{name}:dev"
        before = self._identity(tag)
        words: list[str | Path] = ["bud", "--isolation", "chroot", "--network", "host", "--layers", "--pull-never"]
        with step(f"building image {name} (log: {log})"):
            self.buildah(*words, *lent, "--tag", tag, "--file", dockerfile, self.paths.repository, log=log)
        if before and before != self._identity(tag):
            with contextlib.suppress(ClusterError):  # a layer that a newer image builds on stays
                self.buildah("rmi", before)

    def _identity(self, tag: str) -> str:
        """ID of the image with this tag, or an empty string."""
        return self.buildah("images", "--quiet", "--no-trunc", "--filter", f"reference={tag}").strip()

    def _ensure_base(self, suite: str) -> None:
        """Make `debian:<suite>-slim` from Debian's packages, unless it exists."""
        name = f"library/debian:{suite}-slim"
        known = self.buildah("images", "--filter", f"label={BASE_LABEL}", "--format", "{{.Name}}:{{.Tag}}")
        if f"localhost/{name}" in known.split():
            return
        rootfs = self.paths.containers / f"debian-{suite}"
        shutil.rmtree(rootfs, ignore_errors=True)
        with step(f"installing Debian {suite} with debootstrap"):
            log = self.paths.cache / "logs" / f"debootstrap-{suite}.log"
            run(["debootstrap", "--variant=minbase", suite, rootfs, *mirror()], log=log)
            slim(rootfs)
        with step(f"making {name} of it"):
            container = self.buildah("from", "scratch").strip()
            self.buildah("add", "--quiet", container, rootfs, "/")
            self.buildah("config", "--cmd", "bash", "--label", BASE_LABEL, container)
            self.buildah("commit", "--quiet", "--rm", container, name)
        run(["rm", "-rf", "--one-file-system", rootfs])

    def _lend(self) -> list[str]:
        """Mounts that let a build use this machine's uv, its cache and its package index settings."""
        uv = find_uv(self.paths.cache)
        cache = Path(run([uv, "cache", "dir"]).strip())
        self.lent.mkdir(parents=True, exist_ok=True)
        cache.mkdir(parents=True, exist_ok=True)
        run(["cp", "--update", "--preserve=mode,timestamps", uv, self.lent / "uv"])
        if AUTHORITIES.exists():
            run(["cp", "--update", AUTHORITIES, self.lent / "ca.crt"])
        (self.lent / "env").write_text(environment_script(os.environ, AUTHORITIES.exists()))
        wrapper = self.lent / "uv-wrapper"
        wrapper.write_text(f'#!/bin/sh\n. {GUEST}/env\nexec {GUEST}/uv "$@"\n')
        wrapper.chmod(0o755)
        mounts = [f"{self.lent}:{GUEST}:ro", f"{cache}:{UV_CACHE}"]
        for path in (Path("/etc/uv/uv.toml"), Path.home() / ".config/uv/uv.toml"):
            if path.exists():
                mounts.append(f"{path}:/etc/uv/uv.toml:ro")
        return [word for mount in mounts for word in ("--volume", mount)]

    def clear_interrupted(self) -> None:
        """Remove mounts and containers left by builds that were killed or ran out of disk, unless a build is running."""
        if not self.storage.exists() or in_use(self.storage):
            return
        for point in stale_mounts(self.paths.containers):
            run(["umount", "-l", point], check=False)
        self.buildah("rm", "--all")

    def push(self, names: Sequence[str], registry: str) -> None:
        """Push the images as `<registry>/<name>:dev`, with the credentials of `buildah login`."""
        for name in names or self.names():
            with step(f"pushing {registry}/{name}:dev"):
                self.buildah("push", f"{IMAGE_PREFIX}/{name}:dev", f"docker://{registry}/{name}:dev")


def bases(dockerfile: str) -> list[str]:
    """The Debian suites that a Dockerfile starts from, by its lines `FROM debian:<suite>-slim`."""
    return list(dict.fromkeys(BASE.findall(dockerfile)))


def mirror() -> list[str]:
    """The Debian mirror of this machine's apt as debootstrap's last argument; empty if unknown."""
    text = run(["apt-get", "indextargets", "--format", "$(ORIGIN) $(LABEL) $(REPO_URI)"], check=False)
    found = [line.split()[2] for line in text.splitlines() if line.startswith("Debian Debian ")]
    return found[:1]


def slim(rootfs: Path) -> None:
    """Remove files that no container needs or that belong to this machine, and link `uv` to the one mounted into builds."""
    for name in ("var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/man", "usr/share/info", "var/log"):
        for path in (rootfs / name).glob("*"):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
    for path in [rootfs / "etc/hostname", *(rootfs / "usr/share/locale").glob("*/LC_MESSAGES")]:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    (rootfs / "etc/resolv.conf").write_text("")
    (rootfs / "usr/local/bin/uv").symlink_to(f"{GUEST}/uv-wrapper")  # dangling outside our builds


def environment_script(environment: Mapping[str, str], authorities: bool) -> str:
    """A shell script with this machine's package index settings.

    A script and not `--env`: the latter would stay in the image. Paths of this machine are left out; a value that the
    Dockerfile sets wins.
    """
    prefixes = ("UV_", "PIP_")
    values = {
        name: value
        for name, value in environment.items()
        if (name.startswith(prefixes) or name.lower().endswith("_proxy")) and not value.startswith("/")
    }
    if authorities:
        values |= dict.fromkeys(AUTHORITY_VARIABLES, f"{GUEST}/ca.crt")
    values |= {"UV_CACHE_DIR": UV_CACHE, "UV_LINK_MODE": "copy", "UV_NO_PROGRESS": "1"}
    lines = [f'[ -n "${{{name}+set}}" ] || export {name}={shlex.quote(values[name])}' for name in sorted(values)]
    return "\n".join([*lines, ""])


def find_uv(cache: Path) -> Path:
    """A real uv binary (no shim that needs the rest of its installation), installing it from PyPI if needed."""
    ours = cache / "uv" / "bin" / "uv"
    found = shutil.which("uv")
    candidates = [Path(found).resolve()] if found else []
    for path in (*candidates, REPOSITORY / ".venv/bin/uv", REPOSITORY / ".uv/bin/uv", ours):
        if path.exists() and path.read_bytes()[:4] == b"\x7fELF":
            return path
    with step("installing uv from PyPI"):
        pip_install("uv", cache / "uv")
    return ours
