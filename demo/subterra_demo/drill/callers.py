"""Customers who call all the time, whatever the agent is like."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from subterra_cli.chat.chat_session import ChatSession
from subterra_cli.cluster import ClusterTarget, port_forward
from subterra_cli.errors import CommandError
from subterra_demo.customers import converse, load_customers
from subterra_demo.steps import AGENT, KUBECONFIG, NAMESPACE

PAUSE_SECONDS = 2.0


@contextmanager
def calling() -> Iterator[None]:
    """Customers call one after the other while the context lasts. When the agent fails them, they try again."""
    ended = threading.Event()

    def call() -> None:
        while not ended.wait(PAUSE_SECONDS):
            try:
                with port_forward(ClusterTarget(NAMESPACE, str(KUBECONFIG), None), AGENT, 8000) as url:
                    _call_until(ended, url)
            except CommandError:  # no pod serves, or it went away during the call
                continue

    threading.Thread(target=call, name="customers", daemon=True).start()
    try:
        yield
    finally:
        ended.set()


def _call_until(ended: threading.Event, url: str) -> None:
    while not ended.is_set():
        for customer in load_customers():
            converse(customer, ChatSession(url, AGENT))
            if ended.wait(PAUSE_SECONDS):
                return
