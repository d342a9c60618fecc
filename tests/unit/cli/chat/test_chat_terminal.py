"""`subterra chat` on a real terminal: the prompt, and the ways to end that only a terminal has."""

import contextlib
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from subterra_testkit.cluster.fake_reader import FakeReader
from subterra_testkit.procedures import branch, shop
from subterra_testkit.servers.fake_chat_server import fake_chat_server

SHOP = shop(branch("sell", "Tea, please."))
PROGRAM = """
import contextlib, signal, sys
from subterra_cli import cluster
signal.signal(signal.SIGINT, signal.default_int_handler)  # a suite in the background hands down that it is ignored
from subterra_cli.main import app
agent, run, procedure, url = eval(sys.argv[1])
objects = {"compiledagents": agent, "compileruns": run, "procedures": procedure}
class Reader:
    def __init__(self, target): self.target = target
    def get(self, plural, name): return objects[plural]
    def secret_value(self, name, key): raise AssertionError("the agent has no API key")
cluster.ResourceReader, cluster.port_forward = Reader, lambda *_: contextlib.nullcontext(url)
app(["chat", "shop"])
"""


def read_until(terminal: int, text: str) -> str:
    said = ""
    while text not in said:
        said += os.read(terminal, 1000).decode()
    return said


def rest_of(terminal: int) -> str:
    """What is left; a terminal whose other side has closed is an error to read from."""
    said = ""
    try:
        while more := os.read(terminal, 1000).decode():
            said += more
    except OSError:
        pass
    return said


def interrupt(process: subprocess.Popen[bytes]) -> None:
    """Ctrl-C once the process waits for an answer, again if it was not noticed: Python misses a signal just before it waits."""
    while Path(f"/proc/{process.pid}/stat").read_text().rpartition(") ")[2][0] != "S":
        time.sleep(0.01)
    while process.poll() is None:
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=5)


@pytest.mark.parametrize("ends", ["\x04", "SIGINT"])
def test_on_a_terminal_every_end_is_polite(ends: str) -> None:
    reader = FakeReader(SHOP)
    with fake_chat_server(SHOP) as (url, _):
        ours, its = pty.openpty()
        objects = repr((reader.agent, reader.run, reader.procedure, url))
        command = [sys.executable, "-c", PROGRAM, objects]
        with subprocess.Popen(command, stdin=its, stdout=its, stderr=its, start_new_session=True) as process:
            os.close(its)
            said = read_until(ours, "you: ")
            os.write(ours, b"Tea, please.\n")
            said += read_until(ours, "you: ")
            if ends == "SIGINT":
                interrupt(process)
            else:
                os.write(ours, ends.encode())
            said += rest_of(ours)
            os.close(ours)
        assert process.returncode == 0
    assert "An empty line, exit or Ctrl-D ends the conversation." in said
    assert "agent: Bye." in said
    assert said.endswith("Goodbye. The agent keeps running.\r\n")
    assert "Traceback" not in said
    assert "Aborted" not in said
