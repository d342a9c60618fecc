"""Follows the saves of a procedure's file and of the files next to it, where called procedures are."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from subterra_cli.files.called_files import SUFFIXES
from subterra_cli.files.lint_files import check_paths
from subterra_cli.output.preview.preview_sample import write_sample
from subterra_cli.output.preview.preview_state import Preview, after_save
from subterra_core.procedure.graph import Graph

Stamps = Mapping[str, tuple[int, int]]
"""Time of the last change in nanoseconds, and size in bytes, by file."""


class SaveWatch:
    """Notices a save once two looks in a row see the same, so that no half-written file is read."""

    def __init__(self, look: Callable[[], Stamps]) -> None:
        self._look = look
        self._known = self._last = look()

    def saved(self) -> bool:
        """True for the first look at which a change has settled."""
        now = self._look()
        settled, self._last = now == self._last, now
        if not settled or now == self._known:
            return False
        self._known = now
        return True


def stamps_around(file: str) -> Stamps:
    """The stamps of `file` and of all YAML and JSON files in its folder; one that is just being replaced is left out."""
    stamps = {}
    for near in {Path(file), *(each for each in Path(file).parent.glob("*") if each.suffix in SUFFIXES)}:
        try:
            stat = near.stat()
        except OSError:
            continue
        stamps[str(near)] = (stat.st_mtime_ns, stat.st_size)
    return stamps


def follow_saves(file: str, publish: Callable[[Preview], None], pause: Callable[[], None]) -> None:
    """Publishes a preview now and after each save, and again once its conversations are written; never returns.

    `pause` is called between two looks at the files, and ends it by an exception.
    """
    watch, preview = SaveWatch(partial(stamps_around, file)), None
    while True:
        preview = after_save(preview, file, check_paths([file]))
        publish(preview)
        if preview.awaits_sample and preview.procedure is not None:
            preview = preview.with_sample(write_sample(Graph(preview.procedure.spec)))
            publish(preview)
        while not watch.saved():
            pause()
