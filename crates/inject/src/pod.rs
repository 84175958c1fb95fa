//! What injection and removal change in a pod.
//!
//! In: the template of a pod and the options. Out: a plan, which is a list of [`Step`]s, or the reasons of a
//! refusal. [`inject`] and [`remove`] apply the plan to the value; `yaml` applies it to text. So both decide
//! alike.
//!
//! A container is podspan's if it has its name, gets the four variables of the downward API, and has no field
//! that podspan never writes, except for what the API server adds. Everything else of this name is refused,
//! because replacing or removing it would lose what somebody else wrote. An update that would lose what somebody
//! patched into podspan's container is refused too (`patched`).
//!
//! Where `initContainers` or `volumes` existed without an entry, the sidecar has a variable of [`RESTORE`]; removal
//! reads there what to leave.

use serde_json::{Map, Value};

use crate::Options;
use crate::annotations;
use crate::given::Given;
use crate::patched;
use crate::quantity::thousandths;
use crate::refused::{Reason, Refused};
use crate::setting::{self, PREFIX};
use crate::sidecar::{DOWNWARD, NAME, Placement, RESTORE, Sidecar};
use crate::step::{List, Rest, Step, applied, rest};
use crate::tunnel;

/// The texts that stand in lists without entries, by list.
pub(crate) type Texts<'a> = dyn Fn(List) -> Option<&'a str> + 'a;

/// Adds podspan's sidecar to the template of a pod, or brings it up to date.
///
/// # Errors
/// Every reason why not: wrong annotations, a container of podspan's name that is somebody else's, a pod
/// that is not valid.
pub fn inject(template: &Value, options: &Options<'_>) -> Result<Value, Refused> {
    let steps = plan_inject(template, options, &|_| None)?;
    Ok(applied(template, &steps))
}

/// Removes podspan's sidecar from the template of a pod. Without one, nothing changes.
///
/// # Errors
/// When a container of podspan's name is somebody else's, or the pod has no other container.
pub fn remove(template: &Value) -> Result<Value, Refused> {
    let steps = plan_remove(template)?;
    Ok(applied(template, &steps))
}

/// Whether the template of a pod has podspan's sidecar.
#[must_use]
pub fn is_injected(template: &Value) -> bool {
    find(&template["spec"]).is_ok_and(|found| found.init.is_some() || found.main.is_some())
}

/// What injection changes. `texts`: where there are texts, those of lists without entries.
pub(crate) fn plan_inject(
    template: &Value,
    options: &Options<'_>,
    texts: &Texts<'_>,
) -> Result<Vec<Step>, Refused> {
    check_form(template)?;
    let spec = &template["spec"];
    let mut reasons = Vec::new();
    let found = find(spec).map_err(|reason| reasons.push(reason)).ok();
    reasons.extend(check_pod(spec, options.placement));
    let metadata = &template["metadata"];
    reasons.extend(check_labels(&metadata["labels"], options));
    let (given, mut wrong) = Given::new(&metadata["annotations"], options);
    reasons.append(&mut wrong);
    let sidecar =
        annotations::sidecar(&given, spec, options).map_err(|mut wrong| reasons.append(&mut wrong));
    let (Some(found), Ok(mut sidecar)) = (found, sidecar) else {
        return Err(Refused { reasons });
    };
    if metadata["labels"]["run"] == sidecar.sensor() {
        reasons.push(Reason::OwnSensor(sidecar.sensor().to_owned()));
    }
    for container in found.containers(spec) {
        reasons.extend(patched::reasons(container, &sidecar, &given, options));
    }
    if found.is_mounted(spec) && sidecar.tunnel.is_none() {
        let secret = tunnel::secret(spec).unwrap_or_default();
        reasons.push(patched::secret(secret));
    }
    let volume = volume(spec, &found, &mut sidecar, texts).map_err(|reason| reasons.push(reason));
    if !reasons.is_empty() {
        return Err(Refused { reasons });
    }
    let mut steps = match options.placement {
        Placement::Native => native(spec, &found, sidecar, texts),
        Placement::Plain => plain(spec, &found, &sidecar),
    };
    steps.extend(volume.ok().flatten());
    Ok(steps)
}

