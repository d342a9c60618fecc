"""The operator as a process of its own, kept alive as kubelet would: it starts again when it ends or when its liveness fails.

Each is forked from a process that has imported the operator already: hundreds are started, and importing takes a second or two.
"""

import asyncio
import multiprocessing
import os
import signal
import sys
from contextlib import suppress
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import aiohttp
import yaml

from subterra_testkit.servers.local_server import free_port

PROBE_SECONDS = 1.0
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["__main__", "subterra_operator.main"])


class OperatorProcess:
    """``python -m subterra_operator`` with settings for one namespace, as the container of one pod: restarts keep its name."""

    def __init__(self, folder: Path, namespace: str) -> None:
        folder.mkdir(parents=True)
        self.kubeconfig, self.settings, self.log = (folder / name for name in ("kubeconfig", "settings.yaml", "operator.log"))
        self.port = free_port()
        self.pod = f"{folder.name}-{self.port}"
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
        await self.end(signal.SIGKILL)

    async def end(self, number: signal.Signals) -> None:
        """Ends it for good, as when its pod is deleted (SIGTERM) or its node is lost (SIGKILL)."""
        self._keeper.cancel()
        with suppress(asyncio.CancelledError):
            await self._keeper
        if not self._ended.is_set():
            os.kill(self._process.pid or 0, number)
        await self._ended.wait()

    def kill(self) -> None:
        """Ends it without a word."""
        self._process.kill()

    @property
    def frozen(self) -> bool:
        return not self._going.is_set()

    def stop(self) -> None:
        """Stops it as it stands."""
        self._going.clear()
        os.kill(self._process.pid or 0, signal.SIGSTOP)

    async def freeze(self) -> None:
        """Stops it as it stands, and waits until it goes on."""
        self.stop()
        await self._going.wait()

    def go_on(self) -> None:
        """Lets a stopped operator go on."""
        os.kill(self._process.pid or 0, signal.SIGCONT)
        self._going.set()

    def _start(self) -> None:
        arguments = (self.settings, self.kubeconfig, self.log, self.pod)
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

    async def metric(self, name: str) -> float | None:
        """A sample without labels, or `None` while it does not answer."""
        _, text = await self._ask("metrics")
        samples = dict(line.rsplit(" ", 1) for line in text.splitlines() if line[:1] != "#")
        return float(samples[name]) if name in samples else None

    async def answers(self, path: str) -> int:
        """The status of an answer, 0 for none."""
        return (await self._ask(path))[0]

    async def _ask(self, path: str) -> tuple[int, str]:
        timeout, url = aiohttp.ClientTimeout(total=2), f"http://127.0.0.1:{self.port}/{path}"
        with suppress(aiohttp.ClientError, TimeoutError):
            async with aiohttp.ClientSession(timeout=timeout) as session, session.get(url) as answer:
                return answer.status, await answer.text()
        return 0, ""

    async def leads(self) -> bool:
        """Whether it says that it may write."""
        return not self.frozen and await self.metric("subterra_leader") == 1


def _operate(settings: Path, kubeconfig: Path, log: Path, pod: str) -> None:
    """What the new process does: what ``python -m subterra_operator`` does, with its words in a file."""
    from subterra_operator.main import main

    with log.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.environ |= {"KUBECONFIG": str(kubeconfig), "POD_NAME": pod}
    sys.argv = ["subterra_operator", "--settings", str(settings)]
    main()
