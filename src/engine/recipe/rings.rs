//! Order by need, and what is said of nodes that need each other.
//!
//! Unaware of whether they are steps or deployments.

use std::ops::Range;

use super::{order, problems::Problems};

/// Where a node names another.
pub(super) type Edge = (usize, Range<usize>);

/// The order of nodes by what they need, or `None` after reporting each ring.
pub(super) fn ordered(
    edges: &[Vec<Edge>],
    names: &[&str],
    what: &str,
    verb: &str,
    problems: &mut Problems,
) -> Option<Vec<usize>> {
    /// A longer ring is not shown whole.
    const SHOWN: usize = 12;
    let needs: Vec<Vec<usize>> =
        edges.iter().map(|edges| edges.iter().map(|(to, _)| *to).collect()).collect();
    let rings = match order::sorted(&needs) {
        Ok(order) => return Some(order),
        Err(rings) => rings,
    };
    for ring in rings {
        let links: Vec<(Range<usize>, String)> = ring
            .iter()
            .enumerate()
            .filter_map(|(position, &from)| {
                let to = ring[(position + 1) % ring.len()];
                let (_, span) = edges[from].iter().find(|(target, _)| *target == to)?;
                Some((span.clone(), format!("`{}` {verb} `{}`", names[from], names[to])))
            })
            .collect();
        let Some(((first, label), rest)) = links.split_first() else { continue };
        let mut path: Vec<&str> = ring.iter().take(SHOWN).map(|&node| names[node]).collect();
        if ring.len() > SHOWN {
            path.push("…");
        }
        path.push(names[ring[0]]);
        let message = match ring.len() {
            1 => format!("{what} `{}` needs itself", names[ring[0]]),
            _ => format!("{what}s need each other: {}", path.join(" → ")),
        };
        let mut problem = problems.at(first.clone(), message, label.clone());
        for (span, label) in rest.iter().take(SHOWN) {
            problem = problem.related(problems.place(span.clone()), label.clone());
        }
        problem = match (what, ring.len()) {
            ("step", 1) => problem.help("`${out}` is where a step writes its own output"),
            (_, 1) => problem,
            _ => problem.help("none of them could be the first: take one of these out"),
        };
        problems.push(problem);
    }
    None
}
