//! What a kernel's PTX says of its results: whether they are the same bits everywhere.
//!
//! IEEE operations that round to nearest and fuse only where they say so give the same bits on every device. A claim
//! that a kernel is exact needs this and equality with the reference for the CPU: this module reads operations, it
//! knows nothing of what they are to compute.

use std::collections::BTreeMap;

/// What keeps a kernel from being exact. From the mildest on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trait {
    /// Operations that are allowed to be a little off (`.approx`), that flush subnormal numbers (`.ftz`), that round
    /// otherwise than to nearest, or that the assembler may fuse (`add.f32` without `.rn`).
    Approximate,
    /// Tensor cores: products whose sums have an order and a width of the hardware's own.
    TensorCore,
    /// Floating-point sums in memory in whatever order blocks and threads come, or values of clocks and places.
    Nondeterministic,
}

impl Trait {
    /// The word for it, as documents and metadata write it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Trait::Approximate => "approximate",
            Trait::TensorCore => "tensor core",
            Trait::Nondeterministic => "nondeterministic",
        }
    }
}

/// One kernel's verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The kernel.
    pub kernel: String,
    /// What was found, and the first instruction that shows it; empty for an exact kernel.
    pub found: BTreeMap<Trait, String>,
}

impl Verdict {
    /// Whether each operation is one whose bits IEEE 754 specifies.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        self.found.is_empty()
    }

    /// `exact`, or the gravest trait.
    #[must_use]
    pub fn class(&self) -> &'static str {
        self.found.keys().next_back().map_or("exact", |worst| worst.word())
    }
}

/// Whether the compiler may have fused what its source does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fusing {
    /// `--fmad=false`: each fused operation stands in the source.
    AsWritten,
    /// Anything else: a fused operation in PTX may be two in the source, and PTX does not tell which.
    Allowed,
}

/// Reads PTX: one verdict for each entry, in their order. What a function that is not inlined does counts for
/// every entry, since any may call it.
#[must_use]
pub fn verdicts(ptx: &str, fusing: Fusing) -> Vec<Verdict> {
    let mut entries: Vec<Verdict> = Vec::new();
    let mut shared: BTreeMap<Trait, String> = BTreeMap::new();
    let mut in_entry = false;
    for statement in ptx.lines().map(without_comment).flat_map(|line| line.split(';')) {
        let words: Vec<&str> = statement.split_whitespace().collect();
        if let Some(at) = words.iter().position(|word| *word == ".entry" || *word == ".func") {
            in_entry = words[at] == ".entry";
            if in_entry && let Some(name) = words.get(at + 1) {
                let kernel = name.split('(').next().unwrap_or(name).to_owned();
                entries.push(Verdict { kernel, found: BTreeMap::new() });
            }
            continue;
        }
        let Some(kind) = judged(&words, fusing) else { continue };
        let found = match entries.last_mut() {
            Some(entry) if in_entry => &mut entry.found,
            _ => &mut shared,
        };
        found.entry(kind).or_insert_with(|| words.join(" "));
    }
    for entry in &mut entries {
        for (kind, shown) in &shared {
            entry.found.entry(*kind).or_insert_with(|| shown.clone());
        }
    }
    entries
}

fn without_comment(line: &str) -> &str {
    line.split("//").next().unwrap_or_default()
}

