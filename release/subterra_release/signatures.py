"""Signatures and attestations by cosign, in the formats that all its versions, Flux, Kyverno and openssl can verify.

The key stays where it is: cosign reads it from a file, a variable or a key service, and its password from a variable. No
transparency log and no certificate authority takes part, so that a release can be signed without access to any service: a signature
shows that the key's owner made it, not when.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from subterra_cluster.config import REPOSITORY
from subterra_cluster.go_programs import ensure
from subterra_release.program_output import output
from subterra_release.release_error import ReleaseError

SOURCES = REPOSITORY / "release/cosign"
PACKAGE = "github.com/sigstore/cosign/v3/cmd/cosign"
PASSWORD = "COSIGN_PASSWORD"  # noqa: S105 - the name of the variable
IN_VARIABLE = "env://"
WITHOUT_LOG = ("--yes", "--tlog-upload=false", "--use-signing-config=false", "--new-bundle-format=false")


def checked_key(key: str, environment: Mapping[str, str]) -> str:
    """``key`` as cosign can use it from any folder: a file's absolute path, ``env://NAME``, or the address in a key service.

    Raises ReleaseError when there is no such key, or no password for it.
    """
    if "://" in key and not key.startswith(IN_VARIABLE):
        return key
    if PASSWORD not in environment:
        raise ReleaseError(f"KEY {key} is given and {PASSWORD} is not set; export it (empty for a key without a password)")
    if key.startswith(IN_VARIABLE):
        if not environment.get(name := key.removeprefix(IN_VARIABLE)):
            raise ReleaseError(f"KEY {key}: the variable {name} is not set; export the private key in it")
        return key
    if not Path(key).is_file():
        raise ReleaseError(f"KEY {key}: there is no such file; make a key with `cosign generate-key-pair`")
    return str(Path(key).absolute())


@dataclass(frozen=True)
class Signer:
    """cosign with a private key."""

    program: Path
    key: str
    plain_http: bool = False

    def public_key(self) -> str:
        """The public key in PEM format. Raises ReleaseError when the password is wrong."""
        return output(self.program, "public-key", "--key", self.key)

    def sign_file(self, file: Path) -> None:
        """Writes ``FILE.sig``: the signature of the file's content, in base64."""
        self._run("sign-blob", "--output-signature", f"{file}.sig", file)

    def attest_files(self, statement: Path, target: Path) -> None:
        """Writes the in-toto statement into ``target`` as a signed DSSE envelope."""
        self._run("attest-blob", "--statement", statement, "--output-signature", target, statement)

    def sign(self, reference: str) -> None:
        """Pushes the signature of an image or a chart, which ``reference`` names by digest, next to it."""
        self._run("sign", *self._registry(), reference)

    def attest(self, reference: str, kind: str, predicate: Path) -> None:
        """Pushes a signed statement about an image or a chart next to it; cosign knows ``kind``, such as cyclonedx."""
        self._run("attest", *self._registry(), "--type", kind, "--predicate", predicate, reference)

    def _registry(self) -> list[str]:
        return ["--allow-http-registry"] if self.plain_http else []

    def _run(self, command: str, *words: str | Path) -> None:
        output(self.program, command, "--key", self.key, *WITHOUT_LOG, *words)


def signer(key: str, cache: Path, environment: Mapping[str, str], *, plain_http: bool) -> Signer:
    """cosign with ``key``, built when needed. Raises ReleaseError before anything is signed when the key cannot be used."""
    usable = checked_key(key, environment)
    result = Signer(ensure(SOURCES, PACKAGE, cache), usable, plain_http)
    result.public_key()
    return result
