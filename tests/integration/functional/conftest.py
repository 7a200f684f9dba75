# SPDX-License-Identifier: Apache-2.0
import fcntl
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import stack as stack_module  # noqa: E402


@pytest.fixture(scope="session")
def made_certificates(tmp_path_factory):
    """One set of development certificates for the whole run, made by the first worker that needs it."""
    common = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        common = common.parent
    folder, whole = common / "dev-certificates", common / "dev-certificates.made"
    with open(common / "dev-certificates.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not whole.exists():
            shutil.copytree(stack_module.TOP / "settings" / "dev" / "directory", folder / "directory")
            subprocess.run([str(stack_module.TOP / "tools" / "certs.sh"), str(folder)], check=True, timeout=180,
                           stdout=subprocess.DEVNULL)
            whole.touch()
    return folder


@pytest.fixture
def make_stack(made_certificates):
    """Factory of stacks; everything started is stopped at the end of the test."""
    stacks, folders = [], []

    def make():
        folders.append(tempfile.mkdtemp(prefix="p2p-"))
        stacks.append(stack_module.Stack(folders[-1], made_certificates))
        return stacks[-1]
    yield make
    for one in stacks:
        one.stop(kill=True)
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def stack(make_stack):
    return make_stack()


@pytest.fixture(scope="module")
def running(made_certificates):
    """The whole stack, directory loaded, shared by the tests of a module."""
    folder = tempfile.mkdtemp(prefix="p2p-")
    one = stack_module.Stack(folder, made_certificates)
    one.start(*stack_module.ALL)
    try:
        one.setup_directory()
        one.wait_for_ping()
        yield one
        one.check_alive()
    finally:
        try:
            one.stop()
        finally:
            one.stop(kill=True)
            shutil.rmtree(folder, ignore_errors=True)
