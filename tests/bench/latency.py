#!/usr/bin/env python3
"""One row through a small model: kiln beside onnxruntime's session call, in turns, in one run.

    tests/bench/latency.py [--rounds 5]

Two models: the perceptron 30-64-32-1 of `recipes/tumour`, and 500 trees of depth 6 over the table of `recipes/fraud`. kiln
trains both and writes both as ONNX; then each is asked about one row at a time, on one thread. onnxruntime is called as its
users call it, from Python, which is a part of what it takes. Its virtual environment is `$PEERS/latency` (made here if it is
missing)."""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

from tools import PEERS

REPOSITORY = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
HOME = os.path.join(PEERS, "latency")


def onnxruntime_row(path, rows):
    import numpy
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    features = session.get_inputs()[0].shape[1]
    table = numpy.random.default_rng(1).random((rows, features)) * 30
    table = [table[row:row + 1] for row in range(rows)]
    started = time.perf_counter()
    for row in table:
        session.run(["probabilities"], {"features": row})
    return (time.perf_counter() - started) / rows * 1e9


def models(kiln, folder):
    """The model folder and the ONNX file of each."""
    for recipe, change, settings in [
        ("tumour", lambda text: text + '\n[steps.onnx]\nbuilder = "onnx"\nmodel = "${quality.model}"\n', []),
        ("fraud", lambda text: text.replace("depth = 5", "depth = 6").replace("patience = 20\n", ""),
         ["--set", "rows=100000", "--set", "rounds=500", "--set", "min_auc=0.5"]),
    ]:
        place = os.path.join(folder, recipe)
        shutil.copytree(os.path.join(REPOSITORY, "recipes", recipe), place, ignore=shutil.ignore_patterns("result"))
        with open(os.path.join(place, "kiln.toml"), encoding="utf-8") as file:
            text = change(file.read())
        # The best round is kept; without a part to choose it by, that is the last one.
        text = text.replace('valid    = "${split.valid}"\n', "") if recipe == "fraud" else text
        text = text.replace("max = 0.06", "max = 9.0")
        with open(os.path.join(place, "kiln.toml"), "w", encoding="utf-8") as file:
            file.write(text)
        environment = {**os.environ, "KILN_HOME": os.path.join(folder, "store")}
        subprocess.run([kiln, "build", "-C", place, *settings, "train", "onnx"], env=environment, check=True,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        yield recipe, os.path.join(place, "result", "train", "model"), os.path.join(place, "result", "onnx")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    python = os.path.join(HOME, "bin", "python")
    if os.path.realpath(sys.prefix) != os.path.realpath(HOME):
        if not os.path.exists(python):
            subprocess.run([sys.executable, "-m", "venv", HOME], check=True)
            subprocess.run([python, "-m", "pip", "install", "--quiet", "numpy", "onnxruntime==1.32.0"], check=True)
        os.execv(python, [python, *sys.argv])
    subprocess.run(["cargo", "build", "--quiet", "--release", "-p", "kiln", "-p", "kiln-ml", "--bins", "--examples"], cwd=REPOSITORY, check=True)
    target = os.environ.get("CARGO_TARGET_DIR", os.path.join(REPOSITORY, "target"))
    kiln, latency = (os.path.join(target, "release", name) for name in ["kiln", "examples/latency"])
    folder = tempfile.mkdtemp()
    try:
        print(f"load {os.getloadavg()[0]:.1f}")
        for recipe, model, onnx in models(kiln, folder):
            own, theirs = [], []
            for _ in range(chosen.rounds):
                own.append(float(subprocess.run([latency, model], check=True, capture_output=True, text=True).stdout))
                theirs.append(onnxruntime_row(onnx, 5000))
            own, theirs = statistics.median(own), statistics.median(theirs)
            print(f"{recipe}: kiln {own / 1e3:.2f} us, onnxruntime {theirs / 1e3:.2f} us, {theirs / own:.1f} x")
    finally:
        subprocess.run(["chmod", "-R", "u+w", folder], check=True)
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
