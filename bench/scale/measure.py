"""What is measured, from outside: the operator's process, its /metrics, and the API server's audit log."""

import asyncio
import json
import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

QUIET_SECONDS = 5.0
WRITES = ("create", "update", "patch", "delete")
HEARTBEAT = "subterra-operator-heartbeat"


@dataclass
class Operator:
    """The operator as a process of its own, with the default settings but for its port."""

    process: subprocess.Popen[bytes]
    port: int
    started: float

    @classmethod
    def start(cls, directory: Path, kubeconfig: Path, port: int) -> "Operator":
        settings = directory / "settings.yaml"
        settings.write_text(f"port: {port}\n")
        environment = {**os.environ, "KUBECONFIG": str(kubeconfig)}
        started = time.monotonic()
        with (directory / "operator.log").open("ab") as log:
            command = [sys.executable, "-m", "subterra_operator", "--settings", str(settings)]
            process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        return cls(process, port, started)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(30)

    def memory(self) -> tuple[float, float]:
        """Resident MiB, now and at most."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        now, most = (int(re.findall(rf"{name}:\s+(\d+) kB", status)[0]) / 1024 for name in ("VmRSS", "VmHWM"))
        return now, most

    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    async def metrics(self) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
        """All samples by name and labels; empty while it does not answer."""
        try:
            async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{self.port}/metrics") as response:
                text = await response.text()
        except aiohttp.ClientError:
            return {}
        found: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                found.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
        return found

    async def steady(self, resources: int, patience: float = 600) -> float:
        """Seconds from the start until everything had been decided and nothing more was; known after a while of quiet."""
        count, since = 0.0, time.monotonic()
        while time.monotonic() - self.started < patience:
            now = sum((await self.metrics()).get("subterra_reconcile_total", {}).values())
            if now != count:
                count, since = now, time.monotonic()
            if count >= resources and time.monotonic() - since > QUIET_SECONDS:
                return since - self.started
            await asyncio.sleep(0.5)
        raise TimeoutError(f"the operator is not steady after {patience:.0f} s: {count:.0f} decisions; see its log")


def quantile(buckets: Mapping[tuple[tuple[str, str], ...], float], share: float) -> float:
    """A quantile of a histogram of all kinds together, as Prometheus estimates it: straight lines inside of buckets."""
    counts: Counter[float] = Counter()
    for labels, value in buckets.items():
        counts[float(dict(labels)["le"])] += value
    wanted, low, before = share * counts[float("inf")], 0.0, 0.0
    for bound, count in sorted(counts.items()):
        if count >= wanted:
            return low if bound == float("inf") else low + (bound - low) * (wanted - before) / (count - before or 1)
        low, before = bound, count
    return low


@dataclass(frozen=True)
class Requests:
    """What the operator asked of the API server in a stretch of time."""

    verbs: Counter[str]
    writes: Counter[str]
    """Writes but for the heartbeat: verb and resource."""

    @property
    def total(self) -> int:
        return sum(self.verbs.values())


def end(audit: Path) -> int:
    """Where the next line of the log will begin."""
    return audit.stat().st_size


def requests(audit: Path, offset: int) -> Requests:
    """All requests since ``offset`` of the audit log but the API server's own. A watch counts when it begins."""
    verbs: Counter[str] = Counter()
    writes: Counter[str] = Counter()
    with audit.open() as log:
        log.seek(offset)
        for line in log:
            event = json.loads(line)
            verb, target = event["verb"], event.get("objectRef", {})
            if event["user"]["username"].startswith("system:apiserver") or (
                verb == "watch" and event["stage"] != "ResponseStarted"
            ):
                continue
            verbs[verb] += 1
            if verb in WRITES and target.get("name") != HEARTBEAT:
                writes[f"{verb} {target.get('resource')}/{target.get('subresource', '')}"] += 1
    return Requests(verbs, writes)
