//! Injection into objects of a cluster, and removal from them.
//!
//! In: the names of objects, as `kubectl get` has them. Out: a diff for each object that changes, and after a
//! confirmation the change in the cluster.
//!
//! 1. `kubectl get` reads the objects, `plan` decides about each of them; one refusal refuses all;
//! 2. `kubectl patch --dry-run=server` has the API server check each change, `diff` shows its answer;
//! 3. the user confirms, and `kubectl patch` makes the changes.
//!
//! A patch has a `test` of the template that was read. So a template that changed meanwhile stays as it is; the
//! object is read again, and everything from 2 on is done once more.

mod diff;
mod plan;

use std::ffi::OsString;
use std::fs;
use std::io;

use serde_json::Value;
use thiserror::Error;

use crate::arguments::{DryRun, Live};
use crate::connection;
use crate::console::Console;
use crate::results::{self, Outcome, Row};
use crate::yaml;

pub(crate) use plan::Action;
use plan::{Plan, Target};

/// How often changes are tried when their objects change meanwhile.
const ATTEMPTS: usize = 2;

/// Why objects are not changed.
#[derive(Debug, Error)]
pub enum Error {
    #[error(transparent)]
    Kubectl(#[from] connection::Error),
    #[error("nothing is changed:\n{}", .0.join("\n"))]
    Refused(Vec<String>),
    #[error("not all of it is changed:\n{}", .0.join("\n"))]
    Partly(Vec<String>),
    #[error(
        "nothing is changed: there is no terminal to ask for a confirmation. Add --yes, or look at the \
         changes with --dry-run=server"
    )]
    NoTerminal,
    #[error("nothing is changed: it was not confirmed")]
    NotConfirmed,
    #[error("cannot write: {0}")]
    Io(#[from] io::Error),
    #[error("the objects cannot be written as YAML: {0}")]
    Yaml(#[from] yaml::Error),
}

/// Changes the objects that `live` names.
pub(crate) fn run(
    live: &Live,
    quiet: bool,
    action: &Action<'_>,
    console: &mut Console<'_>,
) -> Result<(), Error> {
    let mut work = Work {
        live,
        quiet,
        action,
        rows: Vec::new(),
        failed: Vec::new(),
        changed: false,
    };
    let mut plans = work.plans(work.read()?)?;
    for attempt in 1..=ATTEMPTS {
        let moved = work.attempt(plans, console)?;
        if moved.is_empty() {
            break;
        }
        for target in &moved {
            let name = target.name();
            if attempt == ATTEMPTS {
                let text = "it keeps changing meanwhile. Try again when its rollout or its other client is done";
                work.failed.push(format!("{name}: {text}"));
                work.rows.push(target.row(Outcome::Failed(text.to_owned())));
            } else {
                writeln!(
                    console.messages,
                    "{name} has changed meanwhile: it is read again"
                )?;
            }
        }
        if attempt == ATTEMPTS {
            break;
        }
        let again = moved.iter().map(|target| work.read_again(target));
        let again = again.collect::<Result<Vec<_>, _>>()?;
        plans = work.plans(again)?;
    }
    work.finish(console)
}

struct Work<'a> {
    live: &'a Live,
    quiet: bool,
    action: &'a Action<'a>,
    /// One for each object that is done.
    rows: Vec<Row>,
    /// Why objects are not changed though others are.
    failed: Vec<String>,
    /// Whether something in the cluster is changed.
    changed: bool,
}

/// A change, and what the object will be.
struct Preview {
    target: Target,
    plan: Plan,
    after: Value,
}

/// Why a patch has no effect.
enum NoEffect {
    /// The template is another one now.
    Moved,
    Failed(String),
}

