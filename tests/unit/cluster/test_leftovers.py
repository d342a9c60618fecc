"""What failed builds leave behind is removed before the next one, and a full disk is called a full disk."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest

from subterra_cluster.config import Paths
from subterra_cluster.host.shell import ClusterError
from subterra_cluster.images import builder, leftovers
from subterra_cluster.images.builder import Builder

FULL = "writing blob: storing blob to file: write /overlay/l/ABC/diff/usr/lib/libtorch.so: no space left on device"
FAILED = "`buildah bud` ended with 125"


class Machine:
    """A machine whose programs only record that they were run. ``says``: what a build's log has when it fails."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.paths = Paths(folder / "repository", folder / "state", folder / "cache")
        self.storage = self.paths.containers / "storage"
        self.table, self.processes = folder / "mountinfo", folder / "proc"
        self.dockerfile = self.paths.repository / "images/jobs/Dockerfile"
        self.commands: list[str] = []
        self.says: str | None = None
        self.free: Callable[[Path], int] = lambda _: 3_210_000_000
        for made in (self.storage, self.processes, self.dockerfile.parent):
            made.mkdir(parents=True)
        self.dockerfile.write_text("FROM scratch\n")
        self.mounts()
        patch.setattr(leftovers, "MOUNT_TABLE", self.table)
        patch.setattr(leftovers, "PROCESSES", self.processes)
        patch.setattr(leftovers.shutil, "disk_usage", lambda path: SimpleNamespace(free=self.free(Path(path))))
        patch.setattr(builder, "run", self.run)
        patch.setattr(Builder, "_lend", lambda _: [])
        patch.delenv("TMPDIR", raising=False)

    def mounts(self, *points: Path) -> None:
        """What is mounted, in the order of mounting, next to the root."""
        lines = [f"{number} 1 0:1 / {point} rw - overlay" for number, point in enumerate((Path("/"), *points), 1)]
        self.table.write_text("\n".join(lines))

    def process(self, *words: str | Path) -> None:
        (self.processes / "4711").mkdir()
        (self.processes / "4711/cmdline").write_bytes(b"\0".join(os.fsencode(word) for word in words))

    def run(self, words: Sequence[str | Path], *, log: Path | None = None, check: bool = True) -> str:
        said = " ".join(str(word) for word in words)
        name = "bud" if " bud " in said else said.partition("mount_home=true ")[2] or said
        self.commands.append(name)
        if name.startswith("umount"):
            self.mounts()
        if name == "bud" and self.says is not None and log is not None:
            log.parent.mkdir(parents=True)
            log.write_text(self.says)
            raise ClusterError(FAILED)
        return ""

    def build(self) -> list[str]:
        """The commands of a build but those that only look."""
        Builder(self.paths).build(["jobs"])
        return [command for command in self.commands if not command.startswith("images ")]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


def test_a_clean_store_is_built_in_at_once(machine: Machine) -> None:
    machine.mounts(machine.paths.cache / "elsewhere", Path("/var/lib/containers/storage/overlay/1/merged"))
    assert machine.build() == ["bud"]


def test_what_a_dead_build_left_mounted_is_unmounted_deepest_first_before_the_next(machine: Machine) -> None:
    overlay = machine.storage / "overlay"
    machine.mounts(overlay, overlay / "abc/merged")
    assert machine.build() == [f"umount -l {overlay}/abc/merged", f"umount -l {overlay}", "rm --all", "bud"]


def test_mounts_of_a_build_that_runs_are_left_alone(machine: Machine) -> None:
    machine.mounts(machine.storage / "overlay/abc/merged")
    machine.process("buildah", "--root", machine.storage, "bud")
    assert machine.build() == ["bud"]


def test_a_full_disk_is_named_with_what_is_needed_and_where_and_leaves_no_mounts(machine: Machine) -> None:
    machine.says = f"{FULL}\n" + "more output\n" * 50
    with pytest.raises(ClusterError) as told:
        machine.build()
    folder = machine.paths.containers
    assert str(told.value).startswith(
        f"no space left on device, more than 3.2 GB needed in {folder}: building image jobs filled it"
    )
    assert "free some and repeat, or set SUBTERRA_CACHE" in str(told.value)
    assert str(told.value).endswith(FAILED), "the program's own words stay"
    assert machine.commands[-1] == "rm --all"


def test_of_two_file_systems_the_one_with_less_room_is_named(machine: Machine) -> None:
    machine.says, machine.free = FULL, lambda path: 40 * 10**9 if path.is_relative_to(machine.paths.cache.parent) else 10**9
    with pytest.raises(ClusterError, match=r"more than 1\.0 GB needed in /var/tmp"):
        machine.build()


def test_another_failure_is_reported_as_it_is(machine: Machine) -> None:
    machine.says = "ERROR: no matching distribution found for tokenizers"
    with pytest.raises(ClusterError, match=f"^{FAILED}$"):
        machine.build()
