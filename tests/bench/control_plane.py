# SPDX-License-Identifier: Apache-2.0
"""The ping from hd-1 to hd-2 through the whole stack: warm, cold, and from several callers at
once (BENCH_CALLERS).

   control_plane.py FOLDER [RESULTS]

Warm and cold are curl's time_starttransfer - time_appconnect: what comes after curl's own
TLS handshake with hd-1. Warm, the servers have their connections; cold, every connection
that one of them would keep has been closed for want of calls, and is seen to be: only the
streams over which the proxy operator's server reaches the others stay, as they always do.
"""
import os
import subprocess
import sys

from bench_stack import TOP, Figures, established, make_stack, stack_module

WARM_CALLS = int(os.environ.get("BENCH_WARM_CALLS", 60))
COLD_CALLS = int(os.environ.get("BENCH_COLD_CALLS", 9))
CALLER_ROUNDS = int(os.environ.get("BENCH_CALLER_ROUNDS", 3))
CALLERS = [int(count) for count in os.environ.get("BENCH_CALLERS", "1,16").split(",")]
CALLER_SECONDS = 3
KEPT_PORTS = (stack_module.INTERNAL_PORT, stack_module.PROXY_PORT, stack_module.PROXY_HYPER_PORT,
              stack_module.RELAY_TLS_PORT)
QUERY = '{"method": "hd-2._ping", "id": "1", "params": {}, "jsonrpc": "2.0"}'


def curl_ms(stack):
    """Milliseconds from the end of curl's handshake to the first byte of a right answer."""
    done = subprocess.run(
        ["curl", "-sS", "--max-time", "30", "--cert", stack.certs / "hd-1.crt", "--key", stack.certs / "hd-1.key",
         "--cacert", stack.certs / "root.crt", "--resolve", "hd-1:5555:127.0.0.1", "https://hd-1:5555/jsonrpc",
         "--header", "Content-Type: application/json", "--data", QUERY,
         "-w", "\n%{time_appconnect} %{time_starttransfer}"], stdout=subprocess.PIPE, check=True, text=True)
    answer, times = done.stdout.rsplit("\n", 1)
    if '"result"' not in answer or '"hd-2"' not in answer:
        raise SystemExit(f"control_plane: wrong answer: {answer[:300]}")
    begin, end = map(float, times.split())
    return (end - begin) * 1e3


def callers(stack, count, seconds):
    done = subprocess.run(
        [TOP / "build/tests/bin/ping_bench", "localhost", str(stack_module.HD1_PORT), "hd-1", stack.certs / "hd-1.crt",
         stack.certs / "hd-1.key", stack.certs / "root.crt", "hd-2._ping", '"hd-2"', str(count), str(seconds)],
        stdout=subprocess.PIPE, check=True, text=True)
    return map(float, done.stdout.split())


def check_plane(stack):
    """The kernel moved the calls: the pair of the two servers, both directions."""
    pairs = [pair for pair in stack.p2pctl("pairs")["pairs"]
             if sorted(party["operator"] for party in pair["parties"]) == ["hd-1", "hd-2"]]
    if not pairs:
        raise SystemExit("control_plane: the relay shows no pair of hd-1 and hd-2")
    pair = pairs[-1]
    if pair["plane"] != "sockmap" or not all(way["redirected_bytes"] > 0 for way in pair["directions"]):
        raise SystemExit(f"control_plane: the kernel did not move the calls: {pair}")


def busy_seconds(processes):
    """CPU time of each daemon so far."""
    tick = os.sysconf("SC_CLK_TCK")
    times = {}
    for name, process in processes.items():
        with open(f"/proc/{process.pid}/stat") as stat:
            fields = stat.read().rsplit(")", 1)[1].split()
        times[name] = (int(fields[11]) + int(fields[12])) / tick
    return times


def make_idle_soon(stack):
    """hd-1 and the proxy operator's server close what had no call for a second."""
    for role in ("hd-1", "public-proxy-hyper-1"):
        path = stack.settings / "roles" / role / "settings.yml"
        text = path.read_text()
        assert text.count("useProxy: true\n") == 1
        path.write_text(text.replace("useProxy: true\n", "useProxy: true\n      idle_timeout: 1.0\n"))


def wait_cold(stack, streams):
    def is_cold():
        counts = established(KEPT_PORTS + (stack_module.PROXY_GRPC_PORT,))
        return counts.pop(stack_module.PROXY_GRPC_PORT) <= streams and not any(counts.values())
    stack_module.wait_until(is_cold, 60, "the end of kept connections")


def main():
    figures = Figures(sys.argv[2] if len(sys.argv) > 2 else None)
    stack = make_stack(sys.argv[1])
    try:
        stack.start(*stack_module.ALL)
        stack.setup_directory()
        stack.wait_for_ping(60)
        for _ in range(10):
            curl_ms(stack)
        print("  ping: warm", file=sys.stderr)
        for _ in range(WARM_CALLS):
            figures.add("ping-warm", "stack", "ms", curl_ms(stack))
        check_plane(stack)
        for number in range(CALLER_ROUNDS):
            print(f"  ping: callers, round {number + 1} of {CALLER_ROUNDS}", file=sys.stderr)
            for count in CALLERS:
                before = busy_seconds(stack.processes)
                rate, p50, p99, client_us, _ = callers(stack, count, CALLER_SECONDS if count > 1 else 1)
                calls = rate * (CALLER_SECONDS if count > 1 else 1)
                workload = f"ping-callers-{count}"
                figures.add(workload, "stack", "calls_per_s", rate)
                figures.add(workload, "stack", "p50_ms", p50)
                figures.add(workload, "stack", "p99_ms", p99)
                figures.add(workload, "client", "cpu_us_per_call", client_us)
                for name, seconds in busy_seconds(stack.processes).items():
                    figures.add(workload, name, "cpu_us_per_call", (seconds - before[name]) * 1e6 / calls)
        check_plane(stack)

        stack.stop("hd-1", "proxy-hyper")
        make_idle_soon(stack)
        stack.start("proxy-hyper", "hd-1")
        stack.wait_for_ping(60)
        for number in range(COLD_CALLS):
            print(f"  ping: cold, {number + 1} of {COLD_CALLS}", file=sys.stderr)
            wait_cold(stack, 2)
            figures.add("ping-cold", "stack", "ms", curl_ms(stack))
        stack.check_alive()
    finally:
        stack.stop(kill=True)


if __name__ == "__main__":
    main()
