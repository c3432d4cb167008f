//! Self-contained report pages: one file, no script, nothing from elsewhere, light and dark.
//!
//! Unaware of what is reported; whatever goes in as text is escaped.

use std::fmt::Write as _;

use crate::request::Verdict;

/// The state of one line of a report, shown by a word and a colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// All is well.
    Good,
    /// Worth a look, stops nothing.
    Warn,
    /// Stops the line.
    Bad,
    /// Nothing to say.
    Dim,
}

impl Mark {
    fn class(self) -> &'static str {
        match self {
            Mark::Good => "good",
            Mark::Warn => "warn",
            Mark::Bad => "bad",
            Mark::Dim => "dim",
        }
    }
}

/// Text made safe to stand in an element or in a quoted attribute.
pub fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            other => safe.push(other),
        }
    }
    safe
}

/// A word in a coloured pill.
pub fn pill(mark: Mark, word: &str) -> String {
    format!("<span class=\"pill {}\">{}</span>", mark.class(), escape(word))
}

/// A digest by its first twelve digits, with all of it on hovering.
pub fn digest(digits: &str) -> String {
    let short: String = digits.chars().take(12).collect();
    format!("<code title=\"{}\">{}</code>", escape(digits), escape(&short))
}

/// A row of figures, each a number over its name.
pub fn figures(figures: &[(String, &str)]) -> String {
    let mut html = String::from("<div class=\"figures\">");
    for (value, name) in figures {
        let (value, name) = (escape(value), escape(name));
        // Writing to a string cannot fail, here and below.
        let _ = write!(html, "<div><b>{value}</b><span>{name}</span></div>");
    }
    html + "</div>\n"
}

/// A table whose cells are HTML already.
pub fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let mut html = String::from("<div class=\"scroll\"><table><thead><tr>");
    for name in header {
        let _ = write!(html, "<th scope=\"col\">{}</th>", escape(name));
    }
    html.push_str("</tr></thead><tbody>\n");
    for row in rows {
        html.push_str("<tr>");
        for cell in row {
            let _ = write!(html, "<td>{cell}</td>");
        }
        html.push_str("</tr>\n");
    }
    html + "</tbody></table></div>\n"
}

/// A whole page: title, verdict, body (HTML).
pub fn page(title: &str, verdict: &Verdict, body: &str) -> String {
    let (mark, word) =
        if verdict.accepted { (Mark::Good, "accepted") } else { (Mark::Bad, "rejected") };
    let title = escape(title);
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>{title}: {word}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n\
         <header><h1>{title}</h1>{pill}</header>\n<p class=\"reason\">{reason}</p>\n{body}\
         </main>\n</body>\n</html>\n",
        pill = pill(mark, word),
        reason = escape(&verdict.reason),
    )
}

const STYLE: &str = "
:root { --ink: #1b1f24; --soft: #59636e; --line: #d9dee4; --paper: #fff; --tint: #f5f7f9;
  --good: #1a7f37; --warn: #8a5a00; --bad: #c4232d; --accent: #0b62d0; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ed; --soft: #9aa4af; --line: #333b45;
  --paper: #12161b; --tint: #1a2027; --good: #56c271; --warn: #e0a83c; --bad: #ff7b7b;
  --accent: #6cb0ff; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, \"Segoe UI\", sans-serif; }
main { max-width: 64rem; margin: 0 auto; padding: 2rem 1.25rem 4rem; }
header { display: flex; align-items: center; gap: .9rem; flex-wrap: wrap; }
h1 { font-size: 1.6rem; margin: 0; letter-spacing: -.01em; }
h2 { font-size: 1.1rem; margin: 2.2rem 0 .6rem; }
.reason { color: var(--soft); margin: .4rem 0 1.4rem; max-width: 50rem; }
.figures { display: flex; flex-wrap: wrap; gap: .75rem; }
.figures div { background: var(--tint); border: 1px solid var(--line); border-radius: 8px;
  padding: .6rem .9rem; min-width: 7.5rem; }
.figures b { display: block; font-size: 1.3rem; font-variant-numeric: tabular-nums; }
.figures span { color: var(--soft); font-size: .85rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th { text-align: left; font-weight: 600; font-size: .85rem; color: var(--soft); }
th, td { padding: .4rem .7rem .4rem 0; border-bottom: 1px solid var(--line);
  vertical-align: top; }
code { font: .88em ui-monospace, \"SF Mono\", Menlo, Consolas, monospace;
  background: var(--tint); border-radius: 4px; padding: .05em .3em; overflow-wrap: anywhere; }
td > code:only-child { white-space: nowrap; }
.pill { display: inline-block; border: 1px solid currentColor; border-radius: 99px;
  padding: 0 .55em; font-size: .82rem; font-weight: 600; white-space: nowrap; }
.good { color: var(--good); } .warn { color: var(--warn); } .bad { color: var(--bad); }
.dim { color: var(--soft); }
.note { color: var(--soft); font-size: .88rem; }
svg { display: block; max-width: 26rem; width: 100%; height: auto; }
svg text { fill: var(--soft); font: 11px system-ui, sans-serif; }
.grid { display: grid; grid-template-columns: repeat(auto-fit, minmax(18rem, 1fr)); gap: 2rem; }
footer { margin-top: 2.5rem; color: var(--soft); font-size: .85rem; }
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_from_data_cannot_become_markup() {
        let verdict = Verdict { accepted: false, reason: "<script>'\"&".to_owned() };
        let page = page("a<b", &verdict, "");
        assert!(!page.contains("<script"));
        assert!(page.contains("&lt;script&gt;&#39;&quot;&amp;"));
        assert!(page.contains("<title>a&lt;b: rejected</title>"));
        assert!(digest("<").contains("title=\"&lt;\""));
    }
}
