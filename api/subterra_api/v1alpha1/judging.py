"""How a run asks its judges, and what `subterra judge calibrate` found out about them."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from subterra_api.v1alpha1.base import ApiModel, Digest

JudgeFingerprint = Annotated[str, StringConstraints(pattern=r"^[0-9A-Za-z._-]+$", max_length=64)]
Language = Annotated[str, StringConstraints(pattern=r"^[a-z]{2,3}(-[A-Za-z0-9]{2,8})*$", max_length=35)]
BiasKind = Literal["repetition", "order", "verbosity", "formatting", "ownName", "otherName"]


class JudgeBias(ApiModel):
    """How the sum of one judge's scores moved when conversations were changed in a way that should not matter."""

    judge: JudgeFingerprint
    """The judge."""
    kind: BiasKind
    """`repetition`: nothing changed, for comparison. `order`: the rubric's criteria in reverse order. `verbosity`: polite sentences
    without content added. `formatting`: Markdown added. `otherName`: the agent names a model that is not the judge's. `ownName`: it
    names the judge's model instead of that one."""
    higher: Annotated[int, Field(ge=0, le=100000)]
    """Number of conversations with a higher score than before."""
    lower: Annotated[int, Field(ge=0, le=100000)]
    """Number of conversations with a lower score than before."""
    of: Annotated[int, Field(ge=0, le=100000)]
    """Number of conversations that were scored both ways."""


class JudgeCertificate(ApiModel):
    """The judges of an evaluation compared with people. It holds for these judges and this language, and its labels count once."""

    judges: Annotated[tuple[JudgeFingerprint, ...], Field(min_length=1, max_length=2)]
    """Fingerprints of all judges of the evaluation, which cover model, rubric and sampling: with another, it no longer holds."""
    language: Language
    """Language of the conversations that people scored, as a BCP 47 tag such as `en`."""
    sensitivity: Annotated[float, Field(ge=0, le=1)]
    """Lower bound of the share of people's failures that the judges find."""
    specificity: Annotated[float, Field(ge=0, le=1)]
    """Lower bound of the share of the other conversations that they leave alone."""
    conversations: Annotated[int, Field(ge=1, le=100000)]
    """Number of conversations that people scored."""
    labels: Digest
    """Digest of people's scores: who chooses among judges by them needs others to certify the chosen one."""
    biases: Annotated[tuple[JudgeBias, ...], Field(max_length=12)] = ()
    """How far scores move without a reason, as `subterra judge bias` counted; for people, the gate does not decide by it."""


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
