# SPDX-License-Identifier: Apache-2.0
"""What the reports share: figures read from a file of lines "workload contender figure
value", one a round; tables; and the marks between which they go into a page."""
import collections
import pathlib
import re
import statistics
import subprocess

TITLES = {"haproxy": "HAProxy", "strelaysrv": "syncthing-relaysrv", "stack": "whole stack", "direct-tls": "direct",
          "userspace-tls": "userspace TLS", "handed-off": "handed off", "haproxy-tls": "HAProxy", "nginx-tls": "nginx",
          "bare": "redirect without any rule"}


class Results:
    def __init__(self, path):
        self.rounds = collections.defaultdict(list)
        for line in pathlib.Path(path).read_text().splitlines():
            workload, contender, figure, value = line.split()
            self.rounds[workload, contender, figure].append(float(value))
        self.missing = []

    def median(self, workload, contender, figure):
        values = self.rounds.get((workload, contender, figure))
        if not values:
            self.missing.append(f"{workload} {contender} {figure}")
            return float("nan")
        return statistics.median(values)

    def spread(self, workload, contender, figure):
        values = self.rounds.get((workload, contender, figure)) or [float("nan")]
        return min(values), max(values)

    def best(self, workload, figure, names, better=min):
        """The best of the named, and its name."""
        return better((self.median(workload, name, figure), name) for name in names)


def title(name):
    return TITLES.get(name, name)


def verdict(reached):
    return "reached" if reached else "MISSED"


def version_of(*command):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    return re.search(r"\d+\.\d+[\w.+~-]*", done.stdout).group(0)


def render(heads, rows, markdown):
    if markdown:
        lines = ["| " + " | ".join(heads) + " |", "|" + " --- |" * len(heads)]
        return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])
    widths = [max(len(str(row[at])) for row in [heads, *rows]) for at in range(len(heads))]
    return "\n".join("  " + "  ".join(str(cell).ljust(width) for cell, width in zip(row, widths)).rstrip() for row in [heads, *rows])


SPDX = "<!-- SPDX-License-Identifier: Apache-2.0 -->\n"


def write_markdown(path, text):
    path = pathlib.Path(path)
    old = path.read_text() if path.exists() else "<!-- figures -->\n<!-- /figures -->\n"
    begin, end = "<!-- figures -->\n", "<!-- /figures -->"
    if begin not in old or end not in old:
        raise SystemExit(f"report: {path} has no lines <!-- figures --> and <!-- /figures -->")
    path.write_text(SPDX + old.removeprefix(SPDX).split(begin)[0] + begin + "\n" + text + "\n\n" + end + old.split(end, 1)[1])
