"""How a run asks its judges: call by call, or in batches."""

from typing import Annotated, Literal

from pydantic import Field

from subterra_api.v1alpha1.base import ApiModel


class JudgingSettings(ApiModel):
    """How the judges of an evaluation are asked. It changes the price and the time, not what is asked."""

    mode: Literal["Interactive", "Batch"] = "Interactive"
    """`Batch`: judges and labeller are asked in the providers' batches, at about half the price, and the evaluation waits for them.
    Providers and models without batches are asked call by call. Default: Interactive."""
    wait_minutes: Annotated[int, Field(ge=10, le=1440)] = 120
    """Minutes, counted from the first batch of an attempt, after which batches are canceled and what they did not answer is asked
    call by call. The stage's own `activeDeadlineSeconds` counts too. Default: 120."""


CALL_BY_CALL = JudgingSettings()
"""The default."""
