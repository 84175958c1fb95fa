//! `podspan.dev/containers`: the declared ports of some containers, as a filter.
//!
//! In: names and a pod. Out: an expression such as `tcp port 8080 or udp port 53`. All containers of a pod
//! share one network namespace, so podspan cannot see which of them a frame belongs to; the ports are what
//! tells their traffic apart. A native sidecar counts as a container; other init containers end before the
//! application starts.

use serde_json::Value;

/// The filter, or why there is none.
pub(crate) fn filter(names: &str, spec: &Value) -> Result<String, String> {
    let containers = long_running(spec);
    let known: Vec<&str> = containers.iter().filter_map(|(name, _)| *name).collect();
    let mut ports: Vec<String> = Vec::new();
    let mut seen: Vec<&str> = Vec::new();
    for name in names.split(',').map(str::trim) {
        if name.is_empty() {
            return Err("it has an empty entry".to_owned());
        }
        if seen.contains(&name) {
            return Err(format!("{name:?} is in the list twice"));
        }
        seen.push(name);
        let Some((_, container)) = containers.iter().find(|(known, _)| *known == Some(name)) else {
            return Err(format!(
                "the pod has no container {name:?}; it has {}",
                known.join(", ")
            ));
        };
        let declared = container["ports"].as_array().map_or(&[][..], Vec::as_slice);
        if declared.is_empty() {
            return Err(format!(
                "the container {name:?} declares no ports; add them to its ports, or use podspan.dev/filter"
            ));
        }
        for port in declared {
            let port = primitive(port).ok_or_else(|| {
                format!("a port of the container {name:?} has no valid containerPort and protocol")
            })?;
            if !ports.contains(&port) {
                ports.push(port);
            }
        }
    }
    Ok(ports.join(" or "))
}

/// The containers that run as long as the application, without podspan.
fn long_running(spec: &Value) -> Vec<(Option<&str>, &Value)> {
    let list = |name: &str| spec[name].as_array().map_or(&[][..], Vec::as_slice);
    let native = list("initContainers")
        .iter()
        .filter(|container| container["restartPolicy"] == "Always");
    list("containers")
        .iter()
        .chain(native)
        .map(|container| (container["name"].as_str(), container))
        .filter(|(name, _)| *name != Some(crate::NAME))
        .collect()
}

fn primitive(port: &Value) -> Option<String> {
    let number = port["containerPort"].as_u64()?;
    let number = u16::try_from(number).ok().filter(|number| *number > 0)?;
    let protocol = match &port["protocol"] {
        Value::Null => "tcp",
        Value::String(protocol) => match protocol.as_str() {
            "TCP" => "tcp",
            "UDP" => "udp",
            "SCTP" => "sctp",
            _ => return None,
        },
        _ => return None,
    };
    Some(format!("{protocol} port {number}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn spec() -> Value {
        json!({
            "initContainers": [
                {"name": "setup", "ports": [{"containerPort": 1}]},
                {"name": "podspan", "restartPolicy": "Always", "ports": [{"containerPort": 1}]},
                {"name": "proxy", "restartPolicy": "Always", "ports": [{"containerPort": 15001}]},
            ],
            "containers": [
                {"name": "web", "ports": [
                    {"containerPort": 8080}, {"containerPort": 8080, "name": "again"},
                    {"containerPort": 53, "protocol": "UDP"},
                ]},
                {"name": "api", "ports": [{"containerPort": 9000, "protocol": "SCTP"}]},
                {"name": "silent"},
                {"name": "wrong", "ports": [{"containerPort": 0}]},
            ],
        })
    }

    #[test]
    fn the_ports_of_the_containers_are_the_filter() {
        for (names, expected) in [
            ("web", Ok("tcp port 8080 or udp port 53")),
            (
                "api, web",
                Ok("sctp port 9000 or tcp port 8080 or udp port 53"),
            ),
            ("proxy", Ok("tcp port 15001")),
            ("", Err("it has an empty entry")),
            ("web,", Err("it has an empty entry")),
            ("web,web", Err("\"web\" is in the list twice")),
            (
                "setup",
                Err("the pod has no container \"setup\"; it has web, api, silent, wrong, proxy"),
            ),
            (
                "podspan",
                Err("the pod has no container \"podspan\"; it has web, api, silent, wrong, proxy"),
            ),
            (
                "silent",
                Err(
                    "the container \"silent\" declares no ports; add them to its ports, or use \
                     podspan.dev/filter",
                ),
            ),
            (
                "wrong",
                Err("a port of the container \"wrong\" has no valid containerPort and protocol"),
            ),
        ] {
            let found = filter(names, &spec());
            assert_eq!(
                found.as_deref(),
                expected.map_err(str::to_owned).as_ref().copied(),
                "{names}"
            );
        }
    }
}
