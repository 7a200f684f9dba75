# SPDX-License-Identifier: Apache-2.0
"""Makes docs/bench from the figures of a whole run.

   publish.py RESULTS FOLDER WORK

RESULTS has lines "workload contender figure value", one a round. Into FOLDER go the tables
(README.md between its marks, tables.md), all rounds (data.tsv), the facts of the machine
(machine.txt) and the plots; WORK takes what gnuplot reads. Ends with status 1 if
figures are missing; a goal that was missed is shown, not an error.
"""
import os
import pathlib
import platform
import re
import subprocess
import sys

from results import SPDX, Results, render, title, verdict, version_of, write_markdown

OURS = ("sockmap", "splice", "copy")
PEERS = ("haproxy", "nginx", "socat", "strelaysrv", "coturn")
PLAIN = ("direct", *OURS, *PEERS)
TLS = ("direct-tls", "handed-off", "userspace-tls", "haproxy-tls", "nginx-tls", "stunnel")
TICKETS = (*OURS, "strelaysrv")
SIZES, PAIRS, CALLERS = (64, 1024, 16384), (1, 10, 100, 1000), (1, 4, 16, 64)
CHAT = (("p50_us", ".1f"), ("p99_us", ".0f"), ("p999_us", ".0f"), ("messages_per_s", ".0f"), ("cpu_us_per_message", ".2f"),
        ("client_us_per_message", ".2f"))
TRIP = (("p50_us", ".1f"), ("p99_us", ".0f"), ("p999_us", ".0f"), ("cpu_us_per_message", ".1f"))
BULK = (("gb_per_s", ".2f"), ("cpu_s_per_gb", ".2f"), ("client_s_per_gb", ".2f"), ("resident_mb", ".0f"), ("sockets_mb", ".1f"),
        ("taken_mb", ".0f"))
HEADS = {"p50_us": "p50 us", "p99_us": "p99 us", "p999_us": "p99.9 us", "messages_per_s": "messages/s", "gb_per_s": "GB/s",
         "cpu_us_per_message": "CPU us a message", "client_us_per_message": "of it client", "cpu_s_per_gb": "CPU s/GB",
         "client_s_per_gb": "of it client", "resident_mb": "resident MB", "sockets_mb": "socket buffers MB",
         "taken_mb": "taken from MemAvailable MB", "mb_per_s_a_reader": "MB/s a reader", "joins_per_s": "joins/s",
         "tickets_per_s": "tickets/s before", "cpu_us_per_join": "CPU us a join", "relay_us_per_join": "relay's CPU us a join",
         "refused": "refused", "all_ms": "all, ms",
         "resident_empty_mb": "resident MB, no pairs", "resident_kb_per_pair": "resident KB a pair",
         "slab_kb_per_pair": "kernel objects KB a pair", "all_kb_per_pair": "MemAvailable KB a pair"}


def did(results, workload, name):
    return any(key[0] == workload and key[1] == name for key in results.rounds)


def goal_rows(results):
    """What was measured, the figures, the goal, whether it was reached."""
    median = results.median

    def against(text, workload, figure, form, unit, goal, rivals, better=min, ours="sockmap"):
        mine = median(workload, ours, figure)
        rivals = [name for name in rivals if did(results, workload, name)]
        best, name = results.best(workload, figure, rivals, better)
        share = mine / best
        reached = share <= goal if better is min else share >= goal
        return (text, f"{mine:{form}} : {best:{form}} {unit} ({title(name)}) = {share:.2f}",
                f"{'<=' if better is min else '>='} {goal:g}", verdict(reached))

    yield against("64 B round trip, one pair, p50: sockmap to the direct connection", "chat-1-64", "p50_us", ".1f", "us", 1.35, ("direct",))
    yield against("the same, to the best userspace relay", "chat-1-64", "p50_us", ".1f", "us", 0.5, PEERS)
    yield against("p99 of 100 chatting pairs beside a bulk pair, to the best", "mixed", "p99_us", ".0f", "us", 0.5, PEERS)
    yield against("bulk, one pair, to the best", "bulk-1", "gb_per_s", ".2f", "GB/s", 1.1, PEERS, max)
    yield against("CPU for it, to the best", "bulk-1", "cpu_s_per_gb", ".2f", "s/GB", 0.9, PEERS)
    yield against("messages a second, 200 pairs, to the best", "chat", "messages_per_s", ".0f", "/s", 1.3, PEERS, max)
    yield against("joins a second, 64 in flight, to syncthing-relaysrv", "joins-64", "joins_per_s", ".0f", "/s", 3, ("strelaysrv",), max)
    step = "idle-4000"
    mine, haproxy = (median(step, name, "resident_kb_per_pair") for name in ("proxy", "haproxy"))
    yield ("resident memory of an idle pair, proxy to HAProxy", f"{mine:.2f} : {haproxy:.2f} KB = {mine / haproxy:.2f}", "<= 0.25",
           verdict(mine / haproxy <= 0.25))


