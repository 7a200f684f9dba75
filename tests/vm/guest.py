# SPDX-License-Identifier: Apache-2.0
"""One guest: an emulated machine that boots a kernel with our files in memory and
runs a list of jobs. Kernel messages go to a file, results come over the second
serial port (the protocol is told in guest/init). A guest that panics or stalls in a
job takes that job down with it; the jobs behind it get a new guest."""
import os
import re
import select
import subprocess
import tempfile
import time
from dataclasses import dataclass, field

BOOT_SECONDS = 90  # an emulated CPU on a busy host
MEMORY_MB = 2048  # with 1 GB a few stopped readers fill what TCP may have in all
MACHINE = ("-accel", "tcg", "-cpu", "max", "-smp", "2")
# One processor whose clock is the number of instructions, a nanosecond each; idle time is skipped. String
# moves of the fast kinds would count once for each byte.
COUNTING_MACHINE = ("-accel", "tcg,thread=single", "-icount", "shift=0,sleep=off", "-cpu", "max,-erms,-fsrm", "-smp", "1")


@dataclass
class Job:
    """What a guest shall do: a shell command in /p2p, and how long it may take."""
    name: str
    seconds: int
    command: str


@dataclass
class Result:
    job: Job
    status: int | None = None  # of the command; None: it has not ended by itself
    lines: list = field(default_factory=list)
    seconds: float = 0.0
    reason: str = ""  # why there is no status


class Guest:
    """Owns the qemu process, from boot() to stop()."""

    def __init__(self, vmlinuz, archives, console, counts_instructions=False):
        self.vmlinuz, self.archives, self.console = vmlinuz, archives, console
        self.machine = COUNTING_MACHINE if counts_instructions else MACHINE
        self.process = None
        self.initrd = None
        self.rest = b""

    def boot(self, jobs):
        self.stop()
        if os.path.exists(self.console):
            os.replace(self.console, self.console + ".previous")
        self.rest = b""
        self.initrd = tempfile.NamedTemporaryFile(prefix="initrd.", dir=os.path.dirname(self.console))
        for archive in self.archives:
            with open(archive, "rb") as source:
                self.initrd.write(source.read())
        self.initrd.write(pack_jobs(jobs))
        self.initrd.flush()
        self.process = subprocess.Popen(
            ["qemu-system-x86_64", *self.machine, "-m", str(MEMORY_MB), "-nodefaults", "-no-user-config", "-display", "none",
             "-no-reboot", "-kernel", self.vmlinuz, "-initrd", self.initrd.name,
             "-append", "console=ttyS0 rdinit=/init panic=-1 quiet", "-serial", "file:" + self.console,
             "-serial", "stdio"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def read_line(self, deadline):
        """The next line of the channel; None: the guest is gone. Raises TimeoutError."""
        while b"\n" not in self.rest:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            if select.select([self.process.stdout], [], [], left)[0]:
                more = os.read(self.process.stdout.fileno(), 65536)
                if not more:
                    return None
                self.rest += more
        line, self.rest = self.rest.split(b"\n", 1)
        return line.decode(errors="replace").rstrip("\r")

    def stop(self):
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process.stdout.close()
            self.process = None
        if self.initrd:
            self.initrd.close()
            self.initrd = None

    def last_words(self):
        """What the kernel said when it died, in one line."""
        for line in kernel_complaints(self.console):
            return line
        return "the kernel said nothing"


def pack_jobs(jobs):
    """A cpio archive (newc) with the file job/tests."""
    text = "".join(f"{job.name} {job.seconds} {job.command}\n" for job in jobs).encode()
    packed = b""
    for number, (name, mode, data) in enumerate(
            [("job", 0o40755, b""), ("job/tests", 0o100644, text), ("TRAILER!!!", 0, b"")], start=1):
        fields = [number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0]
        packed += b"070701" + b"".join(b"%08X" % value for value in fields) + name.encode() + b"\0"
        packed += b"\0" * (-len(packed) % 4) + data
        packed += b"\0" * (-len(packed) % 4)
    return packed


def kernel_complaints(console):
    """Lines of the kernel log that no test may cause. Stalls and lockups are not among them: an
    emulated CPU has them whenever the host is busy."""
    words = re.compile(r"WARNING:|BUG:(?! soft lockup)|Oops|Kernel panic|general protection|refcount_t:|list_(add|del) corruption")
    if not os.path.exists(console):
        return []
    with open(console, errors="replace") as log:
        return [line.strip() for line in log if words.search(line)]


def run_jobs(guest, jobs, on_result):
    """Runs the jobs, in as many guests as it takes, and hands each Result on. Returns why the kernel
    cannot be booted, or None, and the kernel's complaints. A boot that fails is tried once more."""
    waiting = list(jobs)
    failed_boots = 0
    complaints = []
    while waiting:
        guest.boot(waiting)
        current, begun_at = None, 0.0
        deadline = time.monotonic() + BOOT_SECONDS
        how = ""
        begun_any = False
        chatter = ""
        while True:
            try:
                line = guest.read_line(deadline)
            except TimeoutError:
                how = "stalled"
                break
            if line is None:
                how = "gone"
                break
            if line.startswith("@begin "):
                begun_any = True
                current, begun_at = Result(waiting[0]), time.monotonic()
                # The guest ends the job itself a little earlier.
                deadline = begun_at + current.job.seconds + 20
            elif line.startswith("@end ") and current:
                current.status = int(line.split()[-1])
                current.seconds = time.monotonic() - begun_at
                waiting.pop(0)
                on_result(current)
                current = None
                deadline = time.monotonic() + BOOT_SECONDS
            elif line.startswith("| ") and current:
                current.lines.append(line[2:])
            elif line == "@done":
                how = "done"
                break
            else:
                chatter = line
        if how == "done":
            try:  # what follows is the power going off; the console is complete then
                guest.process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                pass
        guest.stop()
        if begun_any:
            complaints += kernel_complaints(guest.console)
        if current:
            current.seconds = time.monotonic() - begun_at
            current.reason = f"the guest {'stood still' if how == 'stalled' else 'died'}: {guest.last_words()}"
            waiting.pop(0)
            on_result(current)
        elif how != "done" or waiting:
            if not begun_any or how == "done":
                failed_boots += 1
            if failed_boots > 1 or how == "done":
                return f"no test could be begun ({how}): {chatter or guest.last_words()}", complaints
    return None, complaints
