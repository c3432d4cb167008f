#!/usr/bin/env python3
"""The same layered graph for every build tool, timed in rounds: each tool once, then each once more.

    graph.py --tools kiln,ninja --n 1000,10000 --rounds 5

A graph of N steps has N/100 layers of 100. Step (layer, column) reads two outputs of the layer before it (in the first
layer: two of 100 sources of 10 KiB), and makes `head -qc BYTES a b`. Situations, each one run of the tool:

    first     nothing is there
    no-op     nothing has changed (three times)
    leaf      the first byte of one source has changed: its cone, 2 % of the steps, makes other bytes
    cut-off   the last byte of that source has changed: two steps run, and make the bytes that they made
    times     the source's time has changed, its bytes have not
    back      the source is what it was at first
    restore   outputs (for kiln: links) were deleted, caches stay
    checkout  a new folder with sources and recipe only, caches stay

After every run the last layer's bytes are compared with what they have to be. Printed: medians, the ratio to the first
peer in pairs taken in one round, steps whose output was written anew, greatest memory, and the load.
"""
import argparse, json, os, random, statistics, subprocess, sys, tempfile, threading, time
from tools import KILN, TOOLS, WIDTH, remove

SITUATIONS = ["first", "no-op", "leaf", "cut-off", "times", "back", "restore", "checkout"]


