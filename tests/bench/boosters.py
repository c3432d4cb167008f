#!/usr/bin/env python3
"""Boosted trees: kiln beside xgboost and lightgbm, in turns, in one run.

    tests/bench/boosters.py [--rows 400000] [--trees 100] [--threads 2] [--rounds 3]

Binning and training are timed, from an array in memory to a model; numbers are drawn like those of the HIGGS table: 28
columns, half of what decides is a product of two. Each of them grows trees of depth 6 with 255 bins, a learning rate of
0.1, an L2 penalty of 1 and at least a second derivative of 1 in a child. Peers are looked for in the virtual environment
`$PEERS/boosters` (made here if it is missing)."""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time

from tools import PEERS

HERE = os.path.dirname(os.path.abspath(__file__))
REPOSITORY = os.path.dirname(os.path.dirname(HERE))
HOME = os.path.join(PEERS, "boosters")
FEATURES = 28


def table(rows, seed):
    import numpy

    draw = numpy.random.default_rng(seed)
    x = (draw.random((rows, FEATURES), dtype=numpy.float32) + draw.random((rows, FEATURES), dtype=numpy.float32)
         + draw.random((rows, FEATURES), dtype=numpy.float32) - numpy.float32(1.5))
    score = (2 * x[:, 0] * x[:, 1] + numpy.where(x[:, 2] > 0.2, 1.5 * x[:, 3], -x[:, 4]) + numpy.sin(3 * x[:, 5])
             + 0.5 * x[:, 6] ** 2 - 0.3 + 0.8 * x[:, 7] * x[:, 8] * x[:, 9])
    y = (draw.random(rows) < 1 / (1 + numpy.exp(-2 * score))).astype(numpy.uint32)
    return x, y


def spent():
    return sum(resource.getrusage(who).ru_utime + resource.getrusage(who).ru_stime
               for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def xgboost_run(data, trees, threads):
    import xgboost

    x, y, test = data
    started = time.perf_counter(), spent()
    matrix = xgboost.QuantileDMatrix(x, y, max_bin=255, nthread=threads)
    settings = {"objective": "binary:logistic", "max_depth": 6, "eta": 0.1, "lambda": 1.0, "min_child_weight": 1.0,
                "max_bin": 255, "tree_method": "hist", "nthread": threads, "base_score": 0.5}
    model = xgboost.train(settings, matrix, num_boost_round=trees)
    ended = time.perf_counter() - started[0], spent() - started[1]
    return ended, model.inplace_predict(test)


def lightgbm_run(data, trees, threads):
    import lightgbm

    x, y, test = data
    started = time.perf_counter(), spent()
    settings = {"objective": "binary", "max_depth": 6, "num_leaves": 64, "learning_rate": 0.1, "lambda_l2": 1.0,
                "min_sum_hessian_in_leaf": 1.0, "min_data_in_leaf": 1, "max_bin": 255, "num_threads": threads,
                "verbosity": -1}
    model = lightgbm.train(settings, lightgbm.Dataset(x, y, params=settings), num_boost_round=trees)
    ended = time.perf_counter() - started[0], spent() - started[1]
    return ended, model.predict(test)


def kiln_run(folder, binary, trees, threads):
    import numpy

    place = lambda name: os.path.join(folder, name)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    answer = subprocess.run([binary, place("train"), place("labels"), place("test"), place("scores"), str(FEATURES),
                             str(trees), str(threads)], check=True, capture_output=True, text=True).stdout
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    answer = json.loads(answer)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return (answer["bin_and_train"], processor), numpy.fromfile(place("scores"), dtype="<f4"), answer


def area(y, score):
    """Area under the ROC curve; scores that are equal share their ranks."""
    import numpy

    values, place, counts = numpy.unique(score, return_inverse=True, return_counts=True)
    ranks = numpy.cumsum(counts) - (counts - 1) / 2
    positives = y.sum()
    return (ranks[place][y == 1].sum() - positives * (positives + 1) / 2) / (positives * (len(y) - positives))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=400_000)
    parser.add_argument("--trees", type=int, default=100)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    python = os.path.join(HOME, "bin", "python")
    if not os.path.exists(python):
        subprocess.run([sys.executable, "-m", "venv", HOME], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", "numpy", "xgboost", "lightgbm"], check=True)
    if os.path.realpath(sys.prefix) != os.path.realpath(HOME):
        os.execv(python, [python, *sys.argv])
    subprocess.run(["cargo", "build", "-q", "--release", "-p", "kiln-kernels", "--example", "boost"], cwd=REPOSITORY,
                   check=True)
    target = os.environ.get("CARGO_TARGET_DIR", os.path.join(REPOSITORY, "target"))
    binary = os.path.join(target, "release", "examples", "boost")
    (x, y), (test, truth) = table(asked.rows, 1), table(asked.rows // 4, 2)
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, values in (("train", x), ("labels", y), ("test", test)):
            values.tofile(os.path.join(folder, name))
        for _ in range(asked.rounds):
            for name in ("kiln", "xgboost", "lightgbm"):
                if name == "kiln":
                    times, score, answer = kiln_run(folder, binary, asked.trees, asked.threads)
                else:
                    run = xgboost_run if name == "xgboost" else lightgbm_run
                    times, score = run((x, y, test), asked.trees, asked.threads)
                found.setdefault(name, []).append((*times, area(truth, score)))
    load = os.getloadavg()[0]
    print(f"{asked.rows} x {FEATURES}, {asked.trees} trees of depth 6, {asked.threads} threads; load {load:.1f}")
    print("            seconds   processor time      AUC   against kiln (seconds, processor)")
    middle = {name: [statistics.median(column) for column in zip(*runs)] for name, runs in found.items()}
    for name, (seconds, processor, quality) in middle.items():
        ratios = f"{seconds / middle['kiln'][0]:.2f} x, {processor / middle['kiln'][1]:.2f} x"
        print(f"{name:10} {seconds:8.2f} {processor:16.2f} {quality:8.4f}   {ratios}")
    print(f"kiln: {answer['bin']:.2f} s of it bins; one row through {answer['trees']} trees: {answer['row'] * 1e6:.2f} us")


if __name__ == "__main__":
    main()
