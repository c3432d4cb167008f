//! The `.cu` sources through NVRTC, where there is one; it needs no GPU.

// Functions beside the tests are tests' too.
#![allow(clippy::unwrap_used)]

use kiln_kernels::launch::SOURCES;
use kiln_kernels::lint::{self, Fusing};
use kiln_kernels::nvrtc::{Nvrtc, NvrtcError, Unit, search};
use kiln_kernels::ready::OPTIONS;

fn nvrtc() -> Option<Nvrtc> {
    match search::find(&|name| std::env::var_os(name), None) {
        Ok(found) => Some(Nvrtc::open(&found.library, &found.builtins).unwrap()),
        Err(missing) => {
            println!("skipped: {missing}");
            None
        }
    }
}

#[test]
fn every_kernel_compiles_for_each_architecture_and_the_lint_calls_it_exact() {
    let Some(nvrtc) = nvrtc() else { return };
    let known = nvrtc.architectures().unwrap();
    let headers: Vec<_> = SOURCES.into_iter().filter(|(name, _)| name.ends_with(".cuh")).collect();
    for arch in [80, 90, 100] {
        if !known.contains(&arch) {
            println!("skipped: NVRTC {:?} does not compile for sm_{arch}", nvrtc.version());
            continue;
        }
        for (name, text) in SOURCES.into_iter().filter(|(name, _)| name.ends_with(".cu")) {
            let arch = format!("sm_{arch}");
            let unit = Unit { name, text, headers: &headers, arch: &arch, options: &OPTIONS };
            let compiled = nvrtc.compile(unit).unwrap();
            assert!(compiled.cubin.starts_with(b"\x7fELF") && compiled.log.trim().is_empty());
            let mut verdicts = lint::verdicts(&compiled.ptx, Fusing::AsWritten);
            verdicts.sort_by(|a, b| a.kernel.cmp(&b.kernel));
            for verdict in &verdicts {
                assert!(verdict.is_exact(), "{name}, {arch}: {verdict:?}");
            }
            let entries: Vec<&str> = verdicts.iter().map(|own| own.kernel.as_str()).collect();
            let resources: Vec<&str> =
                compiled.resources.iter().map(|own| own.kernel.as_str()).collect();
            assert!(!entries.is_empty() && entries == resources);
            assert!(compiled.resources.iter().all(|own| own.registers > 0));
            if name == "loss.cu" {
                let again = nvrtc.compile(unit).unwrap();
                assert!(again.ptx == compiled.ptx && again.cubin == compiled.cubin);
            }
        }
    }
}

#[test]
fn the_lint_finds_each_fault_in_what_the_compiler_makes() {
    let Some(nvrtc) = nvrtc() else { return };
    let text = "extern \"C\" __global__ void fused(float* x) { x[0] = x[1] * x[2] + x[3]; }\n\
        extern \"C\" __global__ void sum(float* x) { atomicAdd(x, x[threadIdx.x + 1]); }\n\
        extern \"C\" __global__ void fast(float* x) { x[0] = __expf(x[1]); }\n\
        extern \"C\" __global__ void plain(int* x) { atomicAdd(x, 1); }\n";
    let unit = Unit { name: "k.cu", text, headers: &[], arch: "sm_80", options: &[] };
    let compiled = nvrtc.compile(unit).unwrap();
    let mut classes: Vec<_> = lint::verdicts(&compiled.ptx, Fusing::Allowed)
        .iter()
        .map(|own| (own.kernel.clone(), own.class()))
        .collect();
    classes.sort();
    let classes: Vec<_> = classes.iter().map(|(name, class)| (name.as_str(), *class)).collect();
    let want = [
        ("fast", "approximate"),
        ("fused", "approximate"),
        ("plain", "exact"),
        ("sum", "nondeterministic"),
    ];
    assert_eq!(classes, want);
}

#[test]
fn mistakes_are_told_with_file_line_and_caret_and_unknown_architectures_by_name() {
    let Some(nvrtc) = nvrtc() else { return };
    let text =
        "#include \"h.cuh\"\nextern \"C\" __global__ void k(float* x) {\n    x[0] = lost;\n}\n";
    let headers = [("h.cuh", "// nothing\n")];
    let unit = Unit { name: "own/k.cu", text, headers: &headers, arch: "sm_80", options: &[] };
    let Err(NvrtcError::Source(said)) = nvrtc.compile(unit) else { panic!("it has a mistake") };
    assert!(said.contains("own/k.cu(3): error") && said.contains("\"lost\""), "{said}");
    assert!(said.lines().any(|line| line.trim() == "^"), "{said}");
    let said = nvrtc.compile(Unit { arch: "sm_11", ..unit }).unwrap_err().to_string();
    assert!(said.contains("does not compile for sm_11; it knows sm_"), "{said}");
}
