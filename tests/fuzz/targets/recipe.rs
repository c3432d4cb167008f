//! Recipes and key manifests: any text is evaluated, or refused with places that can be shown.

#![no_main]

use std::sync::Arc;

use kiln_engine::{catalogue, diagnostic::SourceText, key::Manifest, recipe};
use libfuzzer_sys::fuzz_target;

#[allow(dead_code)]
#[path = "../../../src/engine/recipe/tests/builders.rs"]
mod builders;

fuzz_target!(|text: &str| {
    let source = Arc::new(SourceText { name: "kiln.toml".into(), text: text.to_owned() });
    if let Err(problems) = recipe::evaluate(&source, &builders::CATALOGUE, &[]) {
        assert!(!problems.is_empty());
        for problem in problems {
            assert!(!problem.message.is_empty() && !problem.message.contains('\n'));
            let places = problem.related.iter().map(|(place, _)| place).chain(&problem.at);
            for place in places {
                assert!(place.source.text.get(place.span.clone()).is_some(), "{problem}");
            }
        }
    }
    if let Ok(manifest) = Manifest::from_text(text) {
        let again = Manifest::from_text(&manifest.to_text()).expect("what was written is read");
        assert_eq!(again.key(), manifest.key());
    }
});
