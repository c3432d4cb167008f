"""The build tools that `graph.py` compares: how each is told of the graph, started, and made to forget.

Each writes the same graph in its own language. What is not installed is skipped, and said to be. Peers that are no
system packages are looked for under $PEERS (default ~/.cache/kiln-peers): `cargo/bin/n2`, `scons/bin/scons`,
`dvc/bin/dvc`, `snakemake/bin/snakemake`.
"""
import os, shutil, subprocess
from pathlib import Path

WIDTH = 100
PEERS = os.environ.get("PEERS", os.path.expanduser("~/.cache/kiln-peers"))
KILN = os.environ.get("KILN", "kiln")


def remove(path):
    """Removes a file or a folder, read-only ones too."""
    if os.path.isdir(path) and not os.path.islink(path):
        subprocess.run(["chmod", "-R", "u+w", path], stderr=subprocess.DEVNULL, check=False)
        shutil.rmtree(path, ignore_errors=True)
    elif os.path.lexists(path):
        os.unlink(path)


class Tool:
    """A build tool. `dir` is the folder of the graph; caches lie beside it, under names that begin with its own."""

    name = "?"
    caches = False        # keeps outputs, so that deleted ones are restored and a new checkout finds them
    most = 10**9          # steps beyond which it takes too long to wait for
    exe = None

    def available(self):
        return shutil.which(self.exe or self.name) is not None

    def write(self, dir, graph):
        raise NotImplementedError

    def command(self, dir, jobs):
        raise NotImplementedError

    def environment(self, dir):
        return {}

    def output(self, dir, layer, column):
        return f"{dir}/out/{layer}_{column}"

    def prepare(self, dir):
        os.makedirs(f"{dir}/out", exist_ok=True)

    def delete_outputs(self, dir):
        remove(f"{dir}/out")
        self.prepare(dir)

    def forget(self, dir):
        """Removes every cache."""


class Kiln(Tool):
    name = "kiln"
    exe = KILN
    caches = True
    flags = []

    def write(self, dir, graph):
        lines = ['name = "grid"', "", "[sources]"]
        lines += [f's{column} = "src/s{column}.txt"' for column in range(WIDTH)]
        for layer, column in graph.steps:
            pair = column ^ 1
            a, b = (f"sources.s{column}", f"sources.s{pair}") if layer == 0 else (f"n{layer-1}_{column}", f"n{layer-1}_{pair}")
            run = f"head -qc {graph.bytes[layer][column]} ${{{a}}} ${{{b}}} > ${{out}}"
            lines += ["", f"[steps.n{layer}_{column}]", f'run = "{run}"']
        Path(f"{dir}/kiln.toml").write_text("\n".join(lines) + "\n")

    def command(self, dir, jobs):
        return [KILN, "build", "--jobs", str(jobs), *self.flags]

    def environment(self, dir):
        return {"KILN_HOME": f"{dir}.store", "NO_COLOR": "1"}

    def output(self, dir, layer, column):
        return f"{dir}/result/n{layer}_{column}"      # the last layer is linked, the others are in the store

    def prepare(self, dir):
        pass

    def delete_outputs(self, dir):
        remove(f"{dir}/result")

    def forget(self, dir):
        remove(f"{dir}.store")


class KilnWithoutSandbox(Kiln):
    name = "kiln-nosandbox"
    flags = ["--sandbox=off"]


class Ninja(Tool):
    name = "ninja"

    def write(self, dir, graph):
        lines = ["rule head", "  command = head -qc $bytes $in > $out"]
        for layer, column in graph.steps:
            a, b = graph.inputs(layer, column)
            lines += [f"build {graph.output(layer, column)}: head {a} {b}", f"  bytes = {graph.bytes[layer][column]}"]
        Path(f"{dir}/build.ninja").write_text("\n".join(lines) + "\n")

    def command(self, dir, jobs):
        return [self.exe or self.name, "-j", str(jobs)]


class N2(Ninja):
    name = "n2"
    exe = f"{PEERS}/cargo/bin/n2"


class Make(Tool):
    name = "make"

    def write(self, dir, graph):
        last = " ".join(graph.output(graph.depth - 1, column) for column in range(WIDTH))
        lines = ["MAKEFLAGS += -rR --no-print-directory", f"all: {last}"]
        for layer, column in graph.steps:
            inputs = " ".join(graph.inputs(layer, column))
            lines += [f"{graph.output(layer, column)}: {inputs}", f"\t@{graph.shell(layer, column)}"]
        Path(f"{dir}/Makefile").write_text("\n".join(lines) + "\n")

    def command(self, dir, jobs):
        return ["make", "-s", "-j", str(jobs), "all"]


class Scons(Tool):
    name = "scons"
    exe = f"{PEERS}/scons/bin/scons"
    caches = True
    most = 1000

    def write(self, dir, graph):
        lines = [f"CacheDir('{dir}.scons')", "Decider('content')", "env = Environment(tools=[])"]
        for layer, column in graph.steps:
            command = f"head -qc {graph.bytes[layer][column]} $SOURCES > $TARGET"
            lines.append(f"env.Command('{graph.output(layer, column)}', {graph.inputs(layer, column)!r}, '{command}')")
        Path(f"{dir}/SConstruct").write_text("\n".join(lines) + "\n")

    def command(self, dir, jobs):
        return [self.exe, "-Q", "-s", "-j", str(jobs)]

    def forget(self, dir):
        remove(f"{dir}.scons")


