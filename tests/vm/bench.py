#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What relaying costs, in guests whose clock counts instructions, and what a relay makes of a slow
path:

  bench.py [--kernel NAME]... [--mb N] [--part cost|path]... [--only NAME]... [--results FILE] [--table FILE]

--kernel   roles of kernels.sh (default: debian-13, and debian-12 for cost only)
--mb       million bytes of each stream (default 100)
--only     contenders or paths of this name, whose figures are added to those that are kept
--results  keeps the single figures there (default build/vm/bench.results)
--table    rewrites what is between the vm-bench marks of FILE
--reuse    makes the tables from the figures that are kept, without a run

Figures are lines "KERNEL WORKLOAD CONTENDER FIGURE VALUE". Needs a build (`make tests`), haproxy and
iproute2. Ends with status 1 if a figure is missing; a goal that was missed is shown, not an error."""
import argparse
import collections
import os
import re
import signal
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from guest import Guest, Job, run_jobs  # noqa: E402
import run  # noqa: E402
from bench_tables import write_tables  # noqa: E402

CONTENDERS = ("direct-tls", "direct-plain", "copy-tls", "ktls-splice", "ktls-copy", "haproxy-tls", "handed-off-copy",
              "handed-off-splice", "handed-off-sockmap")
# Label, seconds of the guest's time, leg with the delay, round trip in ms, loss in %, rate.
PATHS = (
    ("1-ms", 5, "b", 1, 0, "100mbit"),
    ("20-ms", 5, "b", 20, 0, "100mbit"),
    ("100-ms", 6, "b", 100, 0, "100mbit"),
    ("100-ms-sender", 6, "a", 100, 0, "100mbit"),
    ("100-ms-wide", 6, "b", 100, 0, "1gbit"),
    ("600-ms", 30, "b", 600, 0, "20mbit"),
    ("20-ms-loss", 30, "b", 20, 0.1, "100mbit"),
    ("100-ms-loss", 80, "b", 100, 0.1, "100mbit"),
)
PATH_CONTENDERS = "direct sockmap splice copy"
CERTIFICATE = "cat settings/dev/certs/hd-1.crt settings/dev/certs/hd-1.key >/tmp/haproxy.pem && "


def list_jobs(options, role):
    jobs = []
    if not options.part or "cost" in options.part:
        for name in CONTENDERS:
            before = CERTIFICATE if name.startswith("haproxy") else ""
            jobs.append(Job(name, 1800, f"{before}guest_bench --mb {options.mb} {name}"))
    if (not options.part and role == "debian-13") or (options.part and "path" in options.part):
        for label, seconds, *rest in PATHS:
            parameters = " ".join(str(value) for value in rest)
            jobs.append(Job(label, 1800, f"guest/path.sh {label} {seconds} {parameters} {PATH_CONTENDERS}"))
    return [job for job in jobs if not options.only or job.name in options.only]


def prepare(roles):
    """Kernels and archives; meanwhile no test may do the same."""
    lock = run.take_lock("lock")
    kernels = [kernel for kernel in run.list_kernels(False) if kernel["role"] in roles]
    kernels.sort(key=lambda kernel: roles.index(kernel["role"]))
    missing = [f"{kernel['role']} ({kernel['reason']})" for kernel in kernels if kernel["release"] == "-"]
    if missing or len(kernels) < len(roles):
        sys.exit("bench.py: a kernel cannot be had: " + ", ".join(missing or roles))
    run.build_archives(kernels, "bench-base.cpio")
    lock.close()
    return kernels


def measure(kernel, jobs, results):
    """Appends the figures to `results`. Returns what went wrong, in sentences."""
    problems = []
    logs = os.path.join(run.BUILD, "log")
    os.makedirs(logs, exist_ok=True)

    def on_result(result):
        with open(os.path.join(logs, f"{kernel['name']}.bench-{result.job.name}.log"), "w") as log:
            log.write("\n".join(result.lines) + "\n")
        for line in result.lines:
            if re.fullmatch(r"\S+ \S+ \w+ [-+.e0-9]+", line):
                results.write(f"{kernel['name']} {line}\n")
            else:
                print(f"     {line}")
        results.flush()
        print(f"{'ok  ' if result.status == 0 else 'FAIL'} {kernel['name']}  {result.job.name}; {result.seconds:.0f} s", flush=True)
        if result.status != 0:
            problems.append(f"{kernel['name']}: {result.job.name}: {result.reason or f'status {result.status}'}")

    guest = Guest(kernel["vmlinuz"], kernel["archives"], os.path.join(logs, f"{kernel['name']}.bench.console.log"),
                  counts_instructions=True)
    try:
        problem, complaints = run_jobs(guest, jobs, on_result)
    finally:
        guest.stop()
    if problem:
        problems.append(f"{kernel['name']}: {problem}")
    return problems + [f"{kernel['name']}: {complaint}" for complaint in complaints]


def read_figures(path):
    """{kernel: {(workload, contender, figure): value}}, kernels in the order of the file."""
    figures = collections.defaultdict(dict)
    with open(path) as source:
        for line in source:
            kernel, workload, contender, figure, value = line.split()
            figures[kernel][workload, contender, figure] = float(value)
    return figures


def main():
    parser = argparse.ArgumentParser(description="costs in guests that count instructions")
    parser.add_argument("--kernel", action="append")
    parser.add_argument("--mb", type=int, default=100)
    parser.add_argument("--part", action="append", choices=("cost", "path"))
    parser.add_argument("--only", action="append")
    parser.add_argument("--results", default=os.path.join(run.BUILD, "bench.results"))
    parser.add_argument("--table")
    parser.add_argument("--reuse", action="store_true")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that no guest is left behind
    problems = []
    started = time.monotonic()
    if not options.reuse:
        lock = run.take_lock("bench.lock")
        kernels = prepare(options.kernel or ["debian-13", "debian-12"])
        with open(options.results, "a" if options.only else "w") as results:
            for kernel in kernels:
                problems += measure(kernel, list_jobs(options, kernel["role"]), results)
        lock.close()
    problems += write_tables(read_figures(options.results), options.table)
    for problem in problems:
        print(f"FAIL {problem}")
    print(f"took {time.monotonic() - started:.0f} s; figures are in {os.path.relpath(options.results, run.TOP)}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
