//! What was planned happened.

use kiln_engine::{
    event::How,
    explain::Reason,
    plan::{Outlook, Plan},
};

use super::Judged;

impl Judged<'_> {
    /// What was planned to run ran, for the reason that was given; nothing else did.
    pub(super) fn plan(&self, plan: &Plan) {
        let draft = self.expected().draft;
        let request = self.request();
        // What else was asked for may need bytes that nothing planned needs.
        let wider = draft.closure(&request.asked(draft)) != draft.closure(&request.wanted(draft));
        for planned in &plan.steps {
            let name = &self.graph.step(planned.step).name;
            let at = draft.find(name).expect("a step of the draft");
            let how = self.report(at).how;
            let executed = self.runs_of(at).next().is_some();
            let readings = self.expected().fates[&at].readings();
            let twin_ran = self.ran.iter().any(|ran| Some(ran.readings.as_str()) == readings);
            let sound = match &planned.outlook {
                Outlook::UpToDate => {
                    how == How::Reused && (!executed || request.check.contains(name)) || wider
                }
                Outlook::MayRun { .. } => true,
                Outlook::Withheld(_) => how == How::Skipped && !executed,
                Outlook::WouldRun(_) if self.is_stopped() => true,
                // Another step that ran may have made the same bytes.
                Outlook::WouldRun(Reason::OutputLost { .. }) => {
                    twin_ran || self.ran.iter().any(|ran| ran.step != *name)
                }
                Outlook::WouldRun(_) => twin_ran,
            };
            let outlook = &planned.outlook;
            assert!(sound, "`{name}` was planned to be {outlook:?} and is {how:?}; {:?}", self.ran);
            if let (Outlook::WouldRun(reason), true) = (outlook, executed && how != How::Reused) {
                assert_eq!(self.report(at).why, reason.lines(), "why `{name}` ran");
            }
        }
    }
}
