"""Waits until vLLM has had no request for a while: the hook that the kubelet runs before it ends a serving pod.

Its source is the hook's command, as ``python3 -c SOURCE URL QUIET LIMIT``: where `Drainable` says for how many seconds it
has been idle, and for how many, from now on, it must have been before the hook ends. It gives up after ``LIMIT`` seconds.
"""

import http.client
import sys
import time
import urllib.request

PAUSE_SECONDS = 0.25


def idle_seconds(url: str) -> float:
    """How long there has been no request; 0 when there is no answer, as from a server that is too busy to give one."""
    local = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with local.open(url, timeout=5) as response:
            return float(response.read())
    except (OSError, ValueError, http.client.HTTPException):
        return 0.0


def drain(url: str, quiet: float, limit: float) -> None:
    """Returns once it has been quiet: proxies send requests for a while after the pod has left its Service."""
    began = time.monotonic()
    while (waited := time.monotonic() - began) < limit:
        if min(waited, idle_seconds(url)) >= quiet:
            return
        time.sleep(PAUSE_SECONDS)


if __name__ == "__main__":
    drain(sys.argv[1], float(sys.argv[2]), float(sys.argv[3]))