def shown_rows(results):
    """Not goals: the same questions asked in another way."""
    median = results.median

    def pair(text, workload, figure, form, unit, ours, other):
        mine, theirs = median(workload, ours, figure), median(workload, other, figure)
        return text, f"{mine:{form}} : {theirs:{form}} {unit} = {mine / theirs:.2f}"

    yield pair("64 B round trip when one thread holds both ends (nothing of the client sleeps): sockmap to direct", "trip-64", "p50_us",
               ".1f", "us", "sockmap", "direct")
    for other in ("haproxy", "copy", "splice"):
        yield pair(f"the same to {title(other)}", "trip-64", "p50_us", ".1f", "us", "sockmap", other)
    for ours in ("splice", "copy"):
        best, name = results.best("bulk-1", "gb_per_s", [name for name in PEERS if did(results, "bulk-1", name)], max)
        mine = median("bulk-1", ours, "gb_per_s")
        yield (f"bulk, one pair: {ours} to the best contender", f"{mine:.2f} : {best:.2f} GB/s ({title(name)}) = {mine / best:.2f}")
    yield pair("messages a second, 200 pairs: sockmap to our own copy", "chat", "messages_per_s", ".0f", "/s", "sockmap", "copy")
    yield pair("kernel objects of an idle pair, all four sockets: sockmap to HAProxy", "idle", "slab_kb_per_pair", ".1f", "KB", "sockmap", "haproxy")
    yield pair("bulk with TLS, one pair: handed off to HAProxy that decrypts and encrypts", "tls-bulk-1", "gb_per_s", ".2f", "GB/s",
               "handed-off", "haproxy-tls")
    yield pair("64 B round trip with TLS, one pair: handed off to HAProxy", "tls-chat-1-64", "p50_us", ".1f", "us", "handed-off", "haproxy-tls")


def cells(results, workload, name, figures):
    for figure, form in figures:
        if (workload, name, figure) not in results.rounds:
            yield "-"
            continue
        low, high = results.spread(workload, name, figure)
        yield f"{results.median(workload, name, figure):{form}} ({low:{form}}–{high:{form}})"


def table(results, text, workload, figures, names):
    heads = ["contender"] + [HEADS.get(figure, figure.replace("_", " ")) for figure, _ in figures]
    return text, heads, [[title(name), *cells(results, workload, name, figures)] for name in names if did(results, workload, name)]


def control_table(results):
    rows = []
    for count in CALLERS:
        workload = f"ping-callers-{count}"
        rows.append([str(count), *cells(results, workload, "stack", [("calls_per_s", ".0f"), ("p50_ms", ".2f"), ("p99_ms", ".2f")]),
                     *(f"{results.median(workload, name, 'cpu_us_per_call'):.0f}" for name in ("hd-1", "hd-2", "proxy", "client"))])
    return ("ping through the whole stack, callers that keep their connections; CPU in us a call",
            ["callers", "calls/s", "p50 ms", "p99 ms", "hd-1", "hd-2", "proxy", "client"], rows)


def redirected_table(results):
    workloads = sorted({key[0] for key in results.rounds if key[2] == "redirected"})
    names = ("sockmap", "handed-off")
    rows = [[workload, *(f"{100 * results.median(workload, name, 'redirected'):.1f} %" if (workload, name, "redirected") in results.rounds else "-"
                         for name in names)] for workload in workloads]
    rows = [row for row in rows if any(cell != "-" for cell in row[1:])]
    return "bytes that the kernel redirected (the rest was moved by the daemon)", ["workload", "sockmap", "handed off"], rows


def size_text(size):
    return f"{size} B" if size < 1024 else f"{size // 1024} KiB"


