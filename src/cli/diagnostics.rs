//! Draws diagnostics: the message, the place with a caret, reasons and advice.

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};
use kiln_engine::diagnostic::{Diagnostic, Location};

use super::visible::visible_lines;

/// A diagnostic as the terminal shows it. Colours are stripped by the stream where they are off.
pub fn render(problem: &Diagnostic) -> String {
    let problem = &shown(problem);
    let title = Level::ERROR.primary_title(problem.message.as_str());
    let mut group = Group::with_title(title);
    if let Some(at) = &problem.at {
        let mut snippet = snippet(at).annotation(
            AnnotationKind::Primary.span(at.span.clone()).label(problem.label.as_str()),
        );
        let mut elsewhere = Vec::new();
        for (place, label) in &problem.related {
            if place.source == at.source {
                snippet = snippet.annotation(
                    AnnotationKind::Context.span(place.span.clone()).label(label.as_str()),
                );
            } else {
                elsewhere.push((place, label));
            }
        }
        group = group.element(snippet);
        for (place, label) in elsewhere {
            group = group.element(self::snippet(place).annotation(
                AnnotationKind::Context.span(place.span.clone()).label(label.as_str()),
            ));
        }
    }
    for note in &problem.notes {
        group = group.element(Level::NOTE.message(note.as_str()));
    }
    for help in &problem.help {
        group = group.element(Level::HELP.message(help.as_str()));
    }
    let width = terminal_width();
    Renderer::styled().term_width(width).render(&[group])
}

/// The same with nothing in it that would steer a terminal: names of files and what a system says stand in it.
fn shown(problem: &Diagnostic) -> Diagnostic {
    let text = |text: &String| visible_lines(text).into_owned();
    Diagnostic {
        message: text(&problem.message),
        label: text(&problem.label),
        related: problem.related.iter().map(|(at, label)| (at.clone(), text(label))).collect(),
        notes: problem.notes.iter().map(text).collect(),
        help: problem.help.iter().map(text).collect(),
        at: problem.at.clone(),
    }
}

fn snippet<'a>(at: &'a Location) -> Snippet<'a, annotate_snippets::Annotation<'a>> {
    Snippet::source(at.source.text.as_str()).path(at.source.name.as_str()).line_start(1).fold(true)
}

/// Columns of the terminal, or a width that fits logs.
pub fn terminal_width() -> usize {
    let size = rustix::termios::tcgetwinsize(std::io::stderr()).ok();
    size.map(|size| usize::from(size.ws_col)).filter(|&columns| columns >= 40).unwrap_or(120)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use kiln_engine::{diagnostic::SourceText, recipe};

    use super::render;
    use crate::builders::CATALOGUE;

    #[test]
    fn every_problem_of_any_recipe_can_be_drawn() {
        let tumour = include_str!("../../recipes/tumour/kiln.toml");
        let tabs = tumour.replace("    ", "\t").replace('\n', "\r\n");
        kiln_fuzzing::Fuzz::new("diagnostics")
            .samples([tumour, &tabs, &format!("\u{feff}{tumour}")])
            .words([
                "\n",
                "\t",
                "\r",
                "\r\n",
                "\"",
                "\"\"\"",
                "[steps.a]\n",
                "run = 1",
                "${",
                "}",
                "${x.y}",
                "\u{1b}[31m",
                "\u{0}",
                "é",
                "\u{1F600}",
                "\u{202e}",
                "e\u{301}",
                "\u{3042}",
                "gates",
                "= [",
                "{ metric = \"f1\" }",
            ])
            .memory(4000, 8 << 20)
            .texts(|text| {
                let source =
                    Arc::new(SourceText { name: "kiln.toml".into(), text: text.to_owned() });
                if let Err(problems) = recipe::evaluate(&source, &CATALOGUE, &[]) {
                    for problem in &problems {
                        let drawn = render(problem);
                        assert!(drawn.contains("error"), "{drawn}");
                    }
                }
            });
    }
}
