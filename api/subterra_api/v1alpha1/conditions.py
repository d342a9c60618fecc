"""Condition types and reasons, and the function that sets a condition."""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum

from subterra_api.v1alpha1.base import Condition


class Type(StrEnum):
    """Condition types of all resource kinds."""

    ACCEPTED = "Accepted"
    READY = "Ready"
    UP_TO_DATE = "UpToDate"
    RECONCILING = "Reconciling"
    STALLED = "Stalled"
    SUCCEEDED = "Succeeded"
    GENERATED = "Generated"
    TRAINED = "Trained"
    EVALUATED = "Evaluated"
    PROMOTABLE = "Promotable"
    MODEL_RETIREMENT = "ModelRetirement"
    DRIFTING = "Drifting"
    REEVALUATED = "Reevaluated"
    EXPORTED = "Exported"
    INFERENCE_POOL_READY = "InferencePoolReady"


class Reason(StrEnum):
    """Reasons for a condition's status."""

    VALID = "Valid"
    INVALID_PROCEDURE = "InvalidProcedure"
    TOO_LARGE = "TooLarge"
    INVALID_SPEC = "InvalidSpec"
    NAME_TAKEN = "NameTaken"
    REFUSED = "Refused"
    QUOTA_EXCEEDED = "QuotaExceeded"
    ADMISSION_DENIED = "AdmissionDenied"
    PROCEDURE_NOT_FOUND = "ProcedureNotFound"
    PROCEDURE_CHANGED = "ProcedureChanged"
    RUN_NOT_FOUND = "RunNotFound"
    PENDING = "Pending"
    AWAITING_TRIGGER = "AwaitingTrigger"
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    SUSPENDED = "Suspended"
    SUPERSEDED = "Superseded"
    INVALID_INPUT = "InvalidInput"
    BUDGET_EXCEEDED = "BudgetExceeded"
    PROVIDER_BLOCKED = "ProviderBlocked"
    PROVIDER_UNAVAILABLE = "ProviderUnavailable"
    INFRASTRUCTURE = "Infrastructure"
    DISRUPTED = "Disrupted"
    INTERNAL_ERROR = "InternalError"
    DEADLINE_EXCEEDED = "DeadlineExceeded"
    SCHEDULING_DEADLINE_EXCEEDED = "SchedulingDeadlineExceeded"
    OUT_OF_MEMORY = "OutOfMemory"
    QUEUED = "Queued"
    JOB_SUSPENDED = "JobSuspended"
    POD_PENDING = "PodPending"
    UNSCHEDULABLE = "Unschedulable"
    IMAGE_PULL_FAILED = "ImagePullFailed"
    MISSING_SECRET = "MissingSecret"  # noqa: S105 - a reason, not a secret
    CONTAINER_CONFIG_ERROR = "ContainerConfigError"
    VOLUME_MOUNT_FAILED = "VolumeMountFailed"
    INIT_FAILED = "InitFailed"
    CONTAINER_RESTARTING = "ContainerRestarting"
    GATE_PASSED = "GatePassed"
    GATE_FAILED = "GateFailed"
    GATE_INCONCLUSIVE = "GateInconclusive"
    COMPILING = "Compiling"
    COMPILE_FAILED = "CompileFailed"
    STARTING = "Starting"
    SERVING = "Serving"
    NOT_SERVING = "NotServing"
    SERVING_FAILED = "ServingFailed"
    CANARY = "Canary"
    CANARY_BLOCKED = "CanaryBlocked"
    CANARY_ABORTED = "CanaryAborted"
    AWAITING_APPROVAL = "AwaitingApproval"
    SCALED_TO_ZERO = "ScaledToZero"
    DRIFTED = "Drifted"
    PINNED = "Pinned"
    UP_TO_DATE = "UpToDate"
    MODEL_RETIRES_SOON = "ModelRetiresSoon"
    MODEL_RETIRED = "ModelRetired"
    CONFORMANCE_DROPPED = "ConformanceDropped"
    WORDS_UNRECOGNIZED = "WordsUnrecognized"
    REEVALUATING = "Reevaluating"
    REEVALUATION_REFUSED = "ReevaluationRefused"
    VERDICT_CONFIRMED = "VerdictConfirmed"
    VERDICT_WORSENED = "VerdictWorsened"
    VERDICT_UNCERTAIN = "VerdictUncertain"
    EXPORTED = "Exported"
    EXPORTING = "Exporting"
    EXPORT_FAILED = "ExportFailed"
    NOTHING_TO_EXPORT = "NothingToExport"
    INFERENCE_POOL_READY = "InferencePoolReady"
    INFERENCE_POOL_BLOCKED = "InferencePoolBlocked"
    UNKNOWN = "Unknown"

    @classmethod
    def _missing_(cls, value: object) -> "Reason":
        """`UNKNOWN` for what a later release may have recorded, so that going back to this one is possible."""
        return cls.UNKNOWN


POD_REASONS = frozenset(
    {
        Reason.DISRUPTED,
        Reason.QUEUED,
        Reason.JOB_SUSPENDED,
        Reason.POD_PENDING,
        Reason.QUOTA_EXCEEDED,
        Reason.ADMISSION_DENIED,
        Reason.UNSCHEDULABLE,
        Reason.IMAGE_PULL_FAILED,
        Reason.MISSING_SECRET,
        Reason.CONTAINER_CONFIG_ERROR,
        Reason.VOLUME_MOUNT_FAILED,
        Reason.INIT_FAILED,
        Reason.CONTAINER_RESTARTING,
        Reason.OUT_OF_MEMORY,
    }
)
"""Why a pod does not run, or not yet. Work continues by itself once the cause is gone, so none of these is final while it lasts."""

REFUSALS = frozenset({Reason.REFUSED, Reason.QUOTA_EXCEEDED, Reason.NAME_TAKEN, Reason.ADMISSION_DENIED})
"""The API server refuses to write an object; the write is retried until it succeeds."""


def timestamp(now: datetime) -> str:
    """`now` (UTC) in Kubernetes' time format, to the second."""
    return now.strftime("%Y-%m-%dT%H:%M:%SZ")


def make_condition(
    kind: Type,
    status: bool | None,
    reason: Reason,
    message: str,
    *,
    previous: Sequence[Condition],
    generation: int,
    now: datetime,
) -> Condition:
    """A condition whose transition time changes only when its status does; `None` means Unknown."""
    word = {True: "True", False: "False", None: "Unknown"}[status]
    before = next((c for c in previous if c.type == kind), None)
    since = before.last_transition_time if before and before.status == word else timestamp(now)
    return Condition(
        type=kind, status=word, reason=reason, message=message, last_transition_time=since, observed_generation=generation
    )