class Graph:
    """Sizes, edges and bytes of the graph, the same on every machine."""

    def __init__(self, steps):
        self.depth = max(1, steps // WIDTH)
        numbers = random.Random(1234)
        self.bytes = [[int(50 * 100 ** numbers.random()) for _ in range(WIDTH)] for _ in range(self.depth)]
        self.steps = [(layer, column) for layer in range(self.depth) for column in range(WIDTH)]

    def output(self, layer, column):
        return f"out/{layer}_{column}"

    def inputs(self, layer, column):
        pair = column ^ 1
        if layer == 0:
            return [f"src/s{column}.txt", f"src/s{pair}.txt"]
        return [self.output(layer - 1, column), self.output(layer - 1, pair)]

    def shell(self, layer, column):
        a, b = self.inputs(layer, column)
        return f"head -qc {self.bytes[layer][column]} {a} {b} > {self.output(layer, column)}"

    def sources(self):
        letters, numbers = b"abcdefghijklmnopqrstuvwxyz0123456789\n", random.Random(99)
        return [bytes(numbers.choice(letters) for _ in range(10240)) for _ in range(WIDTH)]

    def last_layer(self, sources):
        row = sources
        for layer in range(self.depth):
            sizes = self.bytes[layer]
            row = [row[column][:sizes[column]] + row[column ^ 1][:sizes[column]] for column in range(WIDTH)]
        return row


class Workplace:
    """One tool's folder with the graph in it."""

    def __init__(self, tool, graph, base):
        self.tool, self.graph = tool, graph
        self.dir = f"{base}/{tool.name}/w"
        self.sources = graph.sources()
        self.check_out()

    def check_out(self):
        remove(self.dir)
        os.makedirs(f"{self.dir}/src")
        before = time.time() - 1000
        for column, text in enumerate(self.sources):
            with open(self.source(column), "wb") as file:
                file.write(text)
            os.utime(self.source(column), (before, before))
        self.tool.write(self.dir, self.graph)
        self.tool.prepare(self.dir)

    def source(self, column):
        return f"{self.dir}/src/s{column}.txt"

    def edit(self, position, byte):
        text = bytearray(self.sources[0])
        text[position] = byte
        self.sources[0] = bytes(text)
        time.sleep(0.02)        # makes and ninjas compare times of files, in ticks
        with open(self.source(0), "wb") as file:
            file.write(text)

    def looks(self):
        found = {}
        for step in self.graph.steps:
            try:
                state = os.stat(self.tool.output(self.dir, *step))
                found[step] = (state.st_mtime_ns, state.st_ino)
            except OSError:
                pass
        return found

    def run(self, jobs, limit):
        """One run: seconds, MiB of memory, number of outputs written anew."""
        before, environment = self.looks(), {**os.environ, **self.tool.environment(self.dir)}
        log = open(f"{self.dir}.log", "wb")
        began = time.perf_counter()
        process = subprocess.Popen(self.tool.command(self.dir, jobs), cwd=self.dir, env=environment,
                                   stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        # A timer ends it, if need be: a wait with a limit would poll.
        timer = threading.Timer(limit, process.kill)
        timer.start()
        _, status, usage = os.wait4(process.pid, 0)
        timer.cancel()
        seconds = time.perf_counter() - began
        if status != 0:
            with open(f"{self.dir}.log", errors="replace") as log:
                raise RuntimeError(f"{self.tool.name} ended with {status}: {log.read()[-1500:]}")
        self.check()
        after = self.looks()
        anew = sum(1 for step in after if before.get(step) != after[step])
        return seconds, usage.ru_maxrss / 1024, anew

    def check(self):
        for column, text in enumerate(self.graph.last_layer(self.sources)):
            path = self.tool.output(self.dir, self.graph.depth - 1, column)
            with open(path, "rb") as file:
                if file.read() != text:
                    raise RuntimeError(f"{self.tool.name}: {path} has not the bytes that it has to have")


def situations(place):
    """The situations in their order, each with what brings it about."""
    first = place.sources[0][0]
    yield "first", lambda: None
    for _ in range(3):
        yield "no-op", lambda: None
    yield "leaf", lambda: place.edit(0, ord("#"))
    yield "cut-off", lambda: place.edit(-1, ord("#"))
    yield "times", lambda: (time.sleep(0.02), os.utime(place.source(0)))
    yield "back", lambda: place.edit(0, first)
    yield "restore", lambda: place.tool.delete_outputs(place.dir)
    if place.tool.caches:
        yield "checkout", place.check_out


def measure(tools, steps, options):
    """Rows of (round, tool, situation, seconds, MiB, outputs written anew)."""
    graph, rows = Graph(steps), []
    for round_ in range(options.rounds):
        base = tempfile.mkdtemp(prefix="bench-graph-", dir=options.work)
        places = [Workplace(tool, graph, base) for tool in tools]
        runs = [list(situations(place)) for place in places]
        for number in range(max(map(len, runs))):
            for place, own in zip(places, runs):
                if number < len(own):
                    situation, bring_about = own[number]
                    bring_about()
                    seconds, memory, anew = place.run(options.jobs, options.limit)
                    rows.append((round_, place.tool.name, situation, seconds, memory, anew))
        for place in places:
            place.tool.forget(place.dir)
        remove(base)
    return rows


def median(rows, tool, situation, field):
    values = [row[field] for row in rows if row[1] == tool and row[2] == situation]
    return statistics.median(values) if values else None


def ratio(rows, tool, peer, situation):
    """The median over rounds of what the tool took by what the peer took."""
    def by_round(name):
        found = {}
        for row in rows:
            if row[1] == name and row[2] == situation:
                found.setdefault(row[0], []).append(row[3])
        return {number: statistics.median(times) for number, times in found.items()}
    ours, theirs = by_round(tool), by_round(peer)
    pairs = [ours[number] / theirs[number] for number in ours if number in theirs]
    return statistics.median(pairs) if pairs else None


def table(steps, tools, rows, load):
    print(f"\n{steps} steps, medians of {1 + max(row[0] for row in rows)} rounds, load {load[0]:.1f} to {load[1]:.1f}\n")
    print("| tool | " + " | ".join(SITUATIONS) + " | MiB |\n|" + "---|" * (len(SITUATIONS) + 2))
    peer = next((tool.name for tool in tools if not tool.name.startswith("kiln")), None)
    for tool in tools:
        cells = []
        for situation in SITUATIONS:
            seconds = median(rows, tool.name, situation, 3)
            if seconds is None:
                cells.append("–")
                continue
            text = f"{seconds * 1000:,.0f} ms" if seconds < 10 else f"{seconds:,.1f} s"
            against = ratio(rows, tool.name, peer, situation) if peer and tool.name != peer else None
            cells.append(text + (f" ({against:.2f} ×)" if against else ""))
        memory = max(row[4] for row in rows if row[1] == tool.name)
        print(f"| {tool.name} | " + " | ".join(cells) + f" | {memory:.0f} |")
    for tool in tools:
        if tool.name.startswith("kiln") and peer:
            own, other = median(rows, tool.name, "first", 3), median(rows, peer, "first", 3)
            print(f"\n{tool.name}: {(own - other) * 1000 / steps:.2f} ms a step above {peer} in the first build", end="")
    print(flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tools", default="kiln,ninja", help="in the order of their runs: " + ", ".join(TOOLS))
    parser.add_argument("--n", default="1000", help="numbers of steps")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--limit", type=float, default=900, help="seconds after which a run is given up")
    parser.add_argument("--work", default=None, help="where temporary folders are made")
    parser.add_argument("--out", help="a file that gets one JSON line for each run")
    options = parser.parse_args()
    tools = []
    for name in options.tools.split(","):
        tool = TOOLS[name]()
        if tool.available():
            tools.append(tool)
        else:
            print(f"skipped: {name} is not installed" + (f" (KILN={KILN})" if name.startswith("kiln") else ""), file=sys.stderr)
    for steps in map(int, options.n.split(",")):
        fit = [tool for tool in tools if steps <= tool.most]
        before = os.getloadavg()[0]
        rows = measure(fit, steps, options)
        table(steps, fit, rows, (before, os.getloadavg()[0]))
        if options.out:
            with open(options.out, "a") as file:
                for row in rows:
                    file.write(json.dumps(dict(zip(["round", "tool", "situation", "seconds", "mib", "anew"], row), steps=steps)) + "\n")


if __name__ == "__main__":
    main()
