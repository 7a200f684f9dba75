# SPDX-License-Identifier: Apache-2.0
"""Reads figures (lines "workload contender figure value", one a round) and prints the table
of goals, and what else was measured, as medians.

   report.py RESULTS [MARKDOWN]

With MARKDOWN the tables go into that file too, between its lines <!-- figures --> and
<!-- /figures -->, or as the whole file if it is not there yet. Ends with status 1 if
figures are missing; a goal that was missed is shown, not an error.
"""
import os
import pathlib
import platform
import re
import sys

from results import Results, render, title, verdict, version_of, write_markdown

CONTENDERS = ("direct", "sockmap", "splice", "copy", "haproxy", "socat")


def goal_rows(results):
    """What was measured, the figure, the goal, whether it was reached."""
    rivals = ("haproxy", "copy", "splice")
    median = results.median

    def ratio(workload, figure, text, unit, goal):
        ours = median(workload, "sockmap", figure)
        best, name = results.best(workload, figure, rivals)
        yield (f"{text}, sockmap : best of HAProxy, copy, splice", f"{ours:.1f} : {best:.1f} {unit} ({title(name)}) = {ours / best:.2f}",
               f"<= {goal:.2f}", verdict(ours / best <= goal))

    yield from ratio("round-trip", "p50_us", "64 B round trip, one pair, p50", "us", 0.55)
    yield from ratio("chat", "cpu_us_per_message", "CPU of the machine per message, 200 pairs", "us", 0.65)
    bare, ours = (median("chat", name, "cpu_us_per_message") for name in ("bare", "sockmap"))
    yield ("the same, a redirect without any rule, which is not a relay: what the kernel's way itself costs",
           f"{bare:.1f} us; sockmap beyond it {ours - bare:.1f}", "shown", "-")
    yield from ratio("chat-pauses", "cpu_us_per_message", "the same, with pauses of 20 ms", "us", 0.65)
    sockmap, splice = (median("bulk", name, "gb_per_s") for name in ("sockmap", "splice"))
    yield ("bulk, one pair, sockmap : splice", f"{sockmap:.2f} : {splice:.2f} GB/s = {sockmap / splice:.2f}", ">= 0.95",
           verdict(sockmap / splice >= 0.95))
    for name in ("splice", "copy"):
        ours = median("bulk", name, "gb_per_s")
        best, peer = results.best("bulk", "gb_per_s", ("haproxy", "socat"), max)
        yield (f"bulk, {name} : better of HAProxy, socat", f"{ours:.2f} : {best:.2f} GB/s ({title(peer)}) = {ours / best:.2f}",
               ">= 0.90", verdict(ours / best >= 0.9))
        ours = median("bulk", name, "cpu_s_per_gb")
        best, peer = results.best("bulk", "cpu_s_per_gb", ("haproxy", "socat"))
        yield (f"CPU of the machine for bulk, {name} : better of HAProxy, socat",
               f"{ours:.2f} : {best:.2f} s/GB ({title(peer)}) = {ours / best:.2f}", "<= 1.10", verdict(ours / best <= 1.1))
    warm, cold = (median(f"ping-{kind}", "stack", "ms") for kind in ("warm", "cold"))
    yield ("ping hd-1 to hd-2, warm, after curl's handshake", f"{warm:.2f} ms", "<= 2 ms", verdict(warm <= 2))
    yield ("the same, cold", f"{cold:.1f} ms", "<= 20 ms", verdict(cold <= 20))
    rate = median("ping-callers-16", "stack", "calls_per_s")
    yield ("ping, 16 keep-alive callers", f"{rate:.0f} calls/s", ">= 1000 (aim: 2000)", verdict(rate >= 1000))
    joins, p50 = (median("joins", "sockmap", figure) for figure in ("joins_per_s", "p50_us"))
    yield ("complete joins, 16 in flight, sockmap", f"{joins:.0f} /s, p50 {p50 / 1e3:.2f} ms", "shown", "-")
    resident = median("idle", "proxy", "resident_kb")
    yield ("resident set of the idle proxy", f"{resident / 1024:.1f} MB", "< 10 MB", verdict(resident < 10240))
    step = max((key[0] for key in results.rounds if key[0].startswith("idle-") and key[1] == "proxy"),
               key=lambda name: int(name[5:]), default="idle-0")
    mine, haproxy = (median(step, name, "resident_kb_per_pair") for name in ("proxy", "haproxy"))
    yield (f"resident set per idle pair ({step[5:]} pairs), proxy", f"{mine:.2f} KB (HAProxy: {haproxy:.2f})", "<= 2 KB",
           verdict(mine <= 2))
    kernel = {name: median(step, name, "kernel_kb_per_pair") for name in ("proxy", "haproxy", "direct")}
    yield (f"resident set with {step[5:]} idle pairs, proxy", f"{median(step, 'proxy', 'resident_kb') / 1024:.1f} MB"
           f" (HAProxy: {median(step, 'haproxy', 'resident_kb') / 1024:.1f})", "shown", "-")
    yield ("kernel memory per idle pair, all four sockets, proxy",
           f"{kernel['proxy']:.1f} KB (HAProxy: {kernel['haproxy']:.1f}; two sockets, direct: {kernel['direct']:.1f})", "shown", "-")


