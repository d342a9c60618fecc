"""The pods that work on one stage together, and how all but the first wait for that one."""

import logging
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Self

from subterra_api.job_contract.environment import NODE_RANK_VARIABLE, NODES_VARIABLE, RENDEZVOUS_VARIABLE
from subterra_jobs.errors import InvalidInputError

log = logging.getLogger("subterra")
POLL_SECONDS = 1.0
CONNECT_SECONDS = 2.0


@dataclass(frozen=True)
class PodGroup:
    """This pod among those that work together."""

    count: int = 1
    rank: int = 0
    """Which of them this is. The first, 0, holds the stage lease, reports and publishes."""
    host: str = "127.0.0.1"
    """Of the first pod."""
    port: int = 0
    """At which processes of all pods find each other; 0 for any that is free, if the pod is alone."""

    @classmethod
    def parse(cls, variables: Mapping[str, str]) -> Self:
        """Reads the variables that a JobSet's pods have. Raises InvalidInputError that names them and the fix."""
        if not (count := variables.get(NODES_VARIABLE)):
            return cls()
        rank, (host, _, port) = variables.get(NODE_RANK_VARIABLE, ""), variables.get(RENDEZVOUS_VARIABLE, "").rpartition(":")
        if not (count.isdecimal() and rank.isdecimal() and int(rank) < int(count) and host and port.isdecimal()):
            raise InvalidInputError(
                f"{NODES_VARIABLE} is {count!r}, {NODE_RANK_VARIABLE} {rank!r} and {RENDEZVOUS_VARIABLE} "
                f"{variables.get(RENDEZVOUS_VARIABLE, '')!r}; set a number of pods, a number below it, and HOST:PORT"
            )
        return cls(int(count), int(rank), host, int(port))

    @property
    def alone(self) -> bool:
        """Whether there is no other pod."""
        return self.count == 1

    def wait_for_first(self, done: Callable[[], bool], sleep: Callable[[float], None] = time.sleep) -> bool:
        """Waits until the first pod listens, however long that waits for others; `False` as soon as there is nothing left to do."""
        log.info("waiting for node 0 at %s:%d", self.host, self.port)
        while not done():
            if self._first_listens():
                return True
            sleep(POLL_SECONDS)
        return False

    def _first_listens(self) -> bool:
        try:
            socket.create_connection((self.host, self.port), CONNECT_SECONDS).close()
        except OSError:  # not started yet, or its name is not known yet
            return False
        return True


ALONE = PodGroup()
