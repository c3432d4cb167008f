//! What holds for any text.

use proptest::prelude::*;

use super::{builders::TUMOUR, evaluated};
use crate::diagnostic::Diagnostic;

/// Every place of every diagnostic can be shown.
pub(super) fn showable(problems: &[Diagnostic]) {
    assert!(!problems.is_empty(), "an error says something");
    for problem in problems {
        let places = problem.at.iter().chain(problem.related.iter().map(|(place, _)| place));
        for place in places {
            assert!(place.source.text.get(place.span.clone()).is_some(), "{problem}");
        }
        assert!(!problem.message.is_empty() && !problem.message.contains('\n'), "{problem}");
    }
}

fn try_it(text: &str) {
    if let Err(problems) = evaluated(text, &[]) {
        showable(&problems);
    }
}

/// Pieces that recipes are made of, and some that they are not.
pub(super) const PIECES: &[&str] = &[
    "\n",
    "\r\n",
    " ",
    "=",
    "[",
    "]",
    "{",
    "}",
    "\"",
    "'",
    "\"\"\"",
    "'''",
    "\\",
    "#",
    ",",
    ".",
    "$",
    "${",
    "$${",
    "}",
    "name",
    "params",
    "sources",
    "steps",
    "deploy",
    "run",
    "builder",
    "train",
    "split",
    "ratios",
    "kind",
    "model",
    "outputs",
    "out",
    "in",
    "env",
    "tools",
    "files",
    "${out}",
    "${a}",
    "${params.x}",
    "${sources.d}",
    "[steps.a]",
    "[steps.b]\n",
    "[[steps.a]]",
    "a",
    "x",
    "d",
    "1",
    "-1",
    "0.5",
    "nan",
    "true",
    "[1, 2]",
    "1979-05-27",
    "ä",
    "\u{0}",
    "\u{1F600}",
    "run = \"x ${b}\"\n",
    "\\u00e4",
    "\\\n",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_text_is_evaluated_or_refused_with_places(text in any::<String>()) {
        try_it(&text);
    }

    #[test]
    fn any_heap_of_pieces_is_evaluated_or_refused(
        pieces in prop::collection::vec(prop::sample::select(PIECES), 0..60)
    ) {
        try_it(&pieces.concat());
        try_it(&format!("name = \"t\"\n[steps.a]\n{}", pieces.concat()));
    }

    #[test]
    fn a_recipe_with_pieces_put_in_or_cut_out_is_evaluated_or_refused(
        edits in prop::collection::vec(
            (any::<prop::sample::Index>(), 0usize..12, prop::sample::select(PIECES)), 1..4
        )
    ) {
        let mut text: Vec<char> = TUMOUR.chars().collect();
        for (at, length, piece) in edits {
            let at = at.index(text.len());
            let end = (at + length).min(text.len());
            text.splice(at..end, piece.chars());
        }
        try_it(&text.into_iter().collect::<String>());
    }

    #[test]
    fn the_order_of_tables_and_keys_and_comments_do_not_change_the_graph(
        seed in prop::collection::vec(any::<u32>(), 64)
    ) {
        let mut seed = seed.into_iter().cycle();
        let mut shuffled = |items: &mut Vec<String>| {
            items.sort_by_cached_key(|_| seed.next());
        };
        let (top, tables) = TUMOUR.split_once("\n[").unwrap();
        let mut sections: Vec<String> = tables
            .split("\n[")
            .map(|section| {
                let (header, body) = section.split_once('\n').unwrap();
                // The one value with several lines is kept whole.
                let body = body.replace("gates = [\n", "gates = [").replace("},\n", "},");
                let mut lines: Vec<String> =
                    body.lines().map(|line| format!("  {line} # changed")).collect();
                shuffled(&mut lines);
                format!("[{header}\n{}", lines.join("\n"))
            })
            .collect();
        shuffled(&mut sections);
        let text = format!("{top}\n{}\n", sections.join("\n# a comment\n"));
        prop_assert_ne!(text.as_str(), TUMOUR);
        let before = evaluated(TUMOUR, &[]).unwrap();
        let after = evaluated(&text, &[]).unwrap();
        let plain = |graph: &crate::graph::Graph| {
            let mut graph = graph.clone();
            graph.sources.iter_mut().for_each(|source| source.at = before.sources[0].at.clone());
            graph.deployments.iter_mut().for_each(|deploy| deploy.at = before.sources[0].at.clone());
            for step in &mut graph.steps {
                step.at = before.sources[0].at.clone();
                step.files.iter_mut().for_each(|(_, at)| *at = before.sources[0].at.clone());
            }
            format!("{graph:?}")
        };
        prop_assert_eq!(plain(&before), plain(&after));
    }
}
