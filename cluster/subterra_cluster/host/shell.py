"""Runs commands, reports progress, and fails with a cause and a fix."""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path


class ClusterError(Exception):
    """An expected failure; the message says what is wrong and what to do. Shown without a traceback."""


def write_if_changed(path: Path, text: str) -> None:
    """Write a file unless it already has this text, so that components watching it see no change."""
    if not path.exists() or path.read_text() != text:
        path.write_text(text)


def tail(text: str, lines: int = 15) -> str:
    """The last lines of a text, indented, for an error message."""
    return "\n".join("    " + line for line in text.strip().splitlines()[-lines:])


def run(
    command: Sequence[str | Path],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    data: bytes | None = None,
    check: bool = True,
    log: Path | None = None,
) -> str:
    """Run a command and return its standard output; a failure includes the end of its output.

    With `log`, all output goes to that file instead (and "" is returned): for long builds that someone may follow.
    """
    words = [str(word) for word in command]
    environment = {**os.environ, **env} if env else None
    if log is not None:
        return _run_logged(words, environment, cwd, log)
    try:
        done = subprocess.run(words, input=data, capture_output=True, env=environment, cwd=cwd, check=False)
    except FileNotFoundError:
        raise ClusterError(f"the program {words[0]!r} is not installed") from None
    output = done.stdout.decode(errors="replace")
    if check and done.returncode != 0:
        message = tail(done.stderr.decode(errors="replace") or output)
        raise ClusterError(f"`{' '.join(words[:8])}` ended with {done.returncode}:\n{message}")
    return output


def _run_logged(words: list[str], env: dict[str, str] | None, cwd: Path | None, log: Path) -> str:
    """Run with all output in a file; on failure show the end of that file."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as sink:
        done = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=sink, stderr=subprocess.STDOUT, env=env, cwd=cwd, check=False)
    if done.returncode != 0:
        text = log.read_text(errors="replace")
        raise ClusterError(f"`{' '.join(words[:8])}` ended with {done.returncode}, see {log}:\n{tail(text, 25)}")
    return ""


def say(message: str) -> None:
    """Print a message to stderr; stdout is for scripts."""
    print(message, file=sys.stderr, flush=True)


@contextlib.contextmanager
def step(title: str) -> Iterator[None]:
    """Print a step and how long it took."""
    started = time.monotonic()
    print(f"  {title} … ", end="", file=sys.stderr, flush=True)
    try:
        yield
    except BaseException:
        print("failed", file=sys.stderr, flush=True)
        raise
    print(f"{time.monotonic() - started:.1f} s", file=sys.stderr, flush=True)


@contextlib.contextmanager
def locked(path: Path, purpose: str) -> Iterator[None]:
    """Hold a lock file; waits for other processes, and the kernel releases it if this one dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"  another process is busy with {purpose}: waiting for it")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
