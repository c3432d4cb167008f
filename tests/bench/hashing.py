#!/usr/bin/env python3
"""Large sources, kiln beside b3sum, in pairs: one file of 2 GiB, and a tree of 100,000 files of 1 to 8 KB.

    hashing.py --rounds 5 [--files 100000] [--gigabytes 2]

kiln builds a recipe with one step that does nothing but exist; the source is new to it each time (an empty store), or
known (nothing has changed). b3sum reads the same bytes: the file with as many threads as there are processors, the tree
through `find | xargs -0`. `stat` is the time of a walk that looks at each file once, by `find -printf`. All bytes are in
the page cache.
"""
import argparse, os, random, shutil, statistics, subprocess, sys, tempfile, time
from pathlib import Path
from tools import KILN, remove

RECIPE = 'name = "hashing"\n[sources]\ndata = "data"\n[steps.use]\nrun = "test -e ${sources.data}; : > ${out}"\n'


def big_file(path, gigabytes):
    block = random.Random(5).randbytes(1 << 20)
    with open(path, "wb") as file:
        for number in range(int(gigabytes * 1024)):
            file.write(number.to_bytes(8, "little") + block[8:])


def small_files(path, count):
    numbers = random.Random(6)
    block = numbers.randbytes(1 << 16)
    for number in range(count):
        if number % 1000 == 0:
            folder = path / str(number // 1000)
            folder.mkdir(parents=True)
        size, begin = numbers.randint(1024, 8192), numbers.randint(0, 50000)
        (folder / str(number % 1000)).write_bytes(number.to_bytes(8, "little") + block[begin:begin + size - 8])


def timed(command, **options):
    """Seconds, and MiB of the process itself."""
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, **options)
    said = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        raise RuntimeError(f"{command} ended with {status}: {said.decode(errors='replace')[-1500:]}")
    return time.perf_counter() - began, usage.ru_maxrss / 1024


def compare(name, dir, peers, rounds):
    store = dir / "store"
    environment = {**os.environ, "KILN_HOME": str(store), "NO_COLOR": "1"}
    build = [KILN, "build", "-C", str(dir / "project")]
    took = {key: [] for key in ["kiln, new", "kiln, known", *peers]}
    memory = 0
    for _ in range(rounds):
        remove(store)
        for key in took:
            if key in peers:
                took[key].append(timed(["bash", "-c", peers[key]], cwd=dir / "project")[0])
            else:
                seconds, mib = timed(build, env=environment)
                took[key].append(seconds)
                memory = max(memory, mib)
    first_peer = next(iter(peers))
    print(f"\n{name}, medians of {rounds} rounds, load {os.getloadavg()[0]:.1f}, kiln's memory {memory:.0f} MiB\n")
    print(f"| | seconds | × {first_peer} |\n|---|---|---|")
    for key, times in took.items():
        pairs = statistics.median(a / b for a, b in zip(times, took[first_peer]))
        print(f"| {key} | {statistics.median(times):.3f} | {pairs:.2f} |")
    sys.stdout.flush()
    remove(store)


def project(base, name):
    dir = base / name
    (dir / "project").mkdir(parents=True)
    (dir / "project/kiln.toml").write_text(RECIPE)
    return dir


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--gigabytes", type=float, default=2)
    parser.add_argument("--b3sum", default=shutil.which("b3sum"), help="the program to compare with")
    parser.add_argument("--work", default=None, help="where temporary folders are made")
    options = parser.parse_args()
    if options.b3sum is None:
        sys.exit("b3sum is not installed: cargo install b3sum, or --b3sum PATH")
    base = Path(tempfile.mkdtemp(prefix="bench-hashing-", dir=options.work))
    try:
        if options.gigabytes > 0:
            dir = project(base, "big")
            big_file(dir / "project/data", options.gigabytes)
            peers = {"b3sum": f"{options.b3sum} --num-threads {os.cpu_count()} data"}
            compare(f"one file of {options.gigabytes:g} GiB", dir, peers, options.rounds)
            remove(dir)
        if options.files > 0:
            dir = project(base, "small")
            small_files(dir / "project/data", options.files)
            peers = {"find | xargs b3sum": f"find data -type f -print0 | xargs -0 {options.b3sum}",
                     "stat": "find data -type f -printf '%s %T@ %i\\n'"}
            compare(f"{options.files:,} files of 1 to 8 KB", dir, peers, options.rounds)
    finally:
        remove(base)


if __name__ == "__main__":
    main()
