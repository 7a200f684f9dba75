# SPDX-License-Identifier: Apache-2.0
import ctypes
import os
import subprocess

CLONE_NEWNET = 0x40000000


def pytest_addoption(parser):
    parser.addoption("--full", action="store_true", help="every test at full size")


def pytest_configure(config):
    """Workers of pytest-xdist run beside each other: the fixed ports of the dev roles are free for
    each of them in a network namespace of its own."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "unshare: workers need network namespaces of their own (run with -n 0)")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
