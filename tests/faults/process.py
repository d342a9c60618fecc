"""The operator as a process of its own, kept alive as kubelet would: it starts again when it ends or when its liveness fails.

Each is forked from a process that has imported the operator already: hundreds are started, and importing takes a second or two.
"""

import asyncio
import multiprocessing
import os
import signal
import socket
import sys
from contextlib import suppress
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import aiohttp
import yaml

PROBE_SECONDS = 1.0
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["__main__", "subterra_operator.main"])


class OperatorProcess:
    """``python -m subterra_operator`` with settings for one namespace."""

    def __init__(self, folder: Path, namespace: str) -> None:
        folder.mkdir(parents=True)
        self.kubeconfig, self.settings, self.log = (folder / name for name in ("kubeconfig", "settings.yaml", "operator.log"))
        self.port = _free_port()
        settings = {"watchNamespaces": [namespace], "namespace": namespace, "port": self.port, "workers": 2}
        self.settings.write_text(yaml.safe_dump(settings))
        self.starts = self.unhealthy = 0
        """How often it was started, and how often its liveness failed."""
        self._going = asyncio.Event()
        self._going.set()

    async def __aenter__(self) -> "OperatorProcess":
        self._start()
        self._keeper = asyncio.create_task(self._keep())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._keeper.cancel()
        with suppress(asyncio.CancelledError):
            await self._keeper
        self.kill()
        await self._ended.wait()

    def kill(self) -> None:
        """Ends it without a word."""
        self._process.kill()

    @property
    def frozen(self) -> bool:
        return not self._going.is_set()

    async def freeze(self) -> None:
        """Stops it as it stands, and waits until it goes on."""
        self._going.clear()
        os.kill(self._process.pid or 0, signal.SIGSTOP)
        await self._going.wait()

    def go_on(self) -> None:
        """Lets a stopped operator go on."""
        os.kill(self._process.pid or 0, signal.SIGCONT)
        self._going.set()

    def _start(self) -> None:
        arguments = (self.settings, self.kubeconfig, self.log)
        self._process: ForkServerProcess = CONTEXT.Process(target=_operate, args=arguments, daemon=True)
        self._process.start()
        self._ended = asyncio.Event()
        asyncio.get_running_loop().add_reader(self._process.sentinel, self._end)
        self.starts += 1

    def _end(self) -> None:
        asyncio.get_running_loop().remove_reader(self._process.sentinel)
        self._ended.set()

    async def _keep(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(PROBE_SECONDS):
                    await self._ended.wait()
            if not self._ended.is_set():
                if self.frozen or await self._healthy():
                    continue
                self.unhealthy += 1
                self.kill()
                await self._ended.wait()
            self._start()

    async def _healthy(self) -> bool:
        """What kubelet's probe would hear; an operator that does not listen yet is given time."""
        timeout = aiohttp.ClientTimeout(total=5)
        with suppress(aiohttp.ClientError, TimeoutError):
            url = f"http://127.0.0.1:{self.port}/healthz"
            async with aiohttp.ClientSession(timeout=timeout) as session, session.get(url) as answer:
                return answer.status != 503
        return True


def _operate(settings: Path, kubeconfig: Path, log: Path) -> None:
    """What the new process does: what ``python -m subterra_operator`` does, with its words in a file."""
    from subterra_operator.main import main

    with log.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.environ["KUBECONFIG"] = str(kubeconfig)
    sys.argv = ["subterra_operator", "--settings", str(settings)]
    main()


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port
