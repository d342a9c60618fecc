"""The certificate of an agent's judges, as a file whose content goes into the gate's policy."""

from pathlib import Path

import yaml
from pydantic import ValidationError

from subterra_api.digest import sha256
from subterra_api.v1alpha1.judging import JudgeCertificate
from subterra_cli.agents.judge_calibration import Calibration
from subterra_cli.agents.people_scores import ScoredSheet
from subterra_cli.errors import CommandError
from subterra_cli.output.written_file import write_file
from subterra_core.judge_certification.certificate import LEAST_BOUND


class CertificateError(CommandError):
    """There can be no certificate."""


def make_certificate(calibration: Calibration, sheet: ScoredSheet, language: str) -> JudgeCertificate:
    """The certificate of certified judges. Raises CertificateError where the gate would not take it."""
    if not sheet.fingerprints:
        raise CertificateError("a certificate names the judges' fingerprints, which the sheet's key has; pass it with --key")
    found = calibration.deciding.certificate
    if min(found.sensitivity.low, found.specificity.low) < LEAST_BOUND:
        raise CertificateError(f"the gate takes certificates with bounds of {LEAST_BOUND} and more; have more conversations scored")
    try:
        return JudgeCertificate(
            judges=sheet.fingerprints,
            language=language,
            sensitivity=_rounded_down(found.sensitivity.low),
            specificity=_rounded_down(found.specificity.low),
            conversations=calibration.conversations,
            labels=labels_digest(sheet),
        )
    except ValidationError as error:
        raise CertificateError(f"--language or the key is not usable: {error.errors()[0]['msg']}") from None


def with_biases(certificate: JudgeCertificate, file: Path) -> JudgeCertificate:
    """The certificate with what `subterra judge bias` wrote about its judges. Raises CommandError."""
    from subterra_cli.agents.judge_bias_run import read_biases

    return certificate.model_copy(update={"biases": read_biases(file, certificate.judges)})


def labels_digest(sheet: ScoredSheet) -> str:
    """Digest of people's scores, whatever the order of the rows and whoever the judges are."""
    return sha256(sorted((one.id, sorted(one.people.items())) for one in sheet.conversations))


def write_certificate(file: Path, certificate: JudgeCertificate) -> None:
    """Writes the certificate as YAML, in place of an earlier one. Raises CommandError."""
    fields = certificate.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    write_file(file, yaml.safe_dump({"judgeCertificates": [fields]}, sort_keys=False), option="--certificate")


def _rounded_down(bound: float) -> float:
    return int(bound * 10_000) / 10_000
