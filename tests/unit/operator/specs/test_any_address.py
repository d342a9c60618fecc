"""By which addresses vLLM lets clients in: its own command, with stand-ins for vLLM, PyTorch and the kernel's sockets."""

import socket
from pathlib import Path

import pytest
from tests.unit.operator.specs.test_processor_dtype import AVX2, started

from subterra_operator.specs.in_vllm.drainable_vllm import any_address

KERNEL = """
AF_INET6 = IPPROTO_IPV6 = IPV6_V6ONLY = 0
class socket:
    def __init__(self, family):
        if {family_refused}:
            raise OSError("Address family not supported by protocol")
    def __enter__(self):
        return self
    def __exit__(self, *_):
        pass
    def bind(self, address):
        assert address == ("::", 0)
    def getsockopt(self, *_):
        return {only}
"""


@pytest.mark.parametrize(
    ("family_refused", "only", "host"),
    [
        pytest.param(False, 0, "::", id="both families by one address, as on every Linux with IPv6"),
        pytest.param(False, 1, "0.0.0.0", id="an administrator who keeps them apart"),
        pytest.param(True, 0, "0.0.0.0", id="a kernel without IPv6"),
    ],
)
def test_vllm_listens_for_both_families_where_it_can(tmp_path: Path, family_refused: bool, only: int, host: str) -> None:
    (tmp_path / "socket.py").write_text(KERNEL.format(family_refused=family_refused, only=only))
    arguments = started(tmp_path, AVX2, 0)
    assert arguments[arguments.index("--host") + 1] == host


@pytest.mark.parametrize("client", [("127.0.0.1", socket.AF_INET), ("::1", socket.AF_INET6)])
def test_a_client_of_either_family_reaches_that_address(client: tuple[str, socket.AddressFamily]) -> None:
    address, family = client
    own = any_address()
    if family == socket.AF_INET6 and own != "::":
        pytest.skip("this machine has no IPv6")
    with socket.socket(socket.AF_INET6 if own == "::" else socket.AF_INET) as server, socket.socket(family) as asking:
        server.bind((own, 0))
        server.listen()
        asking.connect((address, server.getsockname()[1]))
