#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Tests inside Debian kernels, one guest at a time:

  run.py [--short] [--matrix] [--table FILE] [--kernel NAME]... [--test NAME]... [--list]

--short   few contract tests: what `make test` runs
--matrix  all kernels of kernels.sh, not only Debian 12's 6.1 and Debian 13's 6.12
--table   rewrites the table between the vm-matrix marks of FILE
--kernel  only kernels of which role or release begins so
--test    only jobs of this name

Prints a line for each test on each kernel and a closing line that counts. Needs a build
(`make tests`). Fewer than two kernels booted with kTLS, or none of 6.1 or of 6.12, is a failure."""
import argparse
import fcntl
import os
import re
import shutil
import signal
import subprocess
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from guest import Guest, Job, run_jobs  # noqa: E402

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
HERE = os.path.join(TOP, "tests", "vm")
BUILD = os.path.join(TOP, "build", "vm")
PLANES = ("sockmap", "splice", "copy")
MIXES = {  # parties by the letters of relay_contract --mix
    "ktls-splice": ("KK", "KP", "PK", "KH", "HK"),
    "tls": ("KU", "UK", "UU", "PU", "UH"),
}
# Behaviours in which kernels could differ, and that an emulated CPU gets through quickly.
SHORT_CONTRACT = {
    "sockmap": ("token-with-data", "reused-token", "half-close", "reset", "two-way", "early-fin", "overlap",
                "overlap-control", "lost-record-of-break", "lost-packet", "urgent-bytes"),
    "splice": ("token-with-data", "half-close", "reset", "two-way"),
    "copy": ("token-with-data", "half-close", "reset", "early-fin"),
}
SHORT_MIXES = {  # mixes and tests; several groups a job
    "ktls-splice": ((("KK", "KP"), ("half-close", "two-way")),
                    (("PK", "HK", "KH"), ("half-close", "reset")),
                    (("KK",), ("slow-reader", "stopped-reader"))),
    "tls": ((("UU", "KU"), ("half-close", "two-way")),
            (("PU",), ("slow-reader",))),
}
PATIENCE = 10  # factor of every deadline, and of the share of a processor that an idle relay may use
# A reader of 10 MB/s, which an emulated machine manages, behind a sender that is faster; 20 ms to the one, the other, and both.
HOLD_LEGS = ("a", "b", "ab")
RESETS = 20  # a test that once failed in one of seven runs


def all_of(commands):
    """Runs each, whatever became of those before."""
    return " ".join(f"{command} || bad=1;" for command in commands) + ' [ -z "$bad" ]'


def hold_test():
    return ("if ! command -v tc >/dev/null; then echo 'skip far - no iproute2 on the host'; else " + all_of(
        f"SEGMENTS=44 guest/path.sh far-{leg} 2 {leg} 20 0 1gbit --hold 10 sockmap" for leg in HOLD_LEGS) + "; fi")


def list_jobs(is_short):
    jobs = [
        Job("probe", 60, "guest/probe.sh"),
        Job("ktls", 60, "ktls_smoke"),
        Job("map", 240, "map_watch"),
        Job("tls-party", 90, "test_relay_tls"),
        Job("ping", 180, "tools/demo.sh"),
    ]
    contract = f"relay_contract --small --patience {PATIENCE}"
    for plane in PLANES:
        tests = "".join(f" --test {name}" for name in SHORT_CONTRACT[plane]) if is_short else ""
        jobs.append(Job(plane, 180 if is_short else 1800, f"{contract} --plane {plane}{tests}"))
    for name, mixes in MIXES.items():
        groups = SHORT_MIXES[name] if is_short else ((mixes, ()),)
        jobs.append(Job(name, 600 if is_short else 3600, all_of(
            contract + "".join(f" --mix {mix}" for mix in mixes) + "".join(f" --test {test}" for test in tests)
            for mixes, tests in groups)))
    if not is_short:
        jobs.append(Job("hold", 600, hold_test()))
        jobs.append(Job("ktls-resets", 1200, all_of([f"{contract} --mix KH --test reset"] * RESETS)))
    return jobs


class Report:
    """Prints and counts results; remembers them by kernel and job for the table."""

    def __init__(self):
        self.passed = self.failed = self.skipped = 0
        self.cells = {}  # (kernel, job): [passed, [failed names], [skipped reasons]]

    def add(self, kernel, job, name, outcome, detail):
        cell = self.cells.setdefault((kernel, job), [0, [], []])
        if outcome == "ok":
            self.passed += 1
            cell[0] += 1
        elif outcome == "skip":
            self.skipped += 1
            cell[2].append(detail)
        else:
            self.failed += 1
            cell[1].append(name)
        word = {"ok": "ok  ", "skip": "skip"}.get(outcome, "FAIL")
        print(f"{word} {kernel}  {name}" + (f" - {detail}" if detail else ""), flush=True)

    def cell(self, kernel, job):
        passed, failed, skipped = self.cells.get((kernel, job), (0, [], []))
        if failed:
            return f"**{len(failed)} of {passed + len(failed)} failed**: " + ", ".join(failed)
        if passed:
            return f"{passed} passed" + (f", {len(skipped)} skipped" if skipped else "") if passed > 1 else "passed"
        return f"skipped: {skipped[0]}" if skipped else "not run"


def report_job(report, kernel, result):
    """Tests that print a line for each of their parts are counted by these; the others by their status."""
    job = result.job.name
    parts = 0
    failures = 0
    for line in result.lines:
        part = re.match(r"(ok|FAIL|skip)\s+(\S+(?: \S+)*?) - (.*)", line)
        if not part:
            continue
        parts += 1
        failures += part[1] == "FAIL"
        report.add(kernel, job, part[2] if job in PLANES or job in MIXES else f"{job} {part[2]}", part[1], part[3])
    if result.status == 0 and not failures:
        if not parts:
            last = next((line for line in reversed(result.lines) if line.strip()), "")
            report.add(kernel, job, job, "ok", f"{last.strip()}; {result.seconds:.1f} s")
        return
    if result.status is None or not failures:
        reason = result.reason or ("took too long" if result.status == 137 else f"ended with status {result.status}")
        report.add(kernel, job, job, "FAIL", reason)
    log = os.path.join(BUILD, "log", f"{kernel}.{job}.log")
    print(f"     output: {os.path.relpath(log, TOP)}")
    for line in result.lines[-15:] if not failures else []:
        print(f"     {line}")


def build_archives(kernels, name="base.cpio"):
    base = os.path.join(BUILD, name)
    run_tool("initramfs.sh", "base", base)
    for kernel in kernels:
        kernel["archives"] = [base, os.path.join(os.path.dirname(kernel["vmlinuz"]), "modules.cpio")]
        run_tool("initramfs.sh", "modules", kernel["release"], kernel["modules"], kernel["archives"][1])


def find_tool(name):
    return shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")


def take_lock(name):
    """One run at a time, as long as the result is kept."""
    os.makedirs(BUILD, exist_ok=True)
    lock = open(os.path.join(BUILD, name), "w")
    fcntl.flock(lock, fcntl.LOCK_EX)
    return lock


def run_tool(name, *arguments):
    with open(os.path.join(BUILD, "tools.log"), "a") as log:
        done = subprocess.run([os.path.join(HERE, name), *arguments], stdout=log, stderr=subprocess.STDOUT)
    if done.returncode:
        with open(os.path.join(BUILD, "tools.log")) as log:
            sys.exit(f"run.py: {name} failed:\n" + "".join(log.readlines()[-10:]))


def list_kernels(is_matrix):
    """What kernels.sh has; one that cannot be had has the release "-" and a reason."""
    listed = subprocess.run([os.path.join(HERE, "kernels.sh")] + (["--matrix"] if is_matrix else []),
                            stdout=subprocess.PIPE, text=True, check=True)
    kernels = []
    for line in listed.stdout.splitlines():
        role, release, *rest = line.split("\t")
        kernels.append({"role": role, "release": release, "reason": rest[0]} if release == "-" else
                       {"role": role, "release": release, "vmlinuz": rest[0], "modules": rest[1],
                        "name": release.replace("-cloud-amd64", "")})
    return kernels


def find_kernels(options, report):
    kernels = []
    for kernel in list_kernels(options.matrix):
        role, release = kernel["role"], kernel["release"]
        if options.kernel and not any(role.startswith(name) or release.startswith(name) for name in options.kernel):
            continue
        if release == "-":
            report.add(role, "boot", "boot", "skip", kernel["reason"])
            continue
        kernels.append(kernel)
    return kernels


def run_kernel(kernel, jobs, report):
    name = kernel["name"]
    logs = os.path.join(BUILD, "log")
    os.makedirs(logs, exist_ok=True)

    def on_result(result):
        with open(os.path.join(logs, f"{name}.{result.job.name}.log"), "w") as log:
            log.write("\n".join(result.lines) + "\n")
        if result.job.name == "probe":
            kernel["banner"] = next((line[8:] for line in result.lines if line.startswith("kernel: ")), "")
        if result.job.name == "ktls":
            kernel["has_ktls"] = result.status == 0
        kernel["booted"] = True
        report_job(report, name, result)

    guest = Guest(kernel["vmlinuz"], kernel["archives"], os.path.join(logs, f"{name}.console.log"))
    try:
        problem, complaints = run_jobs(guest, jobs, on_result)
    finally:
        guest.stop()
    if problem:
        report.add(name, "boot", "boot", "FAIL", problem)
    elif complaints:
        report.add(name, "log", "kernel-log", "FAIL", f"{len(complaints)} complaints, the first: {complaints[0]}")
    else:
        report.add(name, "log", "kernel-log", "ok", "no warning")


def check_coverage(options, kernels, report):
    """Silence must not look like success."""
    if options.kernel or options.test:
        return
    with_ktls = [kernel["name"] for kernel in kernels if kernel.get("has_ktls")]
    missing = [line for line in ("6.1.", "6.12.") if not any(
        kernel["release"].startswith(line) and kernel.get("booted") for kernel in kernels)]
    if len(with_ktls) < 2 or missing:
        report.add("all", "coverage", "coverage", "FAIL", f"{len(with_ktls)} kernels booted with kTLS (at least 2)" +
                   "".join(f", no {line}x" for line in missing))


def write_table(path, kernels, report, is_short):
    columns = [("sockmap", "sockmap"), ("splice", "splice"), ("copy", "copy"), ("ping", "ping through the relay"),
               ("ktls", "kTLS by itself"), ("ktls-splice", "pairs with kTLS"), ("tls", "pairs with userspace TLS"),
               ("map", "who enters the socket map"), ("log", "kernel log")]
    lines = ["| kernel | " + " | ".join(title for _, title in columns) + " |", "| --- " * (len(columns) + 1) + "|"]
    for kernel in kernels:
        name = kernel["banner"] if kernel.get("banner") else kernel["name"]
        lines.append(f"| {name} | " + " | ".join(report.cell(kernel["name"], job) for job, _ in columns) + " |")
    for (name, job), cell in report.cells.items():
        if job == "boot":
            lines.append(f"| {name} | " + ("not booted" if cell[1] else f"skipped: {cell[2][0]}") + " |" * len(columns))
    with open(path) as source:
        text = source.read()
    begin, end = "<!-- vm-matrix begin -->\n", "<!-- vm-matrix end -->"
    if begin not in text or end not in text:
        sys.exit(f"run.py: {path} has no vm-matrix marks")
    head, rest = text.split(begin, 1)
    tail = rest.split(end, 1)[1]
    stamp = (f"Last run on {time.strftime('%Y-%m-%d')}{', short selection' if is_short else ''}: "
             f"{report.passed} passed, {report.failed} failed, {report.skipped} skipped.\n")
    with open(path, "w") as target:
        target.write(head + begin + "\n".join(lines) + "\n\n" + stamp + end + tail)


def main():
    parser = argparse.ArgumentParser(description="tests inside Debian kernels")
    for switch in ("--short", "--matrix", "--list"):
        parser.add_argument(switch, action="store_true")
    parser.add_argument("--table")
    parser.add_argument("--kernel", action="append")
    parser.add_argument("--test", action="append")
    options = parser.parse_args()
    jobs = [job for job in list_jobs(options.short) if not options.test or job.name in options.test]
    if options.list:
        print("\n".join(f"{job.name:8} {job.command}" for job in jobs))
        return 0
    needed = [tool for tool in ("qemu-system-x86_64", "busybox", "cpio", "depmod", "xz", "zstd") if not find_tool(tool)]
    if needed or os.uname().machine != "x86_64":
        sys.exit("run.py: guests need " + (", ".join(needed) + " (tools/deps.sh vm)" if needed else "an x86-64 host"))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that no guest is left behind
    lock = take_lock("lock")  # held until the end
    started = time.monotonic()
    report = Report()
    kernels = find_kernels(options, report)
    build_archives(kernels)
    for kernel in kernels:
        run_kernel(kernel, jobs, report)
    check_coverage(options, kernels, report)
    if options.table:
        write_table(options.table, kernels, report, options.short)
    lock.close()
    print(f"took {time.monotonic() - started:.0f} s; logs are in build/vm/log")
    print(f"{report.passed} passed, {report.failed} failed, {report.skipped} skipped")
    return 1 if report.failed or not report.passed else 0


if __name__ == "__main__":
    sys.exit(main())
