//! Sources that steps read where they lie, kept with what is deployed.
//!
//! Unaware of how deployments switch.

use kiln_cache::Object;
use kiln_engine::{
    diagnostic::Diagnostic,
    graph::{Origin, Source},
};
use kiln_registry::Lineage;

use super::{
    failure::{Failure, chain},
    project::Project,
    style, summary,
};

/// Whether the build that is deployed was made just now, from the sources beside the recipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Built {
    /// They have to be what it read.
    Now,
    /// They may have moved on since.
    Earlier,
}

/// Copies those sources of a lineage into the store that are not there; a session has to be open.
pub fn sources(project: &Project, lineage: &Lineage, built: Built) -> Result<(), Failure> {
    let graph = &project.graph;
    let absent = |object: &Object| !project.store.contains(object);
    for (name, object) in lineage.sources.iter().filter(|(_, object)| absent(object)) {
        let source = graph.sources.iter().find(|source| source.name == *name);
        let local = source.filter(|source| !matches!(source.origin, Origin::Deployment { .. }));
        match (local, built) {
            (Some(source), Built::Now) => capture(project, source, object)?,
            (Some(source), Built::Earlier) if is_still(project, source, object) => {
                capture(project, source, object)?;
            }
            _ => summary::warn(&format!(
                "the source `{name}` of this release is not in the store and no longer beside the recipe; it cannot be \
                 kept with the deployment"
            )),
        }
    }
    Ok(())
}

fn is_still(project: &Project, source: &Source, object: &Object) -> bool {
    let now = project.with_context(|context| context.reader.resolve(source));
    now.is_ok_and(|now| now.object == Some(*object))
}

fn capture(project: &Project, source: &Source, object: &Object) -> Result<(), Failure> {
    project.with_context(|context| {
        let changed = || {
            let problem =
                Diagnostic::new(format!("source `{}` changed after it was built", source.name))
                    .at(source.at.clone(), "it cannot be kept with the deployment as it was read")
                    .help("nothing was deployed; deploy again once it is still");
            Failure::failed(problem)
        };
        let now =
            context.reader.resolve(source).map_err(|problem| Failure::recipe(vec![problem]))?;
        if now.object != Some(*object) {
            return Err(changed());
        }
        anstream::eprintln!(
            "keeping the source {} ({}) with the deployment",
            source.name,
            style::bytes(now.bytes)
        );
        now.capture(context.store).map_err(|error| match error {
            kiln_engine::source::PresentError::Changed(_) => changed(),
            error => Failure::failed(
                Diagnostic::new(format!("source `{}` cannot be kept in the store", source.name))
                    .note(chain(&error))
                    .help("nothing was deployed; make room, or remove what is not needed: kiln gc"),
            ),
        })
    })
}
