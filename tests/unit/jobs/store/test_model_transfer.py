"""Models go to a registry and come back as the same bytes, or not at all."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from subterra_api.job_contract.model_transfer import ATTESTATION_FILE, ExportRequest, PullRequest
from subterra_api.v1alpha1.scores import Verdict
from subterra_jobs.errors import InfrastructureError, InvalidInputError, StageError
from subterra_jobs.store.artifact_store import ArtifactStore
from subterra_jobs.store.registry import attestation, oci_repository, pull, push
from subterra_jobs.store.registry.statement import unverified
from subterra_testkit.exported_models import FILES, MODEL, signing_secret, stored_model
from subterra_testkit.servers.fake_registry import FakeRegistry, serving


class Transfer:
    """A registry, a store with a model, and a folder that a pod of production would pull into."""

    def __init__(self, folder: Path, registry: FakeRegistry) -> None:
        self.folder, self.registry = folder, registry
        self.store, request = stored_model(folder)
        self.secret, self.target = registry.secret(folder / "secret"), folder / "pod"
        self.key, self.public_key = signing_secret(folder / "key")
        self.request = request.model_copy(update={"to": f"oci://{registry.host}/agents/travel:1"})

    def pushed(self, sign: bool = True, **provenance: Any) -> str:
        """The artifact that the model becomes."""
        said = self.request.provenance.model_copy(update=provenance)
        request = self.request.model_copy(update={"sign": sign, "provenance": said})
        return push.push(request, self.store, self.secret, self.key).uri

    def pulled(self, uri: str, public_key: str | None = None, **fields: Any) -> Path:
        """The folder with the model."""
        secret = fields.pop("secret", self.secret)
        wanted = {"uri": uri, "digest": self.request.provenance.model, "path": "models/x", "public_key": public_key}
        pull.pull(PullRequest(**{**wanted, **fields}), self.target, secret)
        return self.target / "models/x"


@pytest.fixture
def transfer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Transfer]:
    monkeypatch.setattr(oci_repository, "RETRIES", oci_repository.RETRIES.new(total=1, backoff_factor=0))
    with serving(tmp_path) as registry:
        yield Transfer(tmp_path, registry)


def test_a_model_comes_back_from_a_registry_as_the_very_bytes_that_were_judged(transfer: Transfer) -> None:
    folder = transfer.pulled(transfer.pushed(), transfer.public_key)
    assert {name: (folder / name).read_bytes() for name in FILES} == FILES
    assert ArtifactStore(f"file://{transfer.target}").digest("models/x") == transfer.request.provenance.model
    said = unverified((transfer.target / ATTESTATION_FILE).read_bytes(), transfer.pushed().partition("@")[2])
    assert said == transfer.request.provenance


def test_the_artifact_has_the_layout_of_model_pack(transfer: Transfer) -> None:
    digest = transfer.pushed().partition("@")[2]
    manifest = json.loads(transfer.registry.manifests[digest])
    assert transfer.registry.manifests["1"] == transfer.registry.manifests[digest]
    assert manifest["artifactType"] == "application/vnd.cncf.model.manifest.v1+json"
    assert manifest["config"]["mediaType"] == "application/vnd.cncf.model.config.v1+json"
    kinds = {layer["annotations"]["org.cncf.model.filepath"]: layer["mediaType"] for layer in manifest["layers"]}
    assert kinds == {
        "README.md": "application/vnd.cncf.model.doc.v1.raw",
        "chat_template.jinja": "application/vnd.cncf.model.weight.config.v1.raw",
        "config.json": "application/vnd.cncf.model.weight.config.v1.raw",
        "manifest.json": "application/vnd.cncf.model.weight.config.v1.raw",
        "model.safetensors": "application/vnd.cncf.model.weight.v1.raw",
    }
    config = json.loads(transfer.registry.blobs[manifest["config"]["digest"]])
    assert config["descriptor"] == {"name": "travel", "version": "travel-0123abcd"}
    assert config["modelfs"] == {"type": "layers", "diffIds": [layer["digest"] for layer in manifest["layers"]]}


def test_pushing_again_makes_the_same_artifact_and_uploads_no_file_again(transfer: Transfer) -> None:
    first, files = transfer.pushed(sign=False), transfer.registry.uploads
    assert files == len(FILES) + 4  # two manifests' configurations, the model's manifest and the statement
    assert transfer.pushed(sign=False) == first
    assert transfer.registry.uploads == files


def test_a_registry_whose_tokens_expire_at_once_is_asked_for_new_ones(transfer: Transfer) -> None:
    transfer.registry.tokens = True
    assert (transfer.pulled(transfer.pushed()) / "model.safetensors").read_bytes() == FILES["model.safetensors"]


def flip(transfer: Transfer, digest: str) -> None:
    content = bytearray(transfer.registry.blobs[digest])
    content[-1] ^= 1
    transfer.registry.blobs[digest] = bytes(content)


def blob(transfer: Transfer, uri: str, path: str) -> str:
    layers = json.loads(transfer.registry.manifests[uri.partition("@")[2]])["layers"]
    return next(str(layer["digest"]) for layer in layers if layer["annotations"]["org.cncf.model.filepath"] == path)


def test_a_flipped_byte_in_the_registry_is_refused_and_no_file_is_left(transfer: Transfer) -> None:
    uri = transfer.pushed()
    flip(transfer, blob(transfer, uri, "model.safetensors"))
    with pytest.raises(InfrastructureError, match=r"the registry sent bytes with digest sha256:.*push the model again"):
        transfer.pulled(uri)
    assert not (transfer.target / "models/x/model.safetensors").exists()


def test_what_an_earlier_attempt_pulled_is_not_pulled_again(transfer: Transfer) -> None:
    uri = transfer.pushed()
    weights = blob(transfer, uri, "model.safetensors")
    kept = transfer.registry.blobs.pop(weights)
    with pytest.raises(StageError):
        transfer.pulled(uri)
    transfer.registry.blobs[weights] = kept
    transfer.registry.requests.clear()
    transfer.pulled(uri)
    assert not any(blob(transfer, uri, "config.json") in request for request in transfer.registry.requests)


def changed_manifest(transfer: Transfer) -> str:
    uri = transfer.pushed()
    transfer.registry.manifests[uri.partition("@")[2]] += b" "
    return uri


def forged(transfer: Transfer) -> str:
    """The statement of another model that passed, under the tag of one that did not."""
    good = transfer.pushed().partition("@")[2]
    (transfer.folder / "models/config.json").write_text("{}")
    transfer.store.remove(f"{MODEL}/manifest.json")
    digest = transfer.store.publish(MODEL, transfer.folder / "models", {"stage": "train"})
    transfer.request = transfer.request.model_copy(
        update={"provenance": transfer.request.provenance.model_copy(update={"model": digest})}
    )
    bad = transfer.pushed()
    manifests = transfer.registry.manifests
    manifests[attestation.tag_of(bad.partition("@")[2])] = manifests[attestation.tag_of(good)]
    return bad


FAIL = Verdict(result="Fail", reasons=("conformant 40 %, floor 90 %",))
ATTACKS: dict[str, tuple[Any, str]] = {
    "unsigned": (lambda t: t.pushed(sign=False), "the attestation is not signed; set promotion.export.signingSecret"),
    "rejected": (lambda t: t.pushed(verdict=FAIL), r"did not pass the gate \(Fail: conformant 40 %"),
    "of another artifact": (forged, "is about another artifact than sha256:"),
    "changed": (changed_manifest, "the registry sent a manifest with digest sha256:.* push it again"),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_policy_refuses_what_nobody_with_the_key_vouches_for_before_any_file_is_pulled(transfer: Transfer, attack: str) -> None:
    make, words = ATTACKS[attack]
    uri = make(transfer)
    with pytest.raises(StageError, match=words):
        transfer.pulled(uri, transfer.public_key)
    assert not (transfer.target / "models").exists()


def test_a_file_that_an_artifact_has_twice_is_refused_whichever_is_the_right_one(transfer: Transfer) -> None:
    """What was pulled first would stay, and what is compared with the model's manifest is the last."""
    content, weights = json.loads(transfer.registry.manifests[transfer.pushed().partition("@")[2]]), b"other weights"
    (right,) = [layer for layer in content["layers"] if layer["annotations"]["org.cncf.model.filepath"] == "model.safetensors"]
    other = oci_repository.digest_of(weights)
    transfer.registry.blobs[other] = weights
    content["layers"].insert(0, right | {"digest": other, "size": len(weights)})
    manifest = json.dumps(content).encode()
    transfer.registry.manifests[oci_repository.digest_of(manifest)] = manifest
    with pytest.raises(InvalidInputError, match=r"has model\.safetensors twice"):
        transfer.pulled(f"oci://{transfer.registry.host}/agents/travel@{oci_repository.digest_of(manifest)}")
    assert not (transfer.target / "models/x/model.safetensors").exists()


