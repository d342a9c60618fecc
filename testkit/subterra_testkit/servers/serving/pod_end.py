"""How the kubelet ends a container: its hook, then SIGTERM, and SIGKILL when the grace period is over."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence


async def end_container(process: "subprocess.Popen[bytes]", hook: Sequence[str], grace: float) -> float:
    """Runs the hook and ends the process, which leads its own session; returns how many seconds it took."""
    began = time.monotonic()
    running = await asyncio.create_subprocess_exec(sys.executable, *hook[1:])
    try:
        await asyncio.wait_for(running.wait(), grace)
    except TimeoutError:
        running.kill()
    process.send_signal(signal.SIGTERM)
    try:
        await asyncio.to_thread(process.wait, max(0.0, began + grace - time.monotonic()))
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)
    return time.monotonic() - began
