"""Models go through a real registry (CNCF Distribution) with TLS and a password, with a statement that cosign verifies too."""

import base64
import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.tools import registry
from tests.tools.registry import PASSWORD, USER, Registry

from subterra_api.job_contract.model_transfer import (
    ATTESTATION_FILE,
    EXPORT_VARIABLE,
    PREDICATE_TYPE,
    PULL_VARIABLE,
    ExportRequest,
    ExportResult,
    PullRequest,
)
from subterra_cluster.config import default_cache
from subterra_cluster.go_programs import path_of
from subterra_jobs.store.artifact_store import ArtifactStore
from subterra_jobs.store.registry import pull, push
from subterra_release import signatures
from subterra_testkit.exported_models import FILES, signing_secret, stored_model

WEIGHTS = os.urandom(24 * 1024 * 1024)
"""More than one piece of an upload or download."""


@dataclass(frozen=True)
class Staging:
    """A store with a model, and a registry that it was pushed to by the command that the Job runs."""

    folder: Path
    registry: Registry
    request: ExportRequest
    uri: str
    public_key: str

    def pulled(self, patch: pytest.MonkeyPatch, target: Path, public_key: str | None = None) -> int:
        """Exit code of the command that the init container runs."""
        digest = self.request.provenance.model
        request = PullRequest(uri=self.uri, digest=digest, path="models/x", public_key=public_key or self.public_key)
        patch.setenv(PULL_VARIABLE, request.model_dump_json(by_alias=True))
        patch.setattr(pull, "STORE_MOUNT", str(target))
        patch.setattr(pull, "REGISTRY_MOUNT", str(self.folder / "secret"))
        return pull.main()

    def blob(self, content: bytes) -> Path:
        """The registry's file of a blob with this content."""
        return next(file for file in self.registry.blobs.glob("*/*/data") if file.read_bytes() == content)


@pytest.fixture(scope="module")
def staging(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Staging]:
    program, folder = registry.path_of("registry", default_cache()), tmp_path_factory.mktemp("staging")
    if not program.exists():
        pytest.skip("the registry is not built: make test-tools builds it")
    with registry.serving(program, folder) as running, pytest.MonkeyPatch.context() as patch:
        store, request = stored_model(folder, FILES | {"model.safetensors": WEIGHTS, "deep/er.json": b"{}"})
        request = request.model_copy(update={"to": f"oci://{running.host}/agents/travel:travel-0123abcd", "sign": True})
        secret = folder / "secret"
        secret.mkdir()
        auth = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        (secret / ".dockerconfigjson").write_text(json.dumps({"auths": {running.host: {"auth": auth}}}))
        (secret / "ca.crt").write_bytes(running.authority.read_bytes())
        _, public_key = signing_secret(folder / "key")
        patch.setenv(EXPORT_VARIABLE, request.model_dump_json(by_alias=True, exclude_none=True))
        patch.setenv("SUBTERRA_TERMINATION_LOG", str(folder / "said"))
        for name, value in (("STORE_MOUNT", store.root), ("REGISTRY_MOUNT", secret), ("SIGNING_MOUNT", folder / "key")):
            patch.setattr(push, name, str(value))
        assert push.main() == 0
        result = ExportResult.model_validate_json((folder / "said").read_text())
        yield Staging(folder, running, request, result.uri, public_key)


def test_production_gets_the_very_bytes_from_a_real_registry(
    staging: Staging, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert staging.pulled(monkeypatch, tmp_path) == 0
    assert (tmp_path / "models/x/model.safetensors").read_bytes() == WEIGHTS
    assert (tmp_path / "models/x/deep/er.json").read_bytes() == b"{}"
    assert ArtifactStore(f"file://{tmp_path}").verify("models/x") == staging.request.provenance.model
    assert (tmp_path / ATTESTATION_FILE).exists()
    assert f"{staging.uri} is model {staging.request.provenance.model}: 25 MB in " in capsys.readouterr().out


def test_a_byte_flipped_in_a_real_registry_is_refused(
    staging: Staging, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    blob = staging.blob(WEIGHTS)
    blob.write_bytes(WEIGHTS[:-1] + bytes([WEIGHTS[-1] ^ 1]))
    try:
        assert staging.pulled(monkeypatch, tmp_path) == 14
    finally:
        blob.write_bytes(WEIGHTS)
    assert "the registry sent bytes with digest sha256:" in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "models/x/model.safetensors").exists()


def test_another_key_is_refused_before_the_weights_are_pulled(
    staging: Staging, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _, other = signing_secret(tmp_path / "other")
    assert staging.pulled(monkeypatch, tmp_path / "pod", other) == 10
    assert "is signed with another key" in capsys.readouterr().err
    assert not (tmp_path / "pod").exists()


@pytest.mark.exhaustive
def test_cosigns_own_keys_sign_and_cosign_itself_verifies_the_statement(
    staging: Staging, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cosign = path_of(signatures.SOURCES, default_cache())
    if not cosign.exists():
        pytest.skip("cosign is not built: make test-release builds it")
    variables = {**os.environ, "COSIGN_PASSWORD": "secret", "SSL_CERT_FILE": str(staging.registry.authority), "HOME": str(tmp_path)}
    (tmp_path / "config.json").write_text((staging.folder / "secret/.dockerconfigjson").read_text())
    variables["DOCKER_CONFIG"] = str(tmp_path)
    subprocess.run([cosign, "generate-key-pair"], cwd=tmp_path, env=variables, check=True)
    (tmp_path / "cosign.password").write_text("secret")
    store = ArtifactStore(f"file://{staging.folder / 'store'}")
    request = staging.request.model_copy(update={"to": staging.request.to.replace("travel:", "cosign:")})
    uri = push.push(request, store, staging.folder / "secret", tmp_path).uri
    line = [cosign, "verify-attestation", "--key", tmp_path / "cosign.pub", "--insecure-ignore-tlog=true", "--type", PREDICATE_TYPE]
    done = subprocess.run([*line, uri.removeprefix("oci://")], env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    statement = json.loads(base64.b64decode(json.loads(done.stdout)["payload"]))
    assert statement["predicate"]["run"] == request.provenance.run
