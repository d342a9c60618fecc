"""A fake hub of models: the API and the downloads that the hub's library uses, over real HTTP, with faults."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from subterra_testkit.servers.local_server import QuietHandler, in_background


@dataclass
class FakeHub:
    """One repository. Everything can be set while requests arrive."""

    name: str = "org/tiny"
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    """Files by commit."""
    branches: dict[str, str] = field(default_factory=dict)
    """Commit by branch or tag."""
    token: str | None = None
    """The token that may read it; `None` for a public one."""
    gated: bool = False
    """True if the token's owner has not accepted the terms."""
    down: bool = False
    cut_after: int | None = None
    """Bytes of each download before the connection is cut."""
    damaged: frozenset[str] = frozenset()
    """Files whose bytes arrive changed."""
    requests: list[str] = field(default_factory=list)
    url: str = ""

    @property
    def downloads(self) -> list[str]:
        """Paths of the files that were sent."""
        return [
            path.split("/resolve/")[1].split("/", 1)[1] for path in self.requests if path.startswith("GET") and "/resolve/" in path
        ]

    def commit(self, revision: str) -> str | None:
        return revision if revision in self.commits else self.branches.get(revision)

    def refusal(self, authorization: str) -> tuple[int, str] | None:
        """Status and `X-Error-Code` of a request that is not answered."""
        if self.down:
            return 503, ""
        if self.token is not None and authorization != f"Bearer {self.token}":
            return 401, "RepoNotFound"
        return (403, "GatedRepo") if self.gated else None


class _Handler(QuietHandler):
    protocol_version = "HTTP/1.1"
    hub: FakeHub

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        hub, path = self.hub, urlsplit(self.path).path
        hub.requests.append(f"{self.command} {path}")
        info, tree, files = f"/api/models/{hub.name}/revision/", f"/api/models/{hub.name}/tree/", f"/{hub.name}/resolve/"
        if (refused := hub.refusal(self.headers.get("Authorization", ""))) is not None:
            self._send(refused[0], b"", {"X-Error-Code": refused[1]} if refused[1] else {})
        elif path.startswith(info):
            self._info(path.removeprefix(info))
        elif path.startswith(tree):
            self._tree(path.removeprefix(tree))
        elif path.startswith(files):
            self._file(*path.removeprefix(files).split("/", 1))
        else:
            self._send(404, b"", {"X-Error-Code": "RepoNotFound"})

    def _info(self, revision: str) -> None:
        if (commit := self.hub.commit(revision)) is None:
            self._send(404, b"", {"X-Error-Code": "RevisionNotFound"})
        else:
            names = [{"rfilename": name} for name in self.hub.commits[commit]]
            self._json({"id": self.hub.name, "sha": commit, "siblings": names, "private": False, "tags": [], "downloads": 0})

    def _tree(self, revision: str) -> None:
        self._json([_entry(name, content) for name, content in self.hub.commits[self.hub.commit(revision) or ""].items()])

    def _file(self, revision: str, name: str) -> None:
        commit = self.hub.commit(revision) or ""
        content = self.hub.commits[commit][name]
        headers = {"ETag": f'"{_etag(name, content)}"', "X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").split("-")[0])
        sent = content[start:]
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        if name in self.hub.damaged:
            sent = bytes(byte ^ 1 for byte in sent)
        self._send(206 if start else 200, sent, headers)

    def _json(self, content: object) -> None:
        self._send(200, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | dict(headers)).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if self.hub.cut_after is not None and "/resolve/" in self.path and len(body) > self.hub.cut_after:
            body, self.close_connection = body[: self.hub.cut_after], True
        self.wfile.write(body)


def _is_lfs(name: str) -> bool:
    return name.endswith(".safetensors")


def _etag(name: str, content: bytes) -> str:
    return hashlib.sha256(content).hexdigest() if _is_lfs(name) else hashlib.sha1(content, usedforsecurity=False).hexdigest()


def _entry(name: str, content: bytes) -> dict[str, Any]:
    entry = {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content, usedforsecurity=False).hexdigest()}
    lfs = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 130}
    return entry | ({"lfs": lfs} if _is_lfs(name) else {})


@contextmanager
def fake_hub(hub: FakeHub) -> Iterator[FakeHub]:
    """Serves `hub` until the end of the block; `hub.url` is its address."""
    with in_background(ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))) as hub.url:
        yield hub
