//! Pods of random shape that an API server accepts.
//!
//! In: a template of the generator, whose fields have the types of the API and any values. Out: a pod in which the
//! values that the API server refuses are replaced. Everything that it accepts stays.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

/// The pod.
pub(crate) fn valid(template: &Value) -> Value {
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": template["metadata"], "spec": template["spec"]});
    if !pod["metadata"].is_object() {
        pod["metadata"] = json!({});
    }
    pod["metadata"]["name"] = "random".into();
    let volumes = volumes(&mut pod["spec"]);
    let mut number = 0;
    for list in ["initContainers", "containers"] {
        let entries = pod["spec"][list]
            .as_array_mut()
            .map_or(&mut [][..], Vec::as_mut_slice);
        for entry in entries {
            number += 1;
            let ends = list == "initContainers" && entry["restartPolicy"] != "Always";
            container(fields(entry), number, ends, &volumes);
        }
    }
    let spec = fields(&mut pod["spec"]);
    let empty = |list: &Value| list.is_null() || *list == json!([]);
    for list in ["initContainers", "volumes"] {
        if spec.get(list).is_some_and(empty) {
            spec.remove(list);
        }
    }
    // The account would have to exist.
    spec.remove("serviceAccountName");
    for value in values(spec, "nodeSelector") {
        let text = value.as_str().unwrap_or_default();
        let text: String = text.chars().filter(char::is_ascii_alphanumeric).collect();
        *value = text.into();
    }
    for toleration in entries(spec, "tolerations") {
        if toleration["key"].is_null() {
            toleration["operator"] = "Exists".into();
        }
    }
    pod
}

/// Gives the volumes different names, and returns these.
fn volumes(spec: &mut Value) -> Vec<String> {
    let mut names = Vec::new();
    for volume in entries(fields(spec), "volumes") {
        let name = format!("{}-{}", volume["name"].as_str().unwrap_or("v"), names.len());
        volume["name"] = name.as_str().into();
        names.push(name);
    }
    names
}

fn container(fields: &mut Map<String, Value>, number: usize, ends: bool, volumes: &[String]) {
    let name = fields["name"].as_str().unwrap_or_default();
    fields.insert("name".to_owned(), format!("{name}-{number}").into());
    let image = fields
        .get("image")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let image = if image.trim().is_empty() {
        "example.invalid/any"
    } else {
        image.trim()
    };
    fields.insert("image".to_owned(), image.into());
    if ends {
        fields.remove("readinessProbe");
        fields.remove("lifecycle");
    }
    for pointer in ["readinessProbe/exec", "lifecycle/preStop/exec"] {
        let mut at = Some(&mut *fields);
        for part in pointer.split('/') {
            at = at
                .and_then(|fields| fields.get_mut(part))
                .and_then(Value::as_object_mut);
        }
        if let Some(exec) = at
            && exec
                .get("command")
                .and_then(Value::as_array)
                .is_none_or(Vec::is_empty)
        {
            exec.insert("command".to_owned(), json!(["true"]));
        }
    }
    if let Some(resources) = fields.get_mut("resources").and_then(Value::as_object_mut)
        && resources.contains_key("limits")
    {
        // A request may not be above its limit.
        resources.remove("requests");
    }
    let mut names = BTreeSet::new();
    for port in entries(fields, "ports") {
        let port = self::fields(port);
        let name = port.remove("name").unwrap_or_default();
        // Two hyphens may not follow each other, and no two ports have one name.
        let name = name.as_str().unwrap_or_default().replace('-', "");
        if !name.is_empty() && names.insert(name.clone()) {
            port.insert("name".to_owned(), name.into());
        }
    }
    let mut mounts = Vec::new();
    for (place, mount) in entries(fields, "volumeMounts").iter_mut().enumerate() {
        if let Some(name) = volumes.get(place % volumes.len().max(1)) {
            mount["name"] = name.as_str().into();
            mount["mountPath"] = format!(
                "{}/{place}",
                mount["mountPath"].as_str().unwrap_or_default()
            )
            .into();
            mounts.push(mount.clone());
        }
    }
    if fields.contains_key("volumeMounts") {
        fields.insert("volumeMounts".to_owned(), mounts.into());
    }
}

fn fields(value: &mut Value) -> &mut Map<String, Value> {
    value.as_object_mut().unwrap()
}

fn entries<'a>(fields: &'a mut Map<String, Value>, field: &str) -> &'a mut [Value] {
    let entries = fields.get_mut(field).and_then(Value::as_array_mut);
    entries.map_or(&mut [], Vec::as_mut_slice)
}

fn values<'a>(
    fields: &'a mut Map<String, Value>,
    field: &str,
) -> impl Iterator<Item = &'a mut Value> {
    let values = fields.get_mut(field).and_then(Value::as_object_mut);
    values.into_iter().flat_map(Map::values_mut)
}
