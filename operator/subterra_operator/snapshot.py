"""What a decision is based on: one resource with everything that belongs to it, at one moment. Frozen."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from subterra_api.job_contract.messages import PodPrice, Progress, ServedWork
from subterra_api.v1alpha1.conditions import Reason
from subterra_operator.labels import VERSION_LABEL
from subterra_operator.resources import Key

Observed = Mapping[str, Any]
"""A trimmed copy of a Kubernetes object."""


@dataclass(frozen=True)
class Warned:
    """An Event of type Warning that the cluster recorded about an object."""

    reason: str
    message: str


Events = Mapping[Key, tuple[Warned, ...]]
"""Warnings by the object they are about, newest first; only of objects about which a decision asked."""


@dataclass(frozen=True)
class QueuedWorkload:
    """What Kueue says about a Job, JobSet or RayJob with a queue."""

    installed: bool = True
    """Whether the cluster has Kueue."""
    name: str = ""
    """Name of the Workload that stands for it in the queue; empty before Kueue has made one."""
    api_version: str = ""
    active: bool = True
    """Whether Kueue may admit it."""
    words: str = ""
    """Why it is not admitted, in Kueue's words."""


@dataclass(frozen=True)
class Refusal:
    """Why the API server refused a write of the decision before this one, and what to do about it."""

    reason: Reason
    message: str
    of_deletion: bool = False
    """Whether everything was written, and what is no longer wanted could not be deleted."""


@dataclass(frozen=True)
class ProcedureSnapshot:
    """A Procedure, and those that it calls, over others or at once, by name."""

    procedure: Observed
    called: Mapping[str, Observed] = field(default_factory=dict)

    @property
    def subject(self) -> Observed:
        """What is decided on."""
        return self.procedure


@dataclass(frozen=True)
class RunSnapshot:
    """A CompileRun and the objects it owns. ``progress`` is by pod name.

    As long as its input is not frozen, ``procedure`` is its procedure as it is now, and ``called`` has those that it calls.
    ``input`` is that of the run whose model is evaluated, if it is another one.
    """

    run: Observed
    procedure: Observed | None = None
    input: Observed | None = None
    jobs: tuple[Observed, ...] = ()
    """Jobs, JobSets and RayJobs."""
    pods: tuple[Observed, ...] = ()
    progress: Mapping[str, Progress] = field(default_factory=dict)
    events: Events = field(default_factory=dict)
    workloads: Mapping[str, QueuedWorkload] = field(default_factory=dict)
    """By UID of the Job; only of Jobs about which a decision asked."""
    refusal: Refusal | None = None
    """Set when the API server has just refused a write: only the status is wanted then, as if nothing had been written."""
    members: tuple[Observed, ...] = ()
    """The Jobs of the JobSets."""
    job_sets: bool = True
    """Whether the cluster has JobSets at all."""
    ray_jobs: bool = True
    """The same of RayJobs."""
    called: Mapping[str, Observed] = field(default_factory=dict)

    @property
    def subject(self) -> Observed:
        """What is decided on."""
        return self.run


@dataclass(frozen=True)
class AgentSnapshot:
    """A CompiledAgent, its procedure, and the objects the agent owns. ``prices`` are those of the pods with traffic."""

    agent: Observed
    procedure: Observed | None = None
    runs: tuple[Observed, ...] = ()
    """Runs that compile."""
    reevaluations: tuple[Observed, ...] = ()
    """Runs that evaluate again the model of one of those."""
    deployments: tuple[Observed, ...] = ()
    service: Observed | None = None
    canary_service: Observed | None = None
    route: Observed | None = None
    """The HTTPRoute."""
    other_route: Observed | None = None
    """Another agent's HTTPRoute that names a Service of this agent's name as its canary's, while there is no such Service."""
    http_routes: bool = True
    """Whether the cluster has HTTPRoutes at all."""
    inference_pool: Observed | None = None
    inference_pools: bool = True
    """Whether the cluster has InferencePools at all."""
    work: Mapping[str, ServedWork] = field(default_factory=dict)
    """What the pods of each version did; only of an agent with a canary."""
    pods: tuple[Observed, ...] = ()
    prices: tuple[PodPrice, ...] = ()
    exports: tuple[Observed, ...] = ()
    """Jobs that push models to a registry."""
    export_pods: tuple[Observed, ...] = ()
    events: Events = field(default_factory=dict)
    refusal: Refusal | None = None

    @property
    def subject(self) -> Observed:
        """What is decided on."""
        return self.agent

    @property
    def active_version(self) -> str | None:
        """The version that the Service sends traffic to."""
        return self.service["spec"].get("selector", {}).get(VERSION_LABEL) if self.service else None

    def run(self, name: str | None) -> Observed | None:
        """The agent's run of that name."""
        return next((run for run in self.runs if run["metadata"]["name"] == name), None)


Snapshot = ProcedureSnapshot | RunSnapshot | AgentSnapshot
