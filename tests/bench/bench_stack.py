# SPDX-License-Identifier: Apache-2.0
"""The daemons as the functional tests start them, in a folder of the benchmark's own,
and the file that figures go to: lines "workload contender figure value"."""
import pathlib
import shutil
import subprocess
import sys

TOP = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "tests" / "integration" / "functional"))
import stack as stack_module  # noqa: E402

HAPROXY_SETTINGS = TOP / "tests" / "bench" / "haproxy.cfg"


def make_stack(folder):
    """A Stack in `folder`, emptied; certificates are kept from run to run."""
    folder = pathlib.Path(folder)
    certificates = folder / "certificates"
    certificates.mkdir(parents=True, exist_ok=True)
    shutil.copytree(TOP / "settings" / "dev" / "directory", certificates / "directory", dirs_exist_ok=True)
    subprocess.run([str(TOP / "tools" / "certs.sh"), str(certificates)], check=True, stdout=subprocess.DEVNULL)
    work = folder / "stack"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    return stack_module.Stack(work, certificates)


class Figures:
    def __init__(self, path):
        self.file = open(path, "a") if path else sys.stdout

    def add(self, workload, contender, name, value):
        print(f"{workload} {contender} {name} {value:.6g}", file=self.file, flush=True)


def status_kilobytes(pid, key="VmRSS"):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1])
    raise KeyError(key)


def established(ports):
    """How many connections to these local ports are established."""
    count = dict.fromkeys(ports, 0)
    for name in ("tcp", "tcp6"):
        for line in pathlib.Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
            fields = line.split()
            port = int(fields[1].rsplit(":", 1)[1], 16)
            if fields[3] == "01" and port in count:
                count[port] += 1
    return count
