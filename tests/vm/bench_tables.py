# SPDX-License-Identifier: Apache-2.0
"""The tables of docs/bench/guest.md from the figures of bench.py."""
import sys
import time

REFERENCE = "copy-tls"
ROWS = (  # contender, how the table calls it, the client's own cost
    ("copy-tls", "`copy`, userspace TLS", "direct-tls"),
    ("haproxy-tls", "HAProxy, TLS on both sides", "direct-tls"),
    ("ktls-copy", "`copy`, kTLS (no pipe left)", "direct-tls"),
    ("ktls-splice", "`ktls-splice`", "direct-tls"),
    ("handed-off-copy", "`copy`, handed off", "direct-plain"),
    ("handed-off-splice", "`splice`, handed off", "direct-plain"),
    ("handed-off-sockmap", "`sockmap`, handed off", "direct-plain"),
)
WORKLOADS = (
    ("records-16384", "Records of 16,384 bytes", "bytes", 1e6, "MB"),
    ("records-1000", "Records of 1,000 bytes", "bytes", 1e6, "MB"),
    ("trips-64", "Round trips of 64 bytes", "messages", 1, "message"),
)
PATH_TITLES = {
    "1-ms": "1 ms, 100 Mbit/s", "20-ms": "20 ms, 100 Mbit/s", "100-ms": "100 ms, 100 Mbit/s",
    "100-ms-sender": "100 ms on the sender's side, 100 Mbit/s", "100-ms-wide": "100 ms, 1 Gbit/s",
    "600-ms": "600 ms, 20 Mbit/s",
    "20-ms-loss": "20 ms, 100 Mbit/s, 0.1 % loss", "100-ms-loss": "100 ms, 100 Mbit/s, 0.1 % loss",
}
PATH_ROWS = ("direct", "sockmap", "splice", "copy")


class Costs:
    """Of one kernel. Instructions, as the guest's clock counts them."""

    def __init__(self, kernel, figures):
        self.kernel, self.figures, self.missing = kernel, figures, []

    def get(self, workload, contender, figure):
        value = self.figures.get((workload, contender, figure))
        if value is None:
            self.missing.append(f"{self.kernel}: no figure {workload} {contender} {figure}")
            return float("nan")
        return value

    def per(self, workload, contender, figure, unit):
        return self.get(workload, contender, figure) / self.get(workload, contender, unit)

    def relayed(self, workload, contender, unit):
        """Of the relay's process and the kernel's workers."""
        return self.per(workload, contender, "relay_ns", unit) + self.per(workload, contender, "kernel_ns", unit)

    def beyond(self, workload, contender, floor, unit):
        """Of all of the machine, less what a direct connection costs."""
        return self.per(workload, contender, "all_ns", unit) - self.per(workload, floor, "all_ns", unit)

    def cheaper(self, workload, contender, unit):
        return self.relayed(workload, REFERENCE, unit) / self.relayed(workload, contender, unit)


def show(value):
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"


def cost_table(costs, workload, title, unit, scale, name):
    """In thousands of instructions a message or MB."""
    factor = scale / 1000
    lines = [f"{title}, thousand instructions a {name}:", "",
             f"| | relay | kernel's workers | together | reference : it | in 1,000 a message | all of the machine | of that beyond a direct connection | redirected |",
             "| --- | --- | --- | --- | --- | --- | --- | --- | --- |"]
    for contender, label, floor in ROWS:
        together = costs.relayed(workload, contender, unit)
        redirected = costs.figures.get((workload, contender, "redirected"))
        lines.append(
            f"| {label} | {show(costs.per(workload, contender, 'relay_ns', unit) * factor)} "
            f"| {show(costs.per(workload, contender, 'kernel_ns', unit) * factor)} | {show(together * factor)} "
            f"| {costs.cheaper(workload, contender, unit):.2f} | {show(costs.relayed(workload, contender, 'messages') / 1000)} "
            f"| {show(costs.per(workload, contender, 'all_ns', unit) * factor)} "
            f"| {show(costs.beyond(workload, contender, floor, unit) * factor)} "
            f"| {'' if redirected is None else f'{redirected * 100:.0f} %'} |")
    for contender, label in (("direct-tls", "direct connection with TLS"), ("direct-plain", "direct connection, plain")):
        lines.append(f"| {label} | | | | | | {show(costs.per(workload, contender, 'all_ns', unit) * factor)} | | |")
    return lines + [""]


def goal_row(costs, text, value, goal="", reached=None):
    verdict = {None: "", True: "reached", False: "MISSED"}[reached]
    return f"| {costs.kernel} | {text} | {value:.2f} | {goal} | {verdict} |"


