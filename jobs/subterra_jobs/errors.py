"""Ways a stage can fail, each with the exit code that tells the operator what to do."""

from subterra_api.job_contract.messages import ExitCode


class StageError(Exception):
    """A failure that the author of the run can understand. The message says what is wrong and what to do."""

    code = ExitCode.INTERNAL


class InvalidInputError(StageError):
    """The procedure or a setting cannot work; never retried."""

    code = ExitCode.INVALID_INPUT


class BudgetExceededError(StageError):
    """Going on could cost more than the run may spend."""

    code = ExitCode.BUDGET_EXCEEDED


class ProviderBlockedError(StageError):
    """The provider refuses: key, credit or spend limit."""

    code = ExitCode.PROVIDER_BLOCKED


class ProviderUnavailableError(StageError):
    """The provider does not answer for long; worth another attempt."""

    code = ExitCode.PROVIDER_UNAVAILABLE


class InfrastructureError(StageError):
    """Disk, memory, store or a sidecar failed; worth another attempt."""

    code = ExitCode.INFRASTRUCTURE
