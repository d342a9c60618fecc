"""A client of one repository in an OCI registry: oras', with streamed uploads, renewed tokens and typed errors."""

import hashlib
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import certifi
import oras.provider
import oras.utils
import requests
from oras.container import Container
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from subterra_jobs.errors import InfrastructureError, InvalidInputError

MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
MANIFEST_LIMIT = 4 * 1024 * 1024
"""Bytes of a manifest, as registries limit them."""
PASSWORD_FILE, AUTHORITY_FILE = ".dockerconfigjson", "ca.crt"
CHUNK = 1024 * 1024
TIMEOUT = (10.0, 300.0)
"""Seconds until a connection is made, and between two pieces of a response."""
RETRIES = Retry(total=4, backoff_factor=1, status_forcelist=(429, 500, 502, 503, 504), allowed_methods=None, raise_on_status=False)


@dataclass(frozen=True)
class Descriptor:
    """A blob in a registry."""

    digest: str
    size: int


def digest_of(content: bytes) -> str:
    """``sha256:<hex>`` of ``content``."""
    return "sha256:" + hashlib.sha256(content).hexdigest()


class Repository(oras.provider.Registry):  # type: ignore[misc]
    """One repository, over TLS. All methods raise InvalidInputError for what a person must correct, else InfrastructureError."""

    def __init__(self, address: str, secret: Path, field: str) -> None:
        """``address`` is `registry/repository`; ``secret`` a folder that may have password and authority.

        ``field`` is where an author named both.
        """
        self._authorities = _authorities(secret / AUTHORITY_FILE)
        super().__init__(tls_verify=self._authorities.name if self._authorities else True)
        self.session.mount("https://", HTTPAdapter(max_retries=RETRIES))
        self.address, self.container, self.field = address, Container(address), field
        self._authorization: Mapping[str, str] = {}
        passwords = secret / PASSWORD_FILE
        self.auth.load_configs(self.container, configs=[str(passwords)] if passwords.is_file() else None)

    def do_request(
        self,
        url: str,
        method: str = "GET",
        data: Any = None,
        headers: Mapping[str, str] | None = None,
        json: Any = None,
        stream: bool = False,
    ) -> requests.Response:
        """The response, once authenticated. oras retries every failure for two minutes, and never renews a token."""
        with self._explained():
            response = self._sent(method, url, data, headers, stream)
            if response.status_code == requests.codes.unauthorized and self._authenticate(response):
                if hasattr(data, "seek"):
                    data.seek(0)
                response = self._sent(method, url, data, headers, stream)
        return response

    def _sent(self, method: str, url: str, data: Any, headers: Mapping[str, str] | None, stream: bool) -> requests.Response:
        every = {**(headers or {}), **self._authorization}
        response: requests.Response = self.session.request(
            method, url, data=data, headers=every, stream=stream, verify=self._tls_verify, timeout=TIMEOUT
        )
        return response

    def _authenticate(self, response: requests.Response) -> bool:
        """Answers the registry's challenge; returns whether there is anything to answer."""
        challenge = response.headers.get("Www-Authenticate", "").lower()
        basic = getattr(self.auth, "_basic_auth", None)
        if challenge.startswith("basic") and basic:
            self._authorization = {"Authorization": f"Basic {basic}"}
            return True
        if not challenge.startswith("bearer") or "realm=" not in challenge:
            return False
        self.auth.token = None
        self._authorization, answered = self.auth.authenticate_request(response, {})
        return bool(answered)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turns what goes wrong on the way into typed errors."""
        try:
            yield
        except requests.exceptions.SSLError as error:
            raise InvalidInputError(
                f"the certificate of registry {self.container.registry} is not trusted ({_reason(error)}); put the certificate of "
                f"its authority into the Secret of {self.field}.registrySecret, as {AUTHORITY_FILE}"
            ) from None
        except requests.exceptions.RequestException as error:
            raise InfrastructureError(
                f"registry {self.container.registry} cannot be reached ({_reason(error)}); check {self.field} and the "
                "NetworkPolicies (networkPolicies.registryCidrs and .ports of the chart)"
            ) from None

    def _checked(self, response: requests.Response, what: str) -> requests.Response:
        """The response if it is a success."""
        code, words = response.status_code, _words(response)
        if response.ok:
            return response
        secret = f"the password in the Secret of {self.field}.registrySecret"
        if code == requests.codes.unauthorized:
            raise InvalidInputError(f"registry {self.container.registry} asks for a password ({words}); correct {secret}")
        if code == requests.codes.forbidden:
            raise InvalidInputError(f"{what}: the account may not do this ({words}); grant it, or correct {secret}")
        if code == requests.codes.not_found:
            raise InvalidInputError(f"{what} does not exist ({words}); correct {self.field}")
        if "DIGEST_INVALID" in words:
            raise InfrastructureError(f"{what} is not as its manifest says; restore it in the store, or compile the model again")
        raise InfrastructureError(f"{what}: the registry failed ({words})")

    def manifest(self, name: str) -> bytes:
        """The manifest with this tag or digest; a digest is verified."""
        what = f"{self.address}{'@' if name.startswith('sha256:') else ':'}{name}"
        url = f"https://{self.container.manifest_url(name)}"
        content = self._checked(self.do_request(url, headers={"Accept": MANIFEST_TYPE}), what).content
        if len(content) > MANIFEST_LIMIT:
            raise InvalidInputError(f"{what}: its manifest has {len(content):,} bytes, which no registry should accept")
        if name.startswith("sha256:") and (found := digest_of(content)) != name:
            raise InfrastructureError(f"{what}: the registry sent a manifest with digest {found}; it was changed, push it again")
        return content

    def put_manifest(self, name: str, content: bytes) -> None:
        """Stores a manifest under a tag."""
        url = f"https://{self.container.manifest_url(name)}"
        response = self.do_request(url, "PUT", data=content, headers={"Content-Type": MANIFEST_TYPE})
        self._checked(response, f"{self.address}:{name}")

    def put_file(self, file: Path, digest: str) -> Descriptor:
        """Uploads a file, unless the repository has it."""
        described = Descriptor(digest, file.stat().st_size)
        self._checked(self.upload_blob(str(file), self.container, {"digest": digest, "size": described.size}), str(file))
        return described

    def put_bytes(self, content: bytes) -> Descriptor:
        """Uploads a small blob, unless the repository has it."""
        with tempfile.NamedTemporaryFile() as file:
            file.write(content)
            file.flush()
            return self.put_file(Path(file.name), digest_of(content))

    def put_upload(self, blob: str, container: Container, layer: Mapping[str, Any]) -> requests.Response:
        """Uploads a file as a stream; oras reads all of it into memory."""
        begun = self._checked(self.do_request(f"https://{container.upload_blob_url()}", "POST"), self.address)
        url = oras.utils.append_url_params(self._get_location(begun, container), {"digest": layer["digest"]})
        with Path(blob).open("rb") as file:
            data = file if layer["size"] else b""
            return self.do_request(url, "PUT", data=data, headers={"Content-Type": "application/octet-stream"})

    def get_file(self, blob: Descriptor, target: Path) -> None:
        """Downloads a blob into a file that exists only once its bytes are those of the digest."""
        partial, found = target.with_name(target.name + ".part"), hashlib.sha256()
        what = f"{self.address}@{blob.digest}"
        target.parent.mkdir(parents=True, exist_ok=True)
        response = self._checked(self.get_blob(self.container, blob.digest, stream=True), what)
        with self._explained(), partial.open("wb") as file:
            for chunk in response.iter_content(CHUNK):
                found.update(chunk)
                file.write(chunk)
        if (actual := f"sha256:{found.hexdigest()}") != blob.digest:
            partial.unlink()
            raise InfrastructureError(
                f"{what}: the registry sent bytes with digest {actual}; the blob is damaged, push the model again"
            )
        partial.rename(target)

    def get_bytes(self, blob: Descriptor) -> bytes:
        """A small blob."""
        with tempfile.TemporaryDirectory() as folder:
            self.get_file(blob, file := Path(folder, "blob"))
            return file.read_bytes()


def _authorities(own: Path) -> "tempfile._TemporaryFileWrapper[bytes] | None":
    """A file with the usual authorities and an own one; `None` without one."""
    if not own.is_file():
        return None
    usual = Path(os.environ.get("SSL_CERT_FILE") or certifi.where())
    file = tempfile.NamedTemporaryFile(suffix=".crt")  # noqa: SIM115 - lives as long as the client
    file.write(usual.read_bytes() + b"\n" + own.read_bytes())
    file.flush()
    return file


def _reason(error: Exception) -> str:
    """The innermost words of an error."""
    inner = getattr(error.args[0], "reason", error.args[0]) if error.args else error
    return str(inner).rpartition("> ")[2].rpartition(">: ")[2][:200]


def _words(response: requests.Response) -> str:
    """Status and the registry's own words."""
    words = f"{response.status_code} {response.reason}"
    if response.ok:
        return words
    try:
        first = response.json()["errors"][0]
        return f"{words}: {first['code']}: {str(first.get('message', ''))[:200]}"
    except (ValueError, LookupError, TypeError):
        return words