class Dvc(Tool):
    name = "dvc"
    exe = f"{PEERS}/dvc/bin/dvc"
    caches = True
    most = 100

    def environment(self, dir):
        return {"DVC_NO_ANALYTICS": "1", "DVC_SITE_CACHE_DIR": f"{dir}.site", "DVC_GLOBAL_CONFIG_DIR": f"{dir}.config"}

    def write(self, dir, graph):
        lines = ["stages:"]
        for layer, column in graph.steps:
            lines += [f"  s{layer}_{column}:", f"    cmd: {graph.shell(layer, column)}", "    deps:"]
            lines += [f"    - {path}" for path in graph.inputs(layer, column)]
            lines += ["    outs:", f"    - {graph.output(layer, column)}"]
        Path(f"{dir}/dvc.yaml").write_text("\n".join(lines) + "\n")

    def prepare(self, dir):
        super().prepare(dir)
        if os.path.isdir(f"{dir}/.dvc"):
            return
        settings = [("core.analytics", "false"), ("core.check_update", "false"), ("cache.dir", f"{dir}.cache"), ("cache.type", "hardlink")]
        for arguments in [["init", "--no-scm", "-q"], *(["config", *pair] for pair in settings)]:
            environment = {**os.environ, **self.environment(dir)}
            subprocess.run([self.exe, *arguments], cwd=dir, env=environment, stdout=subprocess.DEVNULL, check=True)

    def command(self, dir, jobs):
        return [self.exe, "repro", "-q"]             # it runs one step at a time

    def forget(self, dir):
        for cache in (".cache", ".site", ".config"):
            remove(dir + cache)


class Snakemake(Tool):
    name = "snakemake"
    exe = f"{PEERS}/snakemake/bin/snakemake"
    most = 1000

    def environment(self, dir):
        return {"XDG_CACHE_HOME": f"{dir}.xdg", "PATH": f"{PEERS}/snakemake/bin:" + os.environ["PATH"]}

    def write(self, dir, graph):
        last = [graph.output(graph.depth - 1, column) for column in range(WIDTH)]
        lines = [f"rule all:\n  input: {last!r}"]
        for layer, column in graph.steps:
            lines.append(f"rule r{layer}_{column}:\n  input: {graph.inputs(layer, column)!r}\n"
                         f"  output: {graph.output(layer, column)!r}\n  shell: {graph.shell(layer, column)!r}")
        Path(f"{dir}/Snakefile").write_text("\n".join(lines) + "\n")

    def command(self, dir, jobs):
        return [self.exe, "-c", str(jobs), "-q", "all", "--nocolor"]

    def forget(self, dir):
        remove(f"{dir}.xdg")


class Nix(Tool):
    """A private store, so that forgetting is removing a folder."""

    name = "nix"
    exe = "nix-build"
    caches = True
    sandbox = "false"
    visible = "/bin/sh=/bin/bash /usr/bin /lib/x86_64-linux-gnu /lib64"

    def environment(self, dir):
        root = f"{dir}.nix"
        return {"NIX_STORE_DIR": f"{root}/store", "NIX_STATE_DIR": f"{root}/var/nix", "NIX_LOG_DIR": f"{root}/var/log",
                "NIX_CONF_DIR": f"{root}/etc", "NIX_LOCALSTATE_DIR": f"{root}/var", "HOME": f"{root}/home"}

    def write(self, dir, graph):
        root = f"{dir}.nix"
        for folder in ("etc", "home"):
            os.makedirs(f"{root}/{folder}", exist_ok=True)
        settings = [f"sandbox = {self.sandbox}", f"sandbox-paths = {self.visible}", "substitute = false", "substituters =",
                    "build-users-group =", "fsync-metadata = false", "log-lines = 0", "keep-build-log = false"]
        Path(f"{root}/etc/nix.conf").write_text("\n".join(settings) + "\n")
        lines = ['let mk = n: h: a: b: derivation { name = n; system = builtins.currentSystem; builder = "/bin/sh"; '
                 'inherit a b h; args = ["-c" "PATH=/usr/bin; head -qc $h $a $b > $out"]; };']
        lines += [f's{column} = builtins.path {{ path = ./src/s{column}.txt; name = "s{column}"; }};' for column in range(WIDTH)]
        for layer, column in graph.steps:
            a, b = (f"s{column}", f"s{column ^ 1}") if layer == 0 else (f"o{layer-1}_{column}", f"o{layer-1}_{column ^ 1}")
            lines.append(f'o{layer}_{column} = mk "o{layer}_{column}" {graph.bytes[layer][column]} {a} {b};')
        last = " ".join(f"o{graph.depth-1}_{column}" for column in range(WIDTH))
        lines.append('in derivation { name = "all"; system = builtins.currentSystem; builder = "/bin/sh"; ins = [ ' + last +
                     ' ]; args = ["-c" "PATH=/usr/bin; mkdir $out; n=0; for x in $ins; do ln -s $x $out/' +
                     str(graph.depth - 1) + '_$n; n=$((n+1)); done"]; }')
        Path(f"{dir}/default.nix").write_text("\n".join(lines) + "\n")

    def prepare(self, dir):
        pass

    def delete_outputs(self, dir):
        remove(f"{dir}/out")

    def command(self, dir, jobs):
        return ["nix-build", "-j", str(jobs), "--quiet", "-Q", "-o", "out"]

    def forget(self, dir):
        remove(f"{dir}.nix")


class NixSandbox(Nix):
    name = "nix-sandbox"
    sandbox = "true"


TOOLS = {tool.name: tool for tool in
         (Kiln, KilnWithoutSandbox, Ninja, N2, Make, Scons, Dvc, Snakemake, Nix, NixSandbox)}
