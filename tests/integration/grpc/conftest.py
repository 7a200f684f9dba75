# SPDX-License-Identifier: Apache-2.0
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import grpc_kit  # noqa: E402


def pytest_collection_modifyitems(items):
    for item in items:
        if Path(__file__).parent in Path(item.fspath).parents and not grpc_kit.PEER.exists():
            item.add_marker(pytest.mark.skip(reason=f"{grpc_kit.PEER.name} is not built (make tests)"))


@pytest.fixture(scope="session")
def certificates(tmp_path_factory):
    return grpc_kit.Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="session")
def messages(tmp_path_factory):
    return grpc_kit.load_messages(tmp_path_factory.mktemp("messages"))


@pytest.fixture
def server(certificates):
    """Our server."""
    peer = grpc_kit.serving_peer(certificates)
    yield peer
    peer.stop()