def goal_rows(costs):
    def row(*cells):
        return goal_row(costs, *cells)

    for workload, title, *_ in WORKLOADS[:2]:
        value = costs.cheaper(workload, "handed-off-sockmap", "bytes")
        yield row(f"handed-off `sockmap`, {title.lower()}: times cheaper a MB than the reference", value, ">= 6", value >= 6)
    value = 1 / costs.cheaper("records-16384", "ktls-splice", "bytes")
    yield row("`ktls-splice`, records of 16,384 bytes: cost against the reference", value, "<= 1.05", value <= 1.05)
    value = costs.cheaper("records-1000", "ktls-splice", "bytes")
    yield row("`ktls-splice`, records of 1,000 bytes: times cheaper a MB than the reference", value, ">= 1.5", value >= 1.5)
    for name, label in (("handed-off-sockmap", "handed-off `sockmap`"), ("ktls-splice", "`ktls-splice`")):
        for workload, title, *_ in WORKLOADS[:2]:
            value = costs.relayed(workload, name, "bytes") / costs.relayed(workload, "haproxy-tls", "bytes")
            yield row(f"{label}, {title.lower()}: cost a MB against HAProxy with TLS", value)


def path_goal_rows(costs):
    for label in ("100-ms", "100-ms-sender", "100-ms-wide", "600-ms"):
        for name in PATH_ROWS[1:]:
            value = costs.get(f"path-{label}", name, "mb_per_s") / costs.get(f"path-{label}", "direct", "mb_per_s")
            yield goal_row(costs, f"one pair on `{name}` over {PATH_TITLES[label]}, against the direct connection", value, ">= 0.95", value >= 0.95)


def path_lines(costs):
    lines = [f"### Slow paths, Linux {costs.kernel}", "",
             "| path | " + " | ".join(f"{name}, MB/s" for name in PATH_ROWS) + " | sockmap : direct | splice : direct | copy : direct "
             "| redirected | round trip beyond the direct one, us: sockmap | splice | copy |",
             "| --- " * (len(PATH_ROWS) + 8) + "|"]
    for label in PATH_TITLES:
        workload = f"path-{label}"
        rates = [costs.get(workload, name, "mb_per_s") for name in PATH_ROWS]
        trips = [costs.get(workload, name, "trip_us") for name in PATH_ROWS]
        lines.append(f"| {PATH_TITLES[label]} | " + " | ".join(f"{rate:.2f}" for rate in rates) + " | " +
                     " | ".join(f"{rate / rates[0]:.2f}" for rate in rates[1:]) +
                     f" | {costs.get(workload, 'sockmap', 'redirected') * 100:.1f} % | " +
                     " | ".join(f"{trip - trips[0]:.0f}" for trip in trips[1:]) + " |")
    return lines + [""]


def unaccounted(costs):
    """Everything that the machine did must be somebody's: else the columns mean little."""
    for (workload, contender, figure), value in costs.figures.items():
        if figure != "all_ns":
            continue
        parts = sum(costs.get(workload, contender, part) for part in ("relay_ns", "kernel_ns", "client_ns"))
        if abs(parts - value) > 0.05 * value:
            yield f"{costs.kernel}: {workload} {contender}: {parts / value * 100:.0f} % of the machine's time is accounted for"


def write_tables(figures, path):
    """Prints the tables, and puts them into the file if there is one. Returns what is missing."""
    goals, tables, problems = [], [], []
    for kernel, values in figures.items():
        costs = Costs(kernel, values)
        if any(workload == "records-16384" for workload, _, _ in values):
            goals += goal_rows(costs)
            tables += [f"### Linux {kernel}", ""]
            for workload in WORKLOADS:
                tables += cost_table(costs, workload[0], workload[1], *workload[2:])
            problems += unaccounted(costs)
        if any(workload.startswith("path-") for workload, _, _ in values):
            goals += path_goal_rows(costs)
            tables += path_lines(costs)
        problems += costs.missing
    if goals:
        goals = ["| kernel | figure | measured | goal | |", "| --- | --- | --- | --- | --- |", *goals, ""]
    text = "\n".join([f"Run on {time.strftime('%Y-%m-%d')}.", "", *goals, *tables]) + "\n"
    print(text)
    if path:
        with open(path) as source:
            whole = source.read()
        begin, end = "<!-- vm-bench begin -->\n", "<!-- vm-bench end -->"
        if begin not in whole or end not in whole:
            sys.exit(f"bench.py: {path} has no vm-bench marks")
        head, rest = whole.split(begin, 1)
        with open(path, "w") as target:
            target.write(head + begin + text + end + rest.split(end, 1)[1])
    return sorted(set(problems))