def main_tables(results):
    """Those of the page itself."""
    for pairs in PAIRS:
        yield table(results, f"64 B round trip, {pairs} pair{'s' * (pairs > 1)}", f"chat-{pairs}-64", CHAT, PLAIN)
    yield table(results, "200 pairs, 64 B", "chat", CHAT, PLAIN + ("bare",))
    for pairs in (1, 10, 100):
        yield table(results, f"bulk, {pairs} pair{'s' * (pairs > 1)}, one way", f"bulk-{pairs}", BULK, PLAIN)
    mixed = [figure for figure in CHAT if figure[0] not in ("cpu_us_per_message", "client_us_per_message")] + [("gb_per_s", ".2f")]
    yield table(results, "100 pairs that chat with 64 B beside one bulk pair", "mixed", mixed, PLAIN)
    memory = [("resident_mb", ".0f"), ("sockets_mb", ".0f"), ("taken_mb", ".0f")]
    yield table(results, "100 readers of 1 MB/s behind writers at full speed, the most of each", "slow-readers", memory + [("mb_per_s_a_reader", ".2f")], PLAIN)
    yield table(results, "100 writers of single bytes that nobody reads, the most of each", "segments", memory, PLAIN)
    joins = [("joins_per_s", ".0f"), ("p50_us", ".0f"), ("p99_us", ".0f"), ("cpu_us_per_join", ".0f"), ("relay_us_per_join", ".0f"),
             ("refused", ".0f"), ("tickets_per_s", ".0f")]
    yield table(results, "joins, 1 in flight", "joins-1", joins, TICKETS)
    yield table(results, "joins, 64 in flight", "joins-64", joins, TICKETS)
    storm = [("all_ms", ".0f"), ("joins_per_s", ".0f"), ("p50_us", ".0f"), ("p99_us", ".0f"), ("relay_us_per_join", ".0f"), ("refused", ".0f")]
    yield table(results, "a storm of 5,000 joins at once", "storm", storm, TICKETS)
    idle = [("resident_empty_mb", ".1f"), ("resident_mb", ".1f"), ("resident_kb_per_pair", ".2f"), ("slab_kb_per_pair", ".1f"), ("all_kb_per_pair", ".1f")]
    yield table(results, "4,000 idle pairs (the relay library in its test host; the kernel's part is for all four sockets, with direct for two)",
                "idle", idle, [name for name in PLAIN if name != "socat"])
    proxy = [("resident_kb", ".0f"), ("resident_kb_per_pair", ".2f"), ("kernel_kb_per_pair", ".1f")]
    yield table(results, "4,000 idle pairs, the whole proxy", "idle-4000", proxy, ("direct", "haproxy", "proxy"))
    yield control_table(results)
    for size in (64, 16384):
        yield table(results, f"TLS: {size_text(size)} round trip, one pair", f"tls-chat-1-{size}", CHAT, TLS)
    yield table(results, "TLS: bulk, one pair, one way", "tls-bulk-1", BULK, TLS)
    yield redirected_table(results)


def other_tables(results):
    for size in SIZES:
        yield table(results, f"{size_text(size)} there and back, one pair, one thread that holds both ends", f"trip-{size}", TRIP, PLAIN)
    for pairs in PAIRS:
        for size in SIZES[1:]:
            yield table(results, f"{size_text(size)} round trip, {pairs} pair{'s' * (pairs > 1)}", f"chat-{pairs}-{size}", CHAT, PLAIN)
    yield table(results, "200 pairs, 64 B, pauses of 20 ms", "chat-pauses", CHAT, PLAIN)
    for pairs in (1, 10, 100):
        yield table(results, f"bulk, {pairs} pair{'s' * (pairs > 1)}, both ways", f"bulk-{pairs}-both", BULK, PLAIN)
    for size in (64, 16384):
        yield table(results, f"TLS: {size_text(size)} round trip, 100 pairs", f"tls-chat-100-{size}", CHAT, TLS)
    yield table(results, "TLS: bulk, 10 pairs, one way", "tls-bulk-10", BULK, TLS)


def text_of(tables):
    return "\n\n".join(f"{text}:\n\n{render(heads, rows, True)}" for text, heads, rows in tables if rows)


def package_version(name):
    done = subprocess.run(["dpkg-query", "-W", "-f=${Version}", name], stdout=subprocess.PIPE, text=True, check=False)
    return done.stdout or "?"


def versions():
    return {"HAProxy": version_of("haproxy", "-v"), "nginx": package_version("nginx"), "socat": version_of("socat", "-V"),
            "syncthing-relaysrv": package_version("syncthing-relaysrv"), "coturn": package_version("coturn"),
            "stunnel": package_version("stunnel4"), "OpenSSL": version_of("openssl", "version")}


def setting(name):
    return pathlib.Path("/proc/sys", name).read_text().strip()


def machine_line(rounds):
    model = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    memory = int(re.search(r"MemTotal:\s*(\d+)", pathlib.Path("/proc/meminfo").read_text()).group(1))
    return (f"{os.cpu_count()} processors ({model.group(1) if model else platform.machine()}), {memory / 1048576:.0f} GB, Linux {platform.release()}, "
            f"{setting('net/ipv4/tcp_congestion_control')} as congestion control; medians of {rounds} rounds, least and most behind them. "
            + ", ".join(f"{name} {version}" for name, version in versions().items()) + ".")