/// What one instruction, in words, gives away.
fn judged(words: &[&str], fusing: Fusing) -> Option<Trait> {
    // Labels and predicates stand in front.
    let operation =
        words.iter().find(|word| !word.starts_with(['@', '{']) && !word.ends_with(':'))?;
    if operation.starts_with('.') {
        return None;
    }
    let parts: Vec<&str> = operation.split('.').collect();
    let name = parts[0];
    let has = |part: &str| parts.contains(&part);
    let float = parts
        .iter()
        .any(|part| ["f16", "f16x2", "bf16", "bf16x2", "f32", "f32x2", "f64"].contains(part));
    let places = ["%clock", "%globaltimer", "%smid", "%nsmid", "%warpid"];
    if words.iter().any(|word| places.iter().any(|place| word.starts_with(place))) {
        return Some(Trait::Nondeterministic);
    }
    if ["atom", "red"].contains(&name) && float && has("add") {
        return Some(Trait::Nondeterministic);
    }
    if ["mma", "wmma", "wgmma", "tcgen05"].contains(&name) {
        return Some(Trait::TensorCore);
    }
    if has("approx")
        || has("ftz")
        || has("full")
        || ["ex2", "lg2", "sin", "cos", "tanh"].contains(&name)
    {
        return Some(Trait::Approximate);
    }
    let arithmetic = ["add", "sub", "mul", "mad", "fma", "div", "sqrt", "rcp", "cvt"];
    if float && arithmetic.contains(&name) {
        let toward = ["rz", "rm", "rp", "sat"].iter().any(|part| has(part));
        let fusible = ["add", "sub", "mul", "mad"].contains(&name) && !has("rn");
        let fused = name == "fma" && fusing == Fusing::Allowed;
        if fused || (toward && name != "cvt") || fusible {
            return Some(Trait::Approximate);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(instruction: &str) -> &'static str {
        class_if(instruction, Fusing::AsWritten)
    }

    fn class_if(instruction: &str, fusing: Fusing) -> &'static str {
        let ptx = format!(".visible .entry k(\n.param .u64 p\n)\n{{\n{instruction}\nret;\n}}\n");
        let verdicts = verdicts(&ptx, fusing);
        assert_eq!((verdicts.len(), verdicts[0].kernel.as_str()), (1, "k"));
        verdicts[0].class()
    }

    #[test]
    fn each_kind_of_instruction_has_its_class() {
        for (instruction, want) in [
            ("fma.rn.f32 %f1, %f2, %f3, %f4;", "exact"),
            ("@%p1 add.rn.f32 %f1, %f2, %f3;", "exact"),
            ("div.rn.f32 %f1, %f2, %f3;", "exact"),
            ("sqrt.rn.f32 %f1, %f2;", "exact"),
            ("add.s32 %r1, %r2, 7;", "exact"),
            ("cvt.rn.f32.s32 %f1, %r1;", "exact"),
            ("cvt.rzi.s32.f32 %r1, %f1;", "exact"),
            ("atom.shared.add.u32 %r1, [%r2], 1;", "exact"),
            ("max.NaN.f32 %f1, %f2, %f3;", "exact"),
            ("// ex2.approx.f32 in a comment", "exact"),
            ("add.f32 %f1, %f2, %f3;", "approximate"),
            ("mul.rz.f32 %f1, %f2, %f3;", "approximate"),
            ("div.full.f32 %f1, %f2, %f3;", "approximate"),
            ("ex2.approx.ftz.f32 %f1, %f2;", "approximate"),
            ("{ add.ftz.rn.f32 %f1, %f2, %f3; }", "approximate"),
            (
                "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%f1}, {%r1}, {%r2}, {%f2};",
                "tensor core",
            ),
            (
                "wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 {%f1}, %rd1, %rd2;",
                "tensor core",
            ),
            ("red.global.add.f32 [%rd1], %f1;", "nondeterministic"),
            ("L1: @!%p2 atom.global.add.f64 %fd1, [%rd1], %fd2;", "nondeterministic"),
            ("mov.u32 %r1, %clock;", "nondeterministic"),
            ("mov.u32 %r1, %smid;", "nondeterministic"),
        ] {
            assert_eq!(class(instruction), want, "{instruction}");
        }
        let fma = "fma.rn.f32 %f1, %f2, %f3, %f4;";
        assert_eq!(class_if(fma, Fusing::Allowed), "approximate");
    }

    #[test]
    fn each_entry_has_its_own_verdict_and_functions_count_for_all() {
        let ptx = ".visible .entry one(\n)\n{\nadd.rn.f32 %f1, %f2, %f3;\n}\n.entry two()\n{\nred.global.add.f32 [%rd1], %f1;\nadd.f32 %f1, %f1, %f1;\n}\n";
        let own = verdicts(ptx, Fusing::AsWritten);
        assert_eq!(
            own.iter().map(Verdict::class).collect::<Vec<_>>(),
            ["exact", "nondeterministic"]
        );
        assert_eq!(own[1].found[&Trait::Nondeterministic], "red.global.add.f32 [%rd1], %f1");
        assert_eq!(own[1].found.len(), 2);
        let called = verdicts(
            &format!(".func helper()\n{{\nsin.approx.f32 %f1, %f2;\n}}\n{ptx}"),
            Fusing::AsWritten,
        );
        assert_eq!(called[0].class(), "approximate");
    }
}