/// The volume with the keys.
fn volume(
    spec: &Value,
    found: &Found,
    sidecar: &mut Sidecar,
    texts: &Texts<'_>,
) -> Result<Option<Step>, Reason> {
    let Some(secret) = &sidecar.tunnel else {
        return Ok(None);
    };
    let step = tunnel::plan_inject(spec, found.is_mounted(spec), secret)?;
    let text = match step {
        Some(Step::FillList(list, _)) => Some(empty_text(spec, list, texts)),
        _ => found.restore_text(spec, List::Volumes),
    };
    sidecar.restore(List::Volumes, text);
    Ok(step)
}

/// What stands in a list without entries.
fn empty_text<'a>(spec: &Value, list: List, texts: &Texts<'a>) -> &'a str {
    let of_value = if spec[list.field()].is_null() {
        "null"
    } else {
        "[]"
    };
    texts(list).unwrap_or(of_value)
}

fn native(spec: &Value, found: &Found, mut sidecar: Sidecar, texts: &Texts<'_>) -> Vec<Step> {
    let mut steps = Vec::new();
    let list = &spec["initContainers"];
    match found.init {
        Some(place) => {
            sidecar.restore(List::Init, restore_text(&list[place], List::Init));
            let wanted = sidecar.container();
            if !is_same(&list[place], &wanted.value()) {
                steps.push(Step::Replace(List::Init, place, wanted));
            }
        }
        None => match list {
            Value::Array(entries) if !entries.is_empty() => {
                steps.push(Step::InsertFirst(sidecar.container()));
            }
            Value::Null if spec.get("initContainers").is_none() => {
                steps.push(Step::AddList(List::Init, sidecar.container()));
            }
            _ => {
                sidecar.restore(List::Init, Some(empty_text(spec, List::Init, texts)));
                steps.push(Step::FillList(List::Init, sidecar.container()));
            }
        },
    }
    if let Some(place) = found.main {
        steps.push(Step::Remove(List::Main, place, Rest::Entries));
    }
    steps
}

fn plain(spec: &Value, found: &Found, sidecar: &Sidecar) -> Vec<Step> {
    let wanted = sidecar.container();
    let mut steps = Vec::new();
    match found.main {
        Some(place) if is_same(&spec["containers"][place], &wanted.value()) => (),
        Some(place) => steps.push(Step::Replace(List::Main, place, wanted)),
        None => steps.push(Step::Append(List::Main, wanted)),
    }
    if let Some(place) = found.init {
        steps.push(remove_init(spec, place));
    }
    steps
}

/// What removal changes.
pub(crate) fn plan_remove(template: &Value) -> Result<Vec<Step>, Refused> {
    check_form(template)?;
    let spec = &template["spec"];
    let found = find(spec)?;
    let init = found.init.map(|place| remove_init(spec, place));
    let main = found
        .main
        .map(|place| Step::Remove(List::Main, place, Rest::Entries));
    let restore = found.restore_text(spec, List::Volumes);
    let volume = tunnel::plan_remove(spec, found.is_mounted(spec), restore)?;
    Ok(init.into_iter().chain(main).chain(volume).collect())
}

fn remove_init(spec: &Value, place: usize) -> Step {
    let list = &spec["initContainers"];
    let rest = rest(list, restore_text(&list[place], List::Init));
    Step::Remove(List::Init, place, rest)
}