def detail_tables(results):
    """(title, heads, rows) of each table behind the goals."""
    def cells(workload, name, figures):
        for figure, form in figures:
            value = results.median(workload, name, figure)
            low, high = results.spread(workload, name, figure)
            yield f"{value:{form}} ({low:{form}}–{high:{form}})"

    def table(text, workload, figures, names=CONTENDERS):
        heads = ["contender"] + [figure.replace("_", " ") for figure, _ in figures]
        return text, heads, [[title(name), *cells(workload, name, figures)] for name in names]

    yield table("64 B round trip, one pair", "round-trip", [("p50_us", ".1f"), ("p99_us", ".0f"), ("cpu_us_per_message", ".1f")])
    chat = [("cpu_us_per_message", ".1f"), ("client_us_per_message", ".1f"), ("messages_per_s", ".0f"), ("p50_us", ".0f"), ("p99_us", ".0f")]
    yield table("200 chatting pairs, no pauses", "chat", chat, CONTENDERS + ("bare",))
    yield table("200 chatting pairs, pauses of 20 ms", "chat-pauses", chat)
    yield table("bulk, one pair, one way", "bulk", [("gb_per_s", ".2f"), ("cpu_s_per_gb", ".2f")])
    yield table("complete joins, 16 in flight", "joins",
                [("joins_per_s", ".0f"), ("p50_us", ".0f"), ("p99_us", ".0f"), ("cpu_us_per_join", ".0f"), ("client_us_per_join", ".0f")],
                ("sockmap", "splice", "copy"))
    rows = []
    for count in (1, 16):
        workload = f"ping-callers-{count}"
        rows.append([str(count), *cells(workload, "stack", [("calls_per_s", ".0f"), ("p50_ms", ".2f"), ("p99_ms", ".2f")]),
                     *(f"{results.median(workload, name, 'cpu_us_per_call'):.0f}" for name in ("hd-1", "hd-2", "proxy", "client"))])
    yield ("ping through the whole stack, keep-alive callers; CPU in us per call",
           ["callers", "calls per s", "p50 ms", "p99 ms", "hd-1", "hd-2", "proxy", "client"], rows)
    shares = [[name, *(f"{100 * results.median(workload, name, 'redirected'):.1f} %" for workload in ("round-trip", "chat", "bulk"))]
              for name in ("sockmap",)]
    yield "bytes that the kernel redirected", ["plane", "round trip", "chat", "bulk"], shares


def machine_facts():
    model = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    memory = int(re.search(r"MemTotal:\s*(\d+)", pathlib.Path("/proc/meminfo").read_text()).group(1))
    congestion = pathlib.Path("/proc/sys/net/ipv4/tcp_congestion_control").read_text().strip()
    return (f"{os.cpu_count()} processors ({model.group(1) if model else platform.machine()}), {memory / 1048576:.0f} GB, "
            f"Linux {platform.release()}, {congestion} as congestion control, HAProxy {version_of('haproxy', '-v')}, socat {version_of('socat', '-V')}")


def text_of(results, markdown):
    heads = ["figure", "measured", "goal", ""]
    parts = [machine_facts(), render(heads, list(goal_rows(results)), markdown)]
    for text, table_heads, rows in detail_tables(results):
        parts += [f"{text}:", render(table_heads, rows, markdown)]
    return "\n\n".join(parts)


def main():
    results = Results(sys.argv[1])
    print(text_of(results, False))
    if len(sys.argv) > 2 and sys.argv[2]:
        write_markdown(sys.argv[2], text_of(results, True))
    if results.missing:
        raise SystemExit("report: no figures for: " + ", ".join(sorted(set(results.missing))))


if __name__ == "__main__":
    main()
