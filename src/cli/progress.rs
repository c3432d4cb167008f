//! Progress of a build: live on a terminal, plain lines elsewhere.

use std::{collections::BTreeMap, io::IsTerminal as _, path::PathBuf, time::Duration};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use kiln_engine::{
    attempt::log::latest,
    event::{Event, How, StepReport, VerdictWord},
    forecast::Forecast,
    graph::StepId,
};

use super::{style, summary, visible::visible};

/// Shows what a build does.
pub struct Progress {
    screen: Option<Screen>,
    quiet: bool,
    note: Option<String>,
    steps: usize,
    ended: BTreeMap<StepId, How>,
    /// How many of these ran, and how many have the result of another build.
    ran: usize,
    reused: usize,
    /// How many have none.
    others: usize,
    forecast: Option<Forecast>,
}

/// The live part of a terminal.
struct Screen {
    bars: MultiProgress,
    total: ProgressBar,
    running: BTreeMap<StepId, Running>,
}

/// A step that runs.
struct Running {
    bar: ProgressBar,
    /// Where it prints to.
    log: Option<PathBuf>,
}

impl Running {
    /// Shows what the step printed last, a training's latest epoch for instance.
    fn refresh(&self) {
        if let Some(latest) = self.log.as_deref().and_then(latest) {
            let plain = anstream::adapter::strip_str(&latest).to_string();
            self.bar.set_message(visible(&plain).into_owned());
        }
    }
}

impl Progress {
    /// Progress on stderr; none at all if `quiet`.
    pub fn new(quiet: bool) -> Self {
        let live = std::io::stderr().is_terminal()
            && std::env::var_os("CI").is_none()
            && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        let screen = (live && !quiet).then(|| {
            let bars = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
            let total = bars.add(ProgressBar::new(0));
            total.set_style(template("{bar:24} {pos}/{len} {wide_msg}"));
            Screen { bars, total, running: BTreeMap::new() }
        });
        Self {
            screen,
            quiet,
            note: None,
            steps: 0,
            ended: BTreeMap::new(),
            ran: 0,
            reused: 0,
            others: 0,
            forecast: None,
        }
    }

    /// Says `note` when the first step runs, and not at all if none does.
    pub fn before_first_run(&mut self, note: String) {
        self.note = Some(note);
    }

    /// Shows an event.
    pub fn show(&mut self, event: &Event<'_>) {
        match event {
            Event::Begun { steps } => {
                self.steps = *steps;
                if let Some(screen) = &self.screen {
                    screen.total.set_length(*steps as u64);
                }
            }
            Event::Started { step, name, why, estimate } => {
                if let Some(note) = self.note.take() {
                    self.line(&summary::note(&note));
                }
                if let Some(before) = self.ended.remove(step) {
                    *self.tally(before) -= 1;
                }
                self.started(*step, name, why, *estimate);
            }
            Event::Waiting { step, name } => {
                let text = format!("waiting for another kiln that is at {name}");
                match self.running(*step) {
                    Some(running) => running.bar.set_message(text),
                    None => self.line(&format!("{:>9} {name}: another kiln is at it", "waiting")),
                }
            }
            Event::Printing { step, log } => {
                if let Some(running) = self.running(*step) {
                    running.log = Some(log.to_path_buf());
                }
            }
            Event::Retrying { step, name, attempt, of, reason } => {
                let text = format!("attempt {attempt} of {of}");
                if let Some(running) = self.running(*step) {
                    running.bar.set_message(text.clone());
                }
                let name = style::paint(style::NAME, name);
                self.line(&format!("{:>9} {name}: {text} ({})", "retrying", visible(reason)));
            }
            Event::Finished { step, report } => self.finished(*step, report),
            Event::Forecast(forecast) => {
                self.forecast = Some(**forecast);
                let running = self.screen.iter().flat_map(|screen| screen.running.values());
                running.for_each(Running::refresh);
            }
            Event::Note(text) => self.line(&summary::note(text)),
        }
        self.totals();
    }

    /// A step's line on a terminal.
    fn running(&mut self, step: StepId) -> Option<&mut Running> {
        self.screen.as_mut()?.running.get_mut(&step)
    }

    fn started(&mut self, step: StepId, name: &str, why: &[String], estimate: Option<Duration>) {
        let why = match why {
            [] => String::new(),
            [one] => visible(one).into_owned(),
            [first, rest @ ..] => format!("{} (and {} more)", visible(first), rest.len()),
        };
        match &mut self.screen {
            Some(screen) => {
                let bar = screen.bars.insert_before(&screen.total, ProgressBar::new_spinner());
                bar.set_style(template("{spinner} {prefix:.bold} {elapsed} {wide_msg:.dim}"));
                bar.set_prefix(name.to_owned());
                let estimate = estimate.map(|time| format!("(last time {}) ", style::time(time)));
                bar.set_message(format!("{}{why}", estimate.unwrap_or_default()));
                bar.enable_steady_tick(Duration::from_millis(120));
                screen.running.insert(step, Running { bar, log: None });
            }
            None => {
                let why = if why.is_empty() { why } else { format!(": {why}") };
                // Where nobody sees a clock, it is worth a word only if there is time to read it.
                let estimate = estimate.filter(|time| *time >= Duration::from_secs(2));
                let estimate = estimate.map(|time| format!(" (last time {})", style::time(time)));
                let estimate = estimate.unwrap_or_default();
                let name = style::paint(style::NAME, name);
                self.line(&format!("{:>9} {name}{why}{estimate}", "running"));
            }
        }
    }