def write_machine(path):
    parts = [platform.uname().release + " " + platform.uname().version]
    for command in (["lscpu"], ["free", "-m"]):
        parts.append(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False).stdout.rstrip())
    names = ("net/ipv4/tcp_congestion_control", "net/ipv4/tcp_rmem", "net/ipv4/tcp_wmem", "net/ipv4/tcp_mem", "net/core/somaxconn",
             "net/core/rmem_max", "net/core/wmem_max", "net/ipv4/ip_local_port_range", "kernel/sched_autogroup_enabled")
    parts.append("\n".join(f"{name.replace('/', '.')} = {setting(name)}" for name in names if pathlib.Path("/proc/sys", name).exists()))
    parts.append("\n".join(f"{name} {version}" for name, version in versions().items()))
    path.write_text("\n\n".join(parts) + "\n")


def write_data(results, path):
    lines = ["workload\tcontender\tfigure\trounds"]
    for (workload, contender, figure), values in sorted(results.rounds.items()):
        lines.append("\t".join([workload, contender, figure, *(f"{value:g}" for value in values)]))
    path.write_text("\n".join(lines) + "\n")


def write_plot_data(results, work):
    """A file for each plot: name, then median, least and most of each figure; what was not measured is left out."""
    def lines(name, rows, quote=True):
        text = "\n".join(" ".join([f'"{label}"' if quote else str(label), *(f"{value:g}" for value in values)]) for label, *values in rows)
        (work / f"{name}.dat").write_text(text + "\n")

    def three(workload, name, figure):
        return (results.median(workload, name, figure), *results.spread(workload, name, figure))

    def named(workload, figures, names):
        return [(title(name), *(value for figure in figures for value in three(workload, name, figure)))
                for name in names if all((workload, name, figure) in results.rounds for figure in figures)]

    lines("round_trip", named("chat-1-64", ("p50_us", "p99_us"), PLAIN))
    lines("mixed", named("mixed", ("p50_us", "p99_us"), PLAIN))
    for workload, names in (("bulk-1", PLAIN), ("tls-bulk-1", TLS)):
        for name in names:
            lines(f"bulk_{name}", named(workload, ("gb_per_s", "cpu_s_per_gb"), (name,)))
    lines("joins", [(title(name), *(results.median(workload, name, "joins_per_s") for workload in ("joins-1", "joins-64", "storm")))
                    for name in TICKETS if did(results, "storm", name)])
    lines("idle", [(title(name), results.median("idle", name, "resident_kb_per_pair"), results.median("idle", name, "slab_kb_per_pair"))
                   for name in PLAIN if did(results, "idle", name)])
    lines("tls", named("tls-chat-1-64", ("p50_us",), TLS))
    for name in PLAIN:
        lines(f"cpu_{name}", [(pairs, results.median(f"chat-{pairs}-64", name, "cpu_us_per_message")) for pairs in PAIRS
                              if did(results, f"chat-{pairs}-64", name)], quote=False)


def plot(work, folder):
    script = pathlib.Path(__file__).with_name("plots.gp")
    for kind in ("svg", "png"):
        subprocess.run(["gnuplot", "-e", f"kind='{kind}'; work='{work}'; folder='{folder}'", str(script)], check=True)


def main():
    results, folder, work = Results(sys.argv[1]), pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3])
    folder.mkdir(parents=True, exist_ok=True)
    work.mkdir(parents=True, exist_ok=True)
    rounds = max(len(values) for key, values in results.rounds.items() if not key[0].startswith("ping-"))
    goals = list(goal_rows(results))
    heads = ["figure", "measured", "goal", ""]
    page = "\n\n".join([machine_line(rounds), render(heads, goals, True), "Shown beside the goals:",
                        render(["figure", "measured"], list(shown_rows(results)), True), text_of(main_tables(results))])
    write_markdown(folder / "README.md", page)
    (folder / "tables.md").write_text(SPDX + "# More tables\n\nMade with those of [README.md](README.md), from the same run.\n\n" + text_of(other_tables(results)) + "\n")
    write_data(results, folder / "data.tsv")
    write_machine(folder / "machine.txt")
    write_plot_data(results, work)
    plot(work, folder)
    print(render(heads, goals, False))
    if results.missing:
        raise SystemExit("publish: no figures for: " + ", ".join(sorted(set(results.missing))))


if __name__ == "__main__":
    main()
