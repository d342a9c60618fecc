"""The handlers that kopf calls: events of the watched kinds go to the controller.

Only `on.event`, `on.startup` and `on.login` are used: for any other handler kopf would write finalizers or annotations to our
resources. See docs/contributing/adr/013-kopf-with-a-census.md.
"""

import asyncio
import time
from typing import Any

import kopf

from subterra_api.v1alpha1 import GROUP, VERSION
from subterra_operator.controller import Controller
from subterra_operator.framework.census import Census
from subterra_operator.framework.kopf_settings import configure
from subterra_operator.kube.credentials import CredentialsError, connection_info

REGISTRY = kopf.OperatorRegistry()
CALM_SECONDS = 60.0
"""Logins that are further apart than this are not throttled."""
LAST_LOGIN_PAUSE = 15.0


class Memo:
    """What kopf passes to the handlers of one life."""

    def __init__(self, controller: Controller, census: Census) -> None:
        self.controller, self.census = controller, census
        self.login_pauses = LoginPauses()

    def __copy__(self) -> "Memo":
        """The memo itself: kopf copies it for each object."""
        return self


class LoginPauses:
    """Pauses before logins: none for a first or occasional one, longer ones while the API server keeps refusing."""

    def __init__(self) -> None:
        self._last = -CALM_SECONDS
        self._pause = 0.0

    def next(self, now: float) -> float:
        """Seconds to wait before a login at time ``now``."""
        self._pause = 0.0 if now - self._last >= CALM_SECONDS else min(LAST_LOGIN_PAUSE, max(0.5, self._pause * 2))
        self._last = now + self._pause
        return self._pause


@kopf.on.startup(registry=REGISTRY)
async def set_up(settings: kopf.OperatorSettings, memo: Memo, **_: Any) -> None:
    """Configures kopf for this life."""
    configure(settings, memo.census.watch_begins)


@kopf.on.login(registry=REGISTRY)
async def log_in(memo: Memo, **_: Any) -> kopf.ConnectionInfo:
    """Credentials for kopf's requests. kopf asks for them at once after each 401."""
    await asyncio.sleep(memo.login_pauses.next(time.monotonic()))
    try:
        return await connection_info()
    except CredentialsError as error:
        raise kopf.TemporaryError(str(error), delay=5) from error


@kopf.on.event(GROUP, VERSION, "procedures", registry=REGISTRY)
@kopf.on.event(GROUP, VERSION, "compileruns", registry=REGISTRY)
@kopf.on.event(GROUP, VERSION, "compiledagents", registry=REGISTRY)
@kopf.on.event("batch", "v1", "jobs", registry=REGISTRY)
@kopf.on.event("jobset.x-k8s.io", "v1alpha2", "jobsets", registry=REGISTRY)
@kopf.on.event("ray.io", "v1", "rayjobs", registry=REGISTRY)
@kopf.on.event("apps", "v1", "deployments", registry=REGISTRY)
@kopf.on.event("", "v1", "pods", registry=REGISTRY)
@kopf.on.event("", "v1", "services", registry=REGISTRY)
@kopf.on.event("gateway.networking.k8s.io", "v1", "httproutes", registry=REGISTRY)
@kopf.on.event("inference.networking.k8s.io", "v1", "inferencepools", registry=REGISTRY)
@kopf.on.event("", "v1", "configmaps", registry=REGISTRY)
async def observe(event: kopf.RawEvent, memo: Memo, **_: Any) -> None:
    """Passes an event to the controller: its type is `None` for an object that kopf has listed."""
    memo.controller.handle_event(event["type"], dict(event["object"]))
