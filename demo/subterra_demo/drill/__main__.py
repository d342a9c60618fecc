"""``python -m subterra_demo.drill``: ten faults on the demo's cluster, each found by its alert and repaired by its runbook."""

import argparse
import json
import os
import platform
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console
from tests.tools import prometheus

from subterra_cli.errors import CommandError
from subterra_demo.drill.callers import calling
from subterra_demo.drill.drill_report import Outcome, document
from subterra_demo.drill.fault_list import Site, faults
from subterra_demo.drill.fire_drill import Drill, DrillError, Watched
from subterra_demo.drill.live_targets import followed, jobs
from subterra_demo.drill.time_scale import TimeScale
from subterra_demo.scraped_cluster import built
from subterra_demo.steps import AGENT, NAMESPACE, RELEASE, ROOT, SYSTEM_NAMESPACE, DemoCluster, StepError, run, tools_on_path

RESULT, PAGES = ROOT / "out/drill.md", ROOT / "out/drill"
FACTOR, INTERVAL = 120.0, 3


def main() -> int:
    """0 if every fault was found, explained and repaired."""
    arguments, console = _arguments(), Console(soft_wrap=True)
    cluster, scale, outcomes = DemoCluster(), TimeScale(arguments.factor, INTERVAL), list[Outcome]()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what is broken is repaired before the drill ends
    tools_on_path()
    try:
        found = faults(site(cluster))
        chosen = [fault for fault in found if fault.name in (arguments.only or [each.name for each in found])]
        with TemporaryDirectory(prefix="drill-") as name, followed(cluster, Path(name)):
            folder = Path(name)
            rules = folder / "rules.yaml"
            rules.write_text(scale.rules(prometheus.RULES.read_text(encoding="utf-8")))
            with prometheus.scraping(built(), folder, jobs(folder), INTERVAL, rules) as url, calling():
                drill = Drill(cluster, Watched(url), console, PAGES)
                drill.await_health()
                for fault in chosen:
                    outcomes.append(drill.run(fault))
                    _write(outcomes, scale)
            for fault in chosen:
                drill.take_pictures(fault)
    except (StepError, CommandError, DrillError, RuntimeError) as error:
        console.print(str(error), markup=False, highlight=False)
        return 1
    for each in outcomes:
        console.print(f"{'✔' if each.passed else '✘'} {each.fault.name}: {each.fault.alert} {each.trouble}", highlight=False)
    console.print(f"{RESULT.relative_to(ROOT)}, pages in {PAGES.relative_to(ROOT)}", highlight=False)
    return 0 if all(each.passed for each in outcomes) else 1


def _write(outcomes: list[Outcome], scale: TimeScale) -> None:
    """The result so far."""
    commit = run(["git", "rev-parse", "--short", "HEAD"], quiet=True).strip()
    machine = f"{os.cpu_count()} cores, {platform.machine()}"
    about = (
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, commit {commit}, {machine}. Times of the rules are divided by {scale.factor:g}, "
        f"scraped and evaluated every {scale.interval} s."
    )
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(document(outcomes, about), encoding="utf-8")


def site(cluster: DemoCluster) -> Site:
    """What there is in the demo's cluster. Raises StepError if its agent does not serve."""
    agent = _read(cluster, f"compiledagent/{AGENT}", NAMESPACE)
    serving = agent.get("status", {}).get("serving")
    if not serving:
        raise StepError("the demo's agent does not serve; run make demo first")
    deployment = _read(cluster, f"deployment/{AGENT}-{serving['version']}", NAMESPACE)
    return Site(
        node=_read(cluster, "nodes", NAMESPACE)["items"][0]["metadata"]["name"],
        operators=_read(cluster, f"deployment/{RELEASE}", SYSTEM_NAMESPACE)["spec"]["replicas"] or 1,
        deployment=deployment["metadata"]["name"],
        template=deployment["spec"]["template"],
        model_path=serving["modelPath"],
        usd_per_hour=agent["spec"]["cost"]["usdPerHour"],
        today=datetime.now(UTC).date(),
    )


def _read(cluster: DemoCluster, what: str, namespace: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run(cluster.kubectl("get", what, "--namespace", namespace, "-o", "json"), quiet=True))
    return found


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make drill", description=str(__doc__).partition(": ")[2])
    parser.add_argument("--factor", type=float, default=FACTOR, help="divides the times of the rules (default: %(default)g)")
    parser.add_argument("--only", nargs="+", metavar="FAULT", help="these faults alone")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
