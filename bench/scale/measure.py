"""Measures the operator from outside: its process, its /metrics, and the API server's audit log."""

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
    """The operator in its own process, with default settings except for the port."""

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
        """Resident memory in MiB, now and at its peak."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        now, peak = (int(re.findall(rf"{name}:\s+(\d+) kB", status)[0]) / 1024 for name in ("VmRSS", "VmHWM"))
        return now, peak

    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    async def metrics(self) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
        """All samples by name and labels; empty while the operator does not respond."""
        try:
            async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{self.port}/metrics") as response:
                text = await response.text()
        except aiohttp.ClientError:
            return {}
        samples: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                samples.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
        return samples

    async def steady(self, resources: int, patience: float = 600) -> float:
        """Seconds from the start to the last decision; returns once `QUIET_SECONDS` pass without another. Raises TimeoutError."""
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
    """The quantile ``share`` of a histogram over all labels, interpolated within buckets as Prometheus does."""
    counts: Counter[float] = Counter()
    for labels, value in buckets.items():
        counts[float(dict(labels)["le"])] += value
    rank, low, before = share * counts[float("inf")], 0.0, 0.0
    for bound, count in sorted(counts.items()):
        if count >= rank:
            return low if bound == float("inf") else low + (bound - low) * (rank - before) / (count - before or 1)
        low, before = bound, count
    return low


@dataclass(frozen=True)
class Requests:
    """The operator's requests to the API server during an interval."""

    verbs: Counter[str]
    writes: Counter[str]
    """Writes other than those of heartbeat and Lease, by verb and resource."""

    @property
    def total(self) -> int:
        return sum(self.verbs.values())


def log_end(audit: Path) -> int:
    """Offset of the next line in the log."""
    return audit.stat().st_size


def requests_since(audit: Path, offset: int) -> Requests:
    """Requests after ``offset`` in the audit log, without the API server's own. A watch counts once, when it starts."""
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
            if verb in WRITES and target.get("name") != HEARTBEAT and target.get("resource") != "leases":
                writes[f"{verb} {target.get('resource')}/{target.get('subresource', '')}"] += 1
    return Requests(verbs, writes)