def test_a_policy_refuses_another_key_and_a_missing_statement(transfer: Transfer) -> None:
    uri = transfer.pushed()
    _, other = signing_secret(transfer.folder / "other")
    with pytest.raises(InvalidInputError, match=r"signed with another key than spec.model.requireAttestation.publicKey"):
        transfer.pulled(uri, other)
    del transfer.registry.manifests[attestation.tag_of(uri.partition("@")[2])]
    with pytest.raises(InvalidInputError, match=r"the registry has no attestation of sha256:"):
        transfer.pulled(uri, transfer.public_key)
    assert transfer.pulled(uri).is_dir()


def test_another_model_than_the_expected_one_is_refused(transfer: Transfer) -> None:
    with pytest.raises(InvalidInputError, match=r"the artifact has model sha256:.* and spec.model.digest is sha256:9"):
        transfer.pulled(transfer.pushed(), digest="sha256:" + "9" * 64)


def test_what_a_registry_refuses_is_said_with_its_words_and_the_fix(transfer: Transfer) -> None:
    uri = transfer.pushed()
    wrong = transfer.registry.secret(transfer.folder / "wrong", password="wrong")
    for secret, words in (
        (wrong, r"asks for a password \(401 Unauthorized: UNAUTHORIZED.*Secret of spec.model.registrySecret"),
        (transfer.folder, "certificate of registry .* is not trusted .* as ca.crt"),
    ):
        with pytest.raises(InvalidInputError, match=words):
            transfer.pulled(uri, secret=secret)
    transfer.registry.forbidden = True
    with pytest.raises(InvalidInputError, match=r"the account may not do this \(403 Forbidden: DENIED"):
        transfer.pulled(uri)
    transfer.registry.forbidden = False
    with pytest.raises(InvalidInputError, match=r"agents/travel@sha256:0+ does not exist \(404.*correct spec.model"):
        transfer.pulled(uri.partition("@")[0] + "@sha256:" + "0" * 64)
    transfer.registry.down = True
    with pytest.raises(InfrastructureError, match=r"the registry failed .503"):
        transfer.pulled(uri)