/// Whether the template has the fields that everything else reads, each of its type.
fn check_form(template: &Value) -> Result<(), Reason> {
    let wrong = |field: &str, kind| Err(Reason::Type(field.to_owned(), kind));
    let Some(spec) = template["spec"].as_object() else {
        return wrong("spec", "a mapping");
    };
    let metadata = &template["metadata"];
    if !metadata.is_null() && !metadata.is_object() {
        return wrong("metadata", "a mapping");
    }
    for list in [List::Init, List::Main, List::Volumes] {
        match spec.get(list.field()) {
            Some(Value::Array(entries)) if !entries.iter().all(Value::is_object) => {
                return wrong(&format!("an entry of spec.{}", list.field()), "a mapping");
            }
            None | Some(Value::Null | Value::Array(_)) => (),
            Some(_) => return wrong(&format!("spec.{}", list.field()), "a list"),
        }
    }
    let main = template["spec"]["containers"].as_array();
    let is_application = |entry: &Value| entry["name"] != NAME;
    if !main.is_some_and(|entries| entries.iter().any(is_application)) {
        return Err(Reason::NoContainers);
    }
    Ok(())
}

/// Labels that were meant as annotations.
fn check_labels(labels: &Value, options: &Options<'_>) -> Vec<Reason> {
    let names = labels.as_object().into_iter().flat_map(Map::keys);
    names
        .filter(|label| {
            let name = label.strip_prefix(PREFIX);
            name.is_some_and(|name| setting::is_known(name, options.settings))
        })
        .map(|label| Reason::Label(label.clone()))
        .collect()
}

/// Pods in which podspan cannot run, or would do harm.
fn check_pod(spec: &Value, placement: Placement) -> Vec<Reason> {
    let mut reasons = Vec::new();
    let windows = [
        &spec["os"]["name"],
        &spec["nodeSelector"]["kubernetes.io/os"],
    ];
    if windows.into_iter().any(|os| os == "windows") {
        reasons.push(Reason::Windows);
    }
    let restart = spec["restartPolicy"].as_str().unwrap_or("Always");
    if placement == Placement::Plain && restart != "Always" {
        reasons.push(Reason::NeverEnds(crate::refused::Name(restart).to_string()));
    }
    reasons
}

/// Where podspan's container is.
#[derive(Debug, Default)]
struct Found {
    init: Option<usize>,
    main: Option<usize>,
}

impl Found {
    fn containers<'a>(&self, spec: &'a Value) -> impl Iterator<Item = &'a Value> {
        let init = self.init.map(|place| &spec["initContainers"][place]);
        let main = self.main.map(|place| &spec["containers"][place]);
        init.into_iter().chain(main)
    }

    /// Whether podspan's container mounts the volume with the keys.
    fn is_mounted(&self, spec: &Value) -> bool {
        self.containers(spec).any(tunnel::has_mount)
    }

    fn restore_text<'a>(&self, spec: &'a Value, list: List) -> Option<&'a str> {
        let mut containers = self.containers(spec);
        containers.find_map(|container| restore_text(container, list))
    }
}

fn find(spec: &Value) -> Result<Found, Reason> {
    let places = |field: &str| -> Vec<(usize, &Value)> {
        let entries = spec[field].as_array().map_or(&[][..], Vec::as_slice);
        (0..)
            .zip(entries)
            .filter(|(_, entry)| entry["name"] == NAME)
            .collect()
    };
    let foreign = |field: &str, why: &str| Reason::Foreign {
        list: format!("spec.{field}"),
        why: why.to_owned(),
    };
    let one = |list: List| match places(list.field()).as_slice() {
        [] => Ok(None),
        [(place, entry)] => match not_podspan(entry, list) {
            None => Ok(Some(*place)),
            Some(why) => Err(foreign(list.field(), &why)),
        },
        _ => Err(foreign(list.field(), "there are several")),
    };
    if !places("ephemeralContainers").is_empty() {
        return Err(foreign(
            "ephemeralContainers",
            "podspan is not injected there",
        ));
    }
    Ok(Found {
        init: one(List::Init)?,
        main: one(List::Main)?,
    })
}

