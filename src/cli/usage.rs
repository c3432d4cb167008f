//! Wrong usage, as a value: what clap found, taken apart into the shape of every other failure.

use clap::error::ErrorKind;

use super::failure::Failure;

/// Whether nothing is wrong but that there is no command. What clap says of it lists hidden commands too.
fn is_missing_command(error: &clap::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand
    )
}

/// The failure that stands for what clap found.
pub fn failure(error: &clap::Error) -> Failure {
    if is_missing_command(error) {
        return Failure::usage("a command is missing", "kiln --help lists the commands");
    }
    let text = error.render().to_string();
    let mut message = String::new();
    let (mut help, mut usage) = (Vec::new(), None);
    for paragraph in text.split("\n\n") {
        let line = paragraph.split_whitespace().collect::<Vec<_>>().join(" ");
        if let Some(rest) = line.strip_prefix("error: ") {
            message = rest.to_owned();
        } else if line.starts_with("tip: ") {
            help.extend(
                line.split("tip: ").map(str::trim).filter(|tip| !tip.is_empty()).map(str::to_owned),
            );
        } else if let Some(rest) = line.strip_prefix("Usage: ") {
            usage = Some(rest.to_owned());
        } else if let Some(rest) = line.strip_prefix("For more information, ") {
            help.push(rest.trim_end_matches('.').to_owned());
        } else if !line.is_empty() {
            message = format!("{message} {line}");
        }
    }
    let mut failure = Failure::usage(message.trim(), help.join("; "));
    if let Some(usage) = usage {
        failure = failure.note(format!("usage: {usage}"));
    }
    failure
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::Cli;

    fn told(arguments: &[&str]) -> String {
        let arguments = std::iter::once("kiln").chain(arguments.iter().copied());
        let error = Cli::try_parse_from(arguments).expect_err("the usage is wrong");
        let failure = failure(&error);
        let [problem] = failure.problems() else { panic!("one problem") };
        format!("{}\n{}\n{}", problem.message, problem.notes.join("\n"), problem.help.join("\n"))
    }

    #[test]
    fn what_clap_finds_is_taken_apart() {
        assert_eq!(
            told(&["buidl"]),
            "unrecognized subcommand 'buidl'\nusage: kiln [OPTIONS] <COMMAND>\n\
             a similar subcommand exists: 'build'; try '--help'"
        );
        assert_eq!(
            told(&["why"]),
            "the following required arguments were not provided: <STEP>\nusage: kiln why <STEP>\ntry '--help'"
        );
        let text = told(&["build", "--jobs", "0"]);
        assert!(text.starts_with("invalid value '0' for '--jobs <N>'"), "{text}");
        assert_eq!(told(&["--json"]), "a command is missing\n\nkiln --help lists the commands");
    }
}
