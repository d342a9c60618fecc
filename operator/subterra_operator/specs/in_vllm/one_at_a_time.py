"""Runs one of several commands at a time, the one that a file names: how several models share one GPU.

Its source is the command of a vLLM container, as ``python3 -c SOURCE FILE COMMANDS``, so it needs only Python. ``FILE`` has the
name of the command to run, and need not exist yet; ``COMMANDS`` are command lines by name, as JSON. It ends with the exit code of a
command that ends by itself, so that the kubelet reports it and starts it again.
"""

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

POLL_SECONDS = 0.2
STOP_SECONDS = 30.0
"""How long a command may take to end before it is killed."""
PR_SET_CHILD_SUBREAPER = 36


def read_name(file: str) -> str:
    """The name in a file; empty while there is none."""
    try:
        return Path(file).read_text().strip()
    except FileNotFoundError:
        return ""


def is_gone(process: "subprocess.Popen[bytes]") -> bool:
    """Whether a process and all that it started have ended; each holds memory of the GPU until then."""
    if process.poll() is None:
        return False
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-process.pid, os.WNOHANG)[0]:  # orphans too: they have become children of this process
            pass
    try:
        os.killpg(process.pid, 0)
    except ProcessLookupError:
        return True
    return False


def stop(process: "subprocess.Popen[bytes]") -> None:
    """Ends a process and all that it started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        end = time.monotonic() + STOP_SECONDS
        while not is_gone(process) and time.monotonic() < end:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            time.sleep(POLL_SECONDS)


def run(file: str, commands: "dict[str, list[str]]") -> int:
    """Runs the command that the file names until it ends by itself; returns its exit code."""
    name = ""
    process: subprocess.Popen[bytes] | None = None
    try:
        while process is None or process.poll() is None:
            if (wanted := read_name(file)) != name and wanted in commands:
                if process is not None:
                    stop(process)
                sys.stdout.write(f"starting {wanted}" + (f" in place of {name}\n" if name else "\n"))
                sys.stdout.flush()
                name, process = wanted, subprocess.Popen(commands[wanted], start_new_session=True)
            time.sleep(POLL_SECONDS)
        return process.returncode or 1
    finally:
        if process is not None:
            stop(process)


if __name__ == "__main__":
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)  # also where it is not the first process of its container
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    sys.exit(run(sys.argv[1], json.loads(sys.argv[2])))