    fn finished(&mut self, step: StepId, report: &StepReport) {
        let ran = match &mut self.screen {
            Some(screen) => {
                screen.running.remove(&step).map(|step| step.bar.finish_and_clear()).is_some()
            }
            None => report.how == How::Ran,
        };
        let before = self.ended.insert(step, report.how);
        if let Some(before) = before {
            *self.tally(before) -= 1;
        }
        *self.tally(report.how) += 1;
        let repeated = before.is_some();
        let name = style::paint(style::NAME, &report.step);
        let rejected = report.verdict == Some(VerdictWord::Rejected);
        let line = match report.how {
            _ if rejected && !repeated => {
                let reason = visible(report.reason.as_deref().unwrap_or_default());
                let again = if report.how == How::Reused { " (as before)" } else { "" };
                Some(format!(
                    "{} {name}{again}: {reason}",
                    style::paint(style::BAD, format_args!("{:>9}", "rejected"))
                ))
            }
            How::Ran if ran => {
                let took = style::time(Duration::from_secs_f64(report.seconds.max(0.0)));
                Some(format!(
                    "{} {name} in {took}",
                    style::paint(style::GOOD, format_args!("{:>9}", "made"))
                ))
            }
            How::Failed => {
                let reason = visible(report.reason.as_deref().unwrap_or_default());
                Some(format!(
                    "{} {name}: {reason}",
                    style::paint(style::BAD, format_args!("{:>9}", "failed"))
                ))
            }
            How::Ran | How::Reused | How::Substituted | How::Skipped => None,
        };
        if let Some(line) = line {
            self.line(&line);
        }
        for difference in &report.differences {
            self.line(&format!(
                "{} {name}: {}",
                style::paint(style::BAD, format_args!("{:>9}", "differs")),
                visible(difference)
            ));
        }
    }

    /// Where steps that ended so are counted.
    fn tally(&mut self, how: How) -> &mut usize {
        match how {
            How::Ran => &mut self.ran,
            How::Reused | How::Substituted => &mut self.reused,
            How::Failed | How::Skipped => &mut self.others,
        }
    }

    fn totals(&self) {
        let Some(screen) = &self.screen else { return };
        screen.total.set_position(self.ended.len() as u64);
        let left = self.forecast.as_ref().and_then(time_left);
        let left = left.map(|left| format!(" · {left} left")).unwrap_or_default();
        screen.total.set_message(format!(
            "{} running · {} ran · {} reused · {} remain{left}",
            screen.running.len(),
            self.ran,
            self.reused,
            self.steps.saturating_sub(self.ended.len() + screen.running.len()),
        ));
    }

    fn line(&self, text: &str) {
        match &self.screen {
            _ if self.quiet => {}
            // A terminal that is gone needs no lines.
            Some(screen) => drop(screen.bars.println(text)),
            None => anstream::eprintln!("{text}"),
        }
    }

    /// Takes the live part off the screen.
    pub fn finish(&mut self) {
        if let Some(screen) = self.screen.take() {
            for running in screen.running.values() {
                running.bar.finish_and_clear();
            }
            screen.total.finish_and_clear();
        }
    }
}

/// How long the rest takes, in words that promise no more than is known; nothing where nothing is known.
///
/// A step that never ran or that is late already makes all that is known a lower bound.
pub fn time_left(forecast: &Forecast) -> Option<String> {
    let (least, most) = (seconds(forecast.least_seconds), seconds(forecast.most_seconds));
    if forecast.unknown > 0 || forecast.late > 0 {
        return (least >= Duration::from_secs(1))
            .then(|| format!("at least {}", style::time(least)));
    }
    if most < Duration::from_millis(100) {
        return None;
    }
    Some(match least.as_secs_f64() {
        least_seconds if least_seconds >= most.as_secs_f64() * 0.9 => {
            format!("about {}", style::time(most))
        }
        least_seconds if least_seconds < 0.1 => format!("at most {}", style::time(most)),
        _ => format!("{} to {}", style::time(least), style::time(most)),
    })
}

fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX)
}

fn template(text: &str) -> ProgressStyle {
    ProgressStyle::with_template(text).expect("the templates in this file are valid")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_left_promises_no_more_than_is_known() {
        let told = |least_seconds, most_seconds, unknown, late| {
            time_left(&Forecast { least_seconds, most_seconds, unknown, late })
        };
        assert_eq!(told(20.0, 20.0, 0, 0).as_deref(), Some("about 20 s"));
        assert_eq!(told(20.0, 90.0, 0, 0).as_deref(), Some("20 s to 1 min 30 s"));
        assert_eq!(told(0.0, 90.0, 0, 0).as_deref(), Some("at most 1 min 30 s"));
        assert_eq!(told(20.0, 90.0, 1, 0).as_deref(), Some("at least 20 s"));
        assert_eq!(told(20.0, 20.0, 0, 1).as_deref(), Some("at least 20 s"));
        assert_eq!(told(0.0, 0.0, 3, 0), None, "nobody knows anything");
        assert_eq!(told(0.0, 0.0, 0, 0), None, "nothing is left");
    }
}