def test_a_registry_that_is_away_or_cuts_connections_is_tried_again_later(transfer: Transfer) -> None:
    uri = transfer.pushed()
    transfer.registry.cut_after = 10
    with pytest.raises(InfrastructureError, match=r"cannot be reached"):
        transfer.pulled(uri)
    with pytest.raises(InfrastructureError, match=r"registry 127.0.0.1:9 cannot be reached"):
        transfer.pulled(uri.replace(transfer.registry.host, "127.0.0.1:9"))


def test_a_damaged_store_pushes_nothing_under_a_good_name(transfer: Transfer) -> None:
    Path(transfer.store.root, MODEL, "config.json").write_text("changed")
    with pytest.raises(InfrastructureError, match=r"config.json is not as its manifest says"):
        transfer.pushed()
    assert not transfer.registry.manifests


def test_a_statement_is_only_made_about_what_is_in_the_store(transfer: Transfer) -> None:
    with pytest.raises(InfrastructureError, match=rf"model {MODEL} of run .* has digest sha256:.*, and sha256:7"):
        transfer.pushed(model="sha256:" + "7" * 64)
    with pytest.raises(InfrastructureError, match=r"dataset datasets/.* has digest"):
        transfer.pushed(dataset="sha256:" + "7" * 64)


def test_a_wrong_password_of_the_key_is_said_before_anything_is_pushed(transfer: Transfer) -> None:
    (transfer.key / "cosign.password").write_text("wrong")
    with pytest.raises(InvalidInputError, match=r"cosign.password does not open cosign.key"):
        transfer.pushed()
    assert not transfer.registry.requests


def test_a_full_node_is_named_with_the_size_of_the_model(transfer: Transfer, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    uri = transfer.pushed()
    transfer.target.mkdir()
    (transfer.target / "models/x").mkdir(parents=True)
    monkeypatch.setattr(pull, "_fetch", full)
    with pytest.raises(InfrastructureError, match=r"no space for the model: it has 0.0 GB, and [\d,.]+ GB are free"):
        transfer.pulled(uri)


def test_requests_survive_the_way_through_a_variable(transfer: Transfer) -> None:
    text = transfer.request.model_dump_json(by_alias=True, exclude_none=True)
    assert ExportRequest.model_validate_json(text) == transfer.request
