//! The name that somebody probably meant: edit distance over a list of known names.

/// The candidate closest to `wanted`, if it is close enough to be a slip of the keyboard: at most
/// a third of the longer name's characters differ, letter case aside. Ties go to the first.
pub fn nearest<'a>(wanted: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wanted: Vec<char> = wanted.to_lowercase().chars().collect();
    let mut best: Option<(usize, &str)> = None;
    for candidate in candidates {
        let chars: Vec<char> = candidate.to_lowercase().chars().collect();
        let limit = wanted.len().max(chars.len()).div_ceil(3);
        // The distance is at least the difference in length, which is cheap to know.
        if wanted.len().abs_diff(chars.len()) > limit {
            continue;
        }
        let found = distance(&wanted, &chars);
        if found <= limit && best.is_none_or(|(least, _)| found < least) {
            best = Some((found, candidate));
        }
    }
    best.map(|(_, name)| name)
}

/// The tail of a message that names the nearest candidate, or lists a few when none is near:
/// `did you mean "x"?` or `it has: "a", "b", …`.
pub fn suggestion<'a>(
    wanted: &str,
    candidates: impl IntoIterator<Item = &'a str> + Clone,
) -> String {
    const LISTED: usize = 8;
    if let Some(name) = nearest(wanted, candidates.clone()) {
        return format!("did you mean {name:?}?");
    }
    let all: Vec<&str> = candidates.into_iter().collect();
    if all.is_empty() {
        return "there are none".to_owned();
    }
    let mut text = "there are: ".to_owned();
    for (index, name) in all.iter().take(LISTED).enumerate() {
        let comma = if index == 0 { "" } else { ", " };
        text.push_str(&format!("{comma}{name:?}"));
    }
    if all.len() > LISTED {
        text.push_str(&format!(" and {} more", all.len() - LISTED));
    }
    text
}

/// Edits (insert, delete, replace, swap of neighbours) that turn one name into the other.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = replaced.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(before[j - 2] + 1);
            }
            row.push(least);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_its_name_and_a_stranger_does_not() {
        let names = ["diagnosis", "mean_radius", "id"];
        assert_eq!(nearest("diagnosys", names), Some("diagnosis"));
        assert_eq!(nearest("Mean_Radius", names), Some("mean_radius"));
        assert_eq!(nearest("di", names), Some("id"));
        assert_eq!(nearest("temperature", names), None);
    }

    #[test]
    fn a_stranger_gets_the_list_cut_short() {
        let names: Vec<String> = (0..20).map(|n| format!("column_{n:02}_x")).collect();
        let text = suggestion("qqqq", names.iter().map(String::as_str));
        assert!(text.ends_with("and 12 more"), "{text}");
        assert_eq!(suggestion("x", []), "there are none");
    }
}