/// Why a container of podspan's name is not podspan's sidecar.
fn not_podspan(container: &Value, list: List) -> Option<String> {
    let fields = container.as_object()?;
    for (name, value) in fields {
        let written = match name.as_str() {
            "name" | "image" | "env" | "resources" | "securityContext" => true,
            "restartPolicy" => list == List::Init,
            "volumeMounts" => value.as_array().is_some_and(|mounts| {
                let mut mounts = mounts.iter();
                mounts.all(|mount| is_token(mount) || tunnel::is_mount(mount))
            }),
            _ => is_default(name, value),
        };
        if !written {
            let name = crate::refused::Name(name);
            return Some(format!("it has {name}, which podspan never sets"));
        }
    }
    if list == List::Init && container["restartPolicy"] != "Always" {
        return Some("it has no restartPolicy: Always".to_owned());
    }
    let environment = container["env"].as_array().map_or(&[][..], Vec::as_slice);
    for (name, path) in DOWNWARD {
        let variable = environment.iter().find(|variable| variable["name"] == name);
        let field = variable.map(|variable| &variable["valueFrom"]["fieldRef"]["fieldPath"]);
        if field.is_none_or(|field| field != path) {
            return Some(format!("its variable {name} is not the field {path}"));
        }
    }
    let foreign = environment.iter().find(|variable| {
        let name = variable["name"].as_str().unwrap_or_default();
        !DOWNWARD.iter().any(|(known, _)| *known == name) && variable.get("valueFrom").is_some()
    });
    foreign.map(|variable| {
        let name = crate::refused::Name(variable["name"].as_str().unwrap_or_default()).to_string();
        format!("its variable {name} has valueFrom")
    })
}

/// What the API server adds to a container.
fn is_default(field: &str, value: &Value) -> bool {
    match field {
        "imagePullPolicy" => value == "IfNotPresent" || value == "Always",
        "terminationMessagePath" => value == "/dev/termination-log",
        "terminationMessagePolicy" => value == "File",
        "volumeMounts" => value
            .as_array()
            .is_some_and(|mounts| mounts.iter().all(is_token)),
        _ => false,
    }
}

/// Whether the API server has added this mount.
fn is_token(mount: &Value) -> bool {
    mount["mountPath"] == "/var/run/secrets/kubernetes.io/serviceaccount"
}

fn restore_text(container: &Value, list: List) -> Option<&str> {
    let (_, name) = RESTORE.iter().find(|(known, _)| *known == list)?;
    let variables = container["env"].as_array()?;
    let variable = variables
        .iter()
        .find(|variable| variable["name"] == *name)?;
    let text = variable["value"].as_str()?;
    // Nothing else is written back into a document.
    matches!(text, "[]" | "null" | "~" | "Null" | "NULL" | "none").then_some(text)
}

/// Whether two containers are the same to a kubelet.
fn is_same(found: &Value, wanted: &Value) -> bool {
    found == wanted || normal(found) == normal(wanted)
}

/// A container without defaults, and with quantities by their values.
fn normal(container: &Value) -> Value {
    let mut container = container.clone();
    if let Some(fields) = container.as_object_mut() {
        fields.retain(|name, value| !is_default(name, value));
        let mounts = fields.get_mut("volumeMounts").and_then(Value::as_array_mut);
        if let Some(mounts) = mounts {
            mounts.retain(|mount| !is_token(mount));
        }
    }
    if let Some(variables) = container.get_mut("env").and_then(Value::as_array_mut) {
        for variable in variables {
            let field = variable.pointer_mut("/valueFrom/fieldRef");
            if let Some(field) = field.and_then(Value::as_object_mut) {
                field.retain(|name, value| name != "apiVersion" || value != "v1");
            }
        }
    }
    for kind in ["/resources/requests", "/resources/limits"] {
        let amounts = container.pointer_mut(kind);
        if let Some(amounts) = amounts.and_then(Value::as_object_mut) {
            for amount in amounts.values_mut() {
                let text = match &*amount {
                    Value::Number(number) => number.to_string(),
                    Value::String(text) => text.clone(),
                    _ => continue,
                };
                if let Some(value) = thousandths(&text) {
                    *amount = Value::from(value.to_string());
                }
            }
        }
    }
    container
}