impl Work<'_> {
    /// The objects as the API server has them.
    fn read(&self) -> Result<Vec<Value>, Error> {
        let live = self.live;
        let mut arguments: Vec<OsString> = vec!["get".into(), "--output=json".into()];
        arguments.extend(
            live.connection
                .namespace
                .as_ref()
                .map(|name| format!("--namespace={name}").into()),
        );
        arguments.extend(
            live.selector
                .as_ref()
                .map(|text| format!("--selector={text}").into()),
        );
        arguments.extend(
            live.field_selector
                .as_ref()
                .map(|text| format!("--field-selector={text}").into()),
        );
        arguments.extend(live.all_namespaces.then(|| "--all-namespaces".into()));
        arguments.extend(live.objects.iter().map(OsString::from));
        let mut found = live.connection.ask_json(&arguments)?;
        let is_list = found["kind"] == "List";
        match found.get_mut("items").filter(|_| is_list).map(Value::take) {
            Some(Value::Array(items)) => Ok(items),
            _ => Ok(vec![found]),
        }
    }

    fn read_again(&self, target: &Target) -> Result<Value, Error> {
        let mut arguments = vec!["get".into(), "--output=json".into()];
        arguments.extend(target.arguments());
        Ok(self.live.connection.try_json(&arguments)?)
    }

    /// What changes; the reasons of all objects that are refused are one error.
    fn plans(&mut self, objects: Vec<Value>) -> Result<Vec<(Target, Plan)>, Error> {
        let mut changes = Vec::new();
        let mut reasons = Vec::new();
        for object in objects {
            let target = Target::new(object);
            match plan::plan(&target, self.action, self.live.all_namespaces) {
                Ok(plan::Decision::Change(plan)) => changes.push((target, plan)),
                Ok(plan::Decision::Nothing(outcome)) => self.rows.push(target.row(outcome)),
                Err(reason) => reasons.push(format!("{}: {reason}", target.name())),
            }
        }
        if reasons.is_empty() {
            return Ok(changes);
        }
        Err(self.refused(reasons))
    }

    fn refused(&mut self, mut reasons: Vec<String>) -> Error {
        if !self.changed {
            return Error::Refused(reasons);
        }
        self.failed.append(&mut reasons);
        Error::Partly(std::mem::take(&mut self.failed))
    }

    /// Shows the changes and makes them. The objects that changed meanwhile are the result.
    fn attempt(
        &mut self,
        plans: Vec<(Target, Plan)>,
        console: &mut Console<'_>,
    ) -> Result<Vec<Target>, Error> {
        let (mut previews, mut moved, mut reasons) = (Vec::new(), Vec::new(), Vec::new());
        for (target, plan) in plans {
            match self.preview(&target, &plan) {
                Ok(after) => previews.push(Preview {
                    target,
                    plan,
                    after,
                }),
                Err(NoEffect::Moved) => moved.push(target),
                Err(NoEffect::Failed(text)) => reasons.push(format!("{}: {text}", target.name())),
            }
        }
        if !reasons.is_empty() {
            return Err(self.refused(reasons));
        }
        self.show(&previews, console)?;
        if self.live.dry_run == DryRun::None && !previews.is_empty() && !self.live.yes {
            let confirmed = confirm(previews.len(), console);
            if confirmed.is_err() && self.changed {
                let names = previews.iter().map(|preview| preview.target.name());
                return Err(self.refused(names.map(|name| name + ": not confirmed").collect()));
            }
            confirmed?;
        }
        for Preview { target, plan, .. } in previews {
            if self.live.dry_run == DryRun::None {
                match self.patch(&target, &plan, false) {
                    Ok(_) => self.changed = true,
                    Err(NoEffect::Moved) => {
                        moved.push(target);
                        continue;
                    }
                    Err(NoEffect::Failed(text)) => {
                        self.failed.push(format!("{}: {text}", target.name()));
                        self.rows.push(target.row(Outcome::Failed(text)));
                        continue;
                    }
                }
            }
            self.rows.push(target.row(plan.outcome));
        }
        Ok(moved)
    }

    fn preview(&self, target: &Target, plan: &Plan) -> Result<Value, NoEffect> {
        match self.live.dry_run {
            DryRun::Client => Ok(plan.after.clone()),
            DryRun::None | DryRun::Server => self.patch(target, plan, true),
        }
    }

    /// The object after the patch.
    fn patch(&self, target: &Target, plan: &Plan, is_dry: bool) -> Result<Value, NoEffect> {
        let failed =
            |error: io::Error| NoEffect::Failed(format!("cannot write a temporary file: {error}"));
        // A command line is too short for the template, at least on Windows.
        let folder = tempfile::tempdir().map_err(failed)?;
        let file = folder.path().join("patch.json");
        fs::write(&file, plan.patch.to_string()).map_err(failed)?;
        let mut file_option = OsString::from("--patch-file=");
        file_option.push(&file);
        let mut arguments: Vec<OsString> = ["patch", "--type=json", "--output=json"]
            .map(OsString::from)
            .to_vec();
        arguments.push("--field-manager=kubectl-podspan".into());
        arguments.extend(is_dry.then(|| "--dry-run=server".into()));
        arguments.push(file_option);
        arguments.extend(target.arguments());
        let error = match self.live.connection.try_json(&arguments) {
            Ok(after) => return Ok(after),
            Err(error) => error,
        };
        // The API server does not say that a test failed, so the object does.
        match self.read_again(target) {
            Ok(now) if !target.is_same(&now) => Err(NoEffect::Moved),
            _ => Err(NoEffect::Failed(error.to_string().trim_end().to_owned())),
        }
    }

    fn show(&self, previews: &[Preview], console: &mut Console<'_>) -> Result<(), Error> {
        let is_coloured = console.is_coloured;
        // The output belongs to the results, if they are asked for.
        let out = if self.live.output.is_some() {
            &mut *console.messages
        } else {
            &mut *console.output
        };
        for Preview { target, after, .. } in previews {
            let text = diff::unified(&target.name(), &target.object, after)?;
            out.write_all(diff::coloured(&text, is_coloured).as_bytes())?;
        }
        out.flush()?;
        for Preview { target, plan, .. } in previews {
            writeln!(console.messages, "{}: {}", target.name(), plan.effect)?;
        }
        Ok(())
    }

    fn finish(self, console: &mut Console<'_>) -> Result<(), Error> {
        let is_dry = self.live.dry_run != DryRun::None;
        match self.live.output {
            Some(format) => results::write(&self.rows, format, is_dry, console.output)?,
            None if self.quiet => (),
            None => results::write_lines(&self.rows, is_dry, console.messages)?,
        }
        if self.failed.is_empty() {
            return Ok(());
        }
        Err(if self.changed {
            Error::Partly(self.failed)
        } else {
            Error::Refused(self.failed)
        })
    }
}

/// Asks whether the cluster is changed.
fn confirm(count: usize, console: &mut Console<'_>) -> Result<(), Error> {
    if !console.is_interactive {
        return Err(Error::NoTerminal);
    }
    let objects = match count {
        1 => "this object".to_owned(),
        count => format!("these {count} objects"),
    };
    if console.confirm(&format!("Change {objects}?"))? {
        return Ok(());
    }
    Err(Error::NotConfirmed)
}
