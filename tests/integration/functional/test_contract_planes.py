# SPDX-License-Identifier: Apache-2.0
"""When the relay's contract may leave a plane out: only where the machine cannot have it."""
import json
import os
import shutil
import subprocess

import pytest

from stack import BIN, TOP

CONTRACT = TOP / "build" / "tests" / "bin" / "relay_contract"
BPF_RIGHTS = "-bpf,-sys_admin"


def contract(*before):
    done = subprocess.run([*before, str(CONTRACT), "--small", "--plane", "all", "--test", "half-close"], timeout=120,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return done.returncode, done.stdout


@pytest.fixture(scope="module", autouse=True)
def sockmap():
    probe = subprocess.run([str(BIN / "p2pctl"), "--json", "probe", "--here"], timeout=30, stdout=subprocess.PIPE)
    if not json.loads(probe.stdout)["planes"]["sockmap"]:
        pytest.skip("this machine does not have the sockmap plane")


def test_without_bpf_rights_it_is_left_out_visibly():
    if os.geteuid() or not shutil.which("setpriv"):
        pytest.skip("needs root and setpriv, to give up rights")
    status, text = contract("setpriv", "--bounding-set", BPF_RIGHTS, "--inh-caps", BPF_RIGHTS)
    assert status == 0, text
    assert "skip half-close (sockmap) - this user does not have CAP_BPF; the probe: needs the kernel program" in text
    assert text.endswith("2 passed, 0 failed, 1 skipped\n"), text


@pytest.mark.parametrize("spoiled, status, line", [
    ("/sys/kernel/btf/vmlinux", 1, "FAIL half-close (sockmap) - the probe refuses a plane that this kernel and user must have"),
    ("/sys/kernel/btf", 0, "skip half-close (sockmap) - the kernel does not describe its types")])
def test_a_plane_that_must_be_there_is_a_failure(tmp_path, spoiled, status, line):
    """Kernel types that cannot be read stand for a defect; none at all for an older kernel."""
    if os.geteuid() or not shutil.which("unshare"):
        pytest.skip("needs root and unshare, to hide files")
    cover = tmp_path / "cover"
    cover.mkdir() if spoiled.endswith("btf") else cover.write_text("no types\n")
    done = contract("unshare", "--mount", "sh", "-c", f'mount --bind {cover} {spoiled} && exec "$@"', "sh")
    assert done[0] == status and line in done[1], done[1]
