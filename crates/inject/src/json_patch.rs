//! The changes of an injection as a JSON Patch (RFC 6902), for an answer to an API server.
//!
//! In: a pod, or the template of one, and the options. Out: the operations that make of it what
//! [`inject`](crate::inject) returns. All steps of a plan are about different lists, so the place of an entry is
//! the same before and after the other operations.

use serde_json::{Value, json};

use crate::Options;
use crate::pod::plan_inject;
use crate::refused::Refused;
use crate::step::{Rest, Step, rest_value};

/// The operations that add podspan's sidecar to a pod, or bring it up to date; empty if it is.
///
/// # Errors
/// Those of [`inject`](crate::inject).
pub fn patch(template: &Value, options: &Options<'_>) -> Result<Vec<Value>, Refused> {
    let steps = plan_inject(template, options, &|_| None)?;
    Ok(steps.iter().map(operation).collect())
}

fn operation(step: &Step) -> Value {
    let list = format!("/spec/{}", step.list().field());
    match step {
        // The operation add replaces a field that is there.
        Step::AddList(_, tree) | Step::FillList(_, tree) => {
            json!({"op": "add", "path": list, "value": [tree.value()]})
        }
        Step::InsertFirst(tree) => {
            json!({"op": "add", "path": format!("{list}/0"), "value": tree.value()})
        }
        Step::Append(_, tree) => {
            json!({"op": "add", "path": format!("{list}/-"), "value": tree.value()})
        }
        Step::Replace(_, place, tree) => {
            json!({"op": "replace", "path": format!("{list}/{place}"), "value": tree.value()})
        }
        Step::Remove(_, place, Rest::Entries) => {
            json!({"op": "remove", "path": format!("{list}/{place}")})
        }
        Step::Remove(_, _, Rest::Nothing) => json!({"op": "remove", "path": list}),
        Step::Remove(_, _, Rest::Text(text)) => {
            json!({"op": "replace", "path": list, "value": rest_value(text)})
        }
    }
}
