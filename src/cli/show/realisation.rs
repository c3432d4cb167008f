//! A realisation: the whole record, the key manifest included.

use kiln_cache::{
    Cost, Determinism, Digest, Isolation, Object, Output, Realisation, Store, Verdict,
};
use kiln_engine::{
    explain::isolation_word,
    key::{Manifest, ManifestItem},
    moment,
};
use serde::Serialize;

use crate::cli::{
    failure::{Exit, Failure, print_json},
    global::Global,
    style,
    table::Table,
};

#[derive(Serialize)]
struct Document<'a> {
    action_key: Digest,
    attempt: u32,
    attempts: usize,
    recipe: &'a str,
    step: &'a str,
    builder: &'a str,
    outputs: &'a [Output],
    verdict: Option<&'a Verdict>,
    isolation: Isolation,
    determinism: Determinism,
    log: Option<Object>,
    refs: &'a [Object],
    cost: Cost,
    held_by: &'a [String],
    manifest: Vec<ManifestItem>,
}

/// Shows the result that is in use under a key.
pub fn show(
    global: &Global,
    store: &Store,
    key: Digest,
    held_by: &[String],
) -> Result<Exit, Failure> {
    let attempts = store
        .attempts(&key)
        .map_err(|error| Failure::environment(&error, "kiln store verify tells more"))?;
    let Some(record) = attempts.last() else {
        return Err(Failure::usage(
            format!("the realisation {key} cannot be read"),
            "kiln store verify tells more",
        ));
    };
    let manifest = Manifest::from_text(&record.manifest)
        .map_err(|error| Failure::environment(&error, "kiln store verify tells more"))?;
    if global.json {
        print_json(&Document {
            action_key: key,
            attempt: record.attempt,
            attempts: attempts.len(),
            recipe: &record.recipe,
            step: &record.step,
            builder: &record.builder,
            outputs: &record.outputs,
            verdict: record.verdict.as_ref(),
            isolation: record.isolation,
            determinism: record.determinism,
            log: record.log,
            refs: &record.refs,
            cost: record.cost,
            held_by,
            manifest: manifest.items,
        });
        return Ok(Exit::Done);
    }
    let mut facts = Table::new(&["", ""]);
    facts.row(["action key", &key.to_string()]);
    facts.row(["made for", &format!("{}/{}", record.recipe, record.step)]);
    facts.row(["builder", &record.builder]);
    write_record(&mut facts, record, attempts.len());
    for holder in held_by {
        facts.row(["held by", holder]);
    }
    anstream::println!("{facts}");
    anstream::print!("{}", outputs(store, &record.outputs));
    anstream::println!("\nwhat went into the key:");
    for item in &manifest.items {
        let value =
            serde_json::to_string(&item.value).expect("manifest items hold no map but of strings");
        let label = item.label.as_ref().map_or_else(String::new, |label| format!("  {label}"));
        anstream::println!("  {}  {value}{label}", item.at.join("."));
    }
    Ok(Exit::Done)
}

/// Adds what a record says beyond its inputs and outputs.
pub fn write_record(facts: &mut Table, record: &Realisation, attempts: usize) {
    if let Some(verdict) = &record.verdict {
        let word = if verdict.accepted { "accepted" } else { "rejected" };
        facts.row(["verdict", &format!("{word}: {}", verdict.reason)]);
    }
    facts.row(["isolation", isolation_word(record.isolation)]);
    facts.row(["ran", &moment::local(record.cost.started_ms)]);
    let Cost { seconds, cpu_seconds, peak_memory, input_bytes, output_bytes, .. } = record.cost;
    let time = |seconds: f64| {
        style::time(std::time::Duration::try_from_secs_f64(seconds).unwrap_or_default())
    };
    let memory = match peak_memory {
        0 => String::new(),
        bytes => format!(", {} of memory", style::bytes(bytes)),
    };
    facts.row([
        "took",
        &format!("{}, {} of processor time{memory}", time(seconds), time(cpu_seconds)),
    ]);
    let (read, made) = (style::bytes(input_bytes), style::bytes(output_bytes));
    facts.row(["data", &format!("read {read}, made {made}")]);
    if attempts > 1 {
        facts.row(["attempts", &format!("{attempts}, of which number {} counts", record.attempt)]);
    }
    let log = record.log.map_or_else(|| "none".to_owned(), |log| log.to_string());
    facts.row(["log", &log]);
}

/// Outputs with what they are and where they lie.
pub fn outputs(store: &Store, outputs: &[Output]) -> Table {
    let mut table = Table::new(&["output", ">size", "object", "path"]);
    for output in outputs {
        let path = match store.contains(&output.object) {
            true => store.path(&output.object).display().to_string(),
            false if output.alias.is_some() => "read where the source lies".to_owned(),
            false => "lost from the store".to_owned(),
        };
        let name = match output.alias {
            Some(place) => format!("{} (is input {place})", output.name),
            None => output.name.clone(),
        };
        table.row([name, style::bytes(output.bytes), output.object.to_string(), path]);
    }
    table
}
