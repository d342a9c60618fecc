"""A real S3 server for tests: the Versity gateway, whose objects are files. ``python -m tests.tools.objectstore`` builds it."""

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

SOURCES = Path(__file__).parent
PACKAGE = "github.com/versity/versitygw/cmd/versitygw"
BUCKET = "subterra"
_ACCESS, _SECRET = "tester", "not-a-secret"


@contextmanager
def serving(program: Path, folder: Path) -> Iterator[dict[str, str]]:
    """Serves a bucket until the end of the block; gives the environment that tells the SDKs where."""
    (folder / BUCKET).mkdir(parents=True)
    port = _free_port()
    keys = {"ROOT_ACCESS_KEY_ID": _ACCESS, "ROOT_SECRET_ACCESS_KEY": _SECRET}
    command = [program, "--port", f"127.0.0.1:{port}", "--quiet", "posix", folder]
    with (folder.parent / "objectstore.log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=os.environ | keys)
    try:
        _wait_until_open(server, port)
        yield {
            "AWS_ACCESS_KEY_ID": _ACCESS,
            "AWS_SECRET_ACCESS_KEY": _SECRET,
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        }
    finally:
        server.terminate()
        server.wait(10)


def _free_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        return int(taken.getsockname()[1])


def _wait_until_open(server: "subprocess.Popen[bytes]", port: int) -> None:
    deadline = time.monotonic() + 30
    while True:
        assert server.poll() is None, "the S3 server ended; see objectstore.log"
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            assert time.monotonic() < deadline, "the S3 server does not answer"
            time.sleep(0.05)
        else:
            return
