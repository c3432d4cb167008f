//! What holds of messages between a caller and its starter, whatever their bytes.

use std::time::Duration;

use kiln_fuzzing::Fuzz;

use super::{
    feature::Feature,
    plan::{Base, Entry, Grant, Plan, Report},
    spec::Exit,
    wire::{Writer, receive},
};

fn frame(writer: &Writer) -> Vec<u8> {
    let mut sent = Vec::new();
    writer.send(&mut sent).expect("a vector takes everything");
    sent.split_off(8)
}

fn plan() -> Plan {
    Plan {
        argv: vec!["sh".into(), "-c".into()],
        env: vec![("A".into(), "b c".into())],
        program: Some("/build/kiln".into()),
        work: "/build/work".into(),
        features: Feature::ALL.to_vec(),
        network: true,
        memory: Some(1 << 30),
        timeout: Some(Duration::from_millis(1500)),
        processes: 4096,
        cgroup: None,
        root: "/s/root".into(),
        base: Base { id: 3, entries: Some(vec![Entry::Proc, Entry::Folder("/z".into())].into()) },
        entries: vec![
            Entry::Folder("/a".into()),
            Entry::File("/b".into(), b"x".to_vec()),
            Entry::Link("/c".into(), "d".into()),
            Entry::Read { host: "/e".into(), at: "/f".into() },
            Entry::Memory("/dev/shm".into(), None),
            Entry::Proc,
        ],
        grants: vec![Grant { path: "/usr".into(), write: false }],
    }
}

#[test]
fn no_plan_makes_the_reader_break_its_word() {
    Fuzz::new("plan").samples([frame(&plan().encode())]).bytes(|bytes| {
        if let Ok(plan) = Plan::decode(bytes) {
            assert_eq!(frame(&plan.encode()), bytes, "a plan has one encoding");
        }
    });
}

#[test]
fn no_report_makes_the_reader_break_its_word() {
    let reports = [
        Report::Failed { action: "bind /x".into(), errno: 13 },
        Report::NoProgram { program: "x".into(), path: "/bin".into() },
        Report::Ended { exit: Exit::Code(-1), watched: 7 },
        Report::Ended { exit: Exit::TimedOut(Duration::from_millis(3)), watched: 0 },
        Report::Gone {
            cpu: Duration::from_micros(3),
            largest: 4,
            wall: Duration::from_micros(5),
            waits: true,
        },
        Report::Probed { feature: Feature::Landlock, result: Err("no".into()) },
        Report::Begins,
    ];
    let samples = reports.map(|report| frame(&report.encode()));
    Fuzz::new("report").samples(samples).bytes(|bytes| {
        if let Ok(report) = Report::decode(bytes) {
            let again = Report::decode(&frame(&report.encode()));
            assert_eq!(again.expect("what was written is read"), report);
        }
    });
}

#[test]
fn no_stream_makes_the_receiver_break_its_word() {
    let mut sent = Vec::new();
    plan().encode().send(&mut sent).expect("a vector takes everything");
    Fuzz::new("frames").samples([sent]).bytes(|bytes| {
        let mut rest = bytes;
        while let Ok(Some(frame)) = receive(&mut rest) {
            assert!(frame.len() <= bytes.len());
        }
    });
}
