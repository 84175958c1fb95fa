//! The table "Security contexts" of `docs/SECURITY.md`, row by row, on the real kubelet.
//!
//! In: the rows of the document. For each row a pod is made: the component `sidecar` with the security
//! context that the row describes. Where a row names a component, the component must have this context.
//! Out: the row's level is compared with what the API server admits, and its result with what podspan does
//! and with what the kernel reports about its process.
//!
//! All pods send their copies to one sensor. The number of the row is the pod's `VNI`, so the sensor's log
//! shows which of them capture. The traffic is the kubelet's readiness probe.

mod rows;

use std::collections::{BTreeMap, BTreeSet};

use acceptance::objects::until;
use acceptance::scenario::text;
use acceptance::{Manifests, Result, Scenario};
use serde_json::{Value, json};
use testbed::kind::{self, Cluster};

use crate::fixture::{LIMIT, mirrors};
use crate::{Outcome, Test};
use rows::{DOCUMENT, LEVELS, Row, set};

pub(crate) const TESTS: &[Test] = &[
    (
        "each_row_of_the_security_contexts_is_true",
        each_row_of_the_security_contexts_is_true,
    ),
    (
        "the_token_can_be_for_podspan_only",
        the_token_can_be_for_podspan_only,
    ),
];

/// `1 << CAP_NET_RAW`, as `/proc/PID/status` prints it.
const NET_RAW: &str = "0000000000002000";
const NONE: &str = "0000000000000000";

/// The example's web server with a component of the sidecar, as one pod. A probe makes its traffic.
fn pod_with(scenario: &Scenario<'_>, component: &str) -> Result<Value> {
    let web = Manifests::file("examples/base/web/web.yaml")?;
    let deployment = web.split("\n---\n").next().unwrap_or_default();
    let manifests = scenario.manifests().yaml(deployment);
    let manifests = manifests.component(&format!("components/{component}"));
    let yaml = manifests.render(scenario.cluster())?;
    let arguments = ["create", "--dry-run=client", "-o", "json", "-f", "-"];
    let object = scenario.cluster().kubectl_with_input(&arguments, &yaml)?;
    let object: Value = serde_json::from_str(&object).unwrap();
    let mut spec = object["spec"]["template"]["spec"].clone();
    spec["terminationGracePeriodSeconds"] = json!(1);
    spec["automountServiceAccountToken"] = json!(false);
    spec["topologySpreadConstraints"] = json!([]);
    spec["containers"][0]["readinessProbe"] =
        json!({"tcpSocket": {"port": 8080}, "periodSeconds": 1});
    let metadata = json!({"name": "web", "labels": {"app": "web"}});
    Ok(json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}))
}

/// `podspan-sensor` in the security context of the sidecar.
fn sensor(sidecar: &Value) -> Value {
    let podspan = &sidecar["spec"]["initContainers"][0];
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "sensor", "labels": {"run": "sensor"}},
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "automountServiceAccountToken": false,
            "containers": [{
                "name": "sensor",
                "image": podspan["image"],
                "command": ["/podspan-sensor"],
                "args": ["capture", "--interface", "eth0"],
                "securityContext": podspan["securityContext"],
            }],
        },
    })
}

fn list(pods: &[Value]) -> String {
    json!({"apiVersion": "v1", "kind": "List", "items": pods}).to_string()
}

/// Starts the sensor, and returns its address when it captures. On a busy machine, its log can be there before
/// the address is in the pod's status.
fn start_sensor(scenario: &Scenario<'_>, sidecar: &Value) -> Result<String> {
    scenario.apply(&sensor(sidecar).to_string())?;
    scenario.logged("sensor", "sensor", "reading ", LIMIT)?;
    until("the address of the sensor", LIMIT, || {
        let status = ["get", "pod", "sensor", "-o", "jsonpath={.status.podIP}"];
        let address = scenario.kubectl(&status)?;
        Ok(if address.is_empty() {
            Err("no address".to_owned())
        } else {
            Ok(address)
        })
    })
}

fn each_row_of_the_security_contexts_is_true(cluster: &Cluster) -> Outcome {
    let rows = Row::all();
    let mut scenarios = Vec::new();
    for level in LEVELS {
        let name = format!("contexts-{level}");
        let label = ("pod-security.kubernetes.io/enforce", level);
        scenarios.push(Scenario::new(cluster, &name, &[label])?);
    }
    let sidecar = pod_with(&scenarios[0], "sidecar")?;
    let baseline = pod_with(&scenarios[0], "sidecar-baseline")?;
    let others = &baseline["spec"]["initContainers"][0]["securityContext"]["capabilities"]["drop"];
    check_components(&rows, &scenarios[0], others)?;
    let sensor = start_sensor(&scenarios[0], &sidecar)?;
    let pods: Vec<Value> = rows
        .iter()
        .map(|row| row.pod(&sidecar, others, &sensor))
        .collect();
    check_levels(&rows, &pods, &scenarios)?;
    for (scenario, level) in scenarios.iter().zip(LEVELS) {
        let here: Vec<Value> = rows
            .iter()
            .zip(&pods)
            .filter(|(row, _)| row.level == level)
            .flat_map(|(row, pod)| with_exiting(row, pod))
            .collect();
        scenario.apply(&list(&here))?;
    }
    let started = wait_for_results(&rows, &scenarios)?;
    check_processes(cluster, &rows, &started)?;
    Ok(())
}

/// Compares the components with their rows.
fn check_components(rows: &[Row], scenario: &Scenario<'_>, others: &Value) -> Result<()> {
    for row in rows {
        let Some(component) = &row.component else {
            continue;
        };
        let spec = &pod_with(scenario, component)?["spec"];
        let context = &spec["initContainers"][0]["securityContext"];
        assert_eq!(*context, row.security_context(others), "{component}");
        let has_user_namespace = spec["hostUsers"] == false;
        assert_eq!(has_user_namespace, row.has_user_namespace(), "{component}");
    }
    Ok(())
}

/// The pod, and the same with `ON_FAILURE=exit` where podspan cannot start.
fn with_exiting(row: &Row, pod: &Value) -> Vec<Value> {
    let mut pods = vec![pod.clone()];
    if !row.works {
        let mut exiting = pod.clone();
        exiting["metadata"]["name"] = json!(row.exiting_pod_name());
        let containers = exiting["spec"]["initContainers"].as_array_mut().unwrap();
        set(containers.last_mut().unwrap(), "ON_FAILURE", "exit");
        pods.push(exiting);
    }
    pods
}

/// Asks the API server which pods it admits at each level.
fn check_levels(rows: &[Row], pods: &[Value], scenarios: &[Scenario<'_>]) -> Result<()> {
    let mut strictest = BTreeMap::new();
    for (scenario, level) in scenarios.iter().zip(LEVELS) {
        let answer = scenario.cluster().kubectl_with_input(
            &[
                "-n",
                scenario.namespace(),
                "create",
                "--dry-run=server",
                "-f",
                "-",
            ],
            &list(pods),
        );
        let refusals = match answer {
            Ok(_) => String::new(),
            Err(kind::Error::Command { output, .. }) => output,
            Err(error) => return Err(error.into()),
        };
        for row in rows {
            let name = format!("pods {:?} is forbidden", row.pod_name());
            let Some(refusal) = refusals.lines().find(|line| line.contains(&name)) else {
                strictest.insert(row.number, level);
                continue;
            };
            let violates = format!("violates PodSecurity \"{level}:latest\"");
            assert!(refusal.contains(&violates), "{refusal}");
            if row.adds_net_raw() {
                let reason = "(container \"podspan\" must not include \"NET_RAW\" in \
                              securityContext.capabilities.add)";
                assert!(refusal.contains(reason), "{refusal}");
            }
            if row.number == 1 {
                println!("{refusal}");
            }
        }
    }
    for row in rows {
        let found = strictest.get(&row.number).copied();
        assert_eq!(found, Some(row.level.as_str()), "{row:?}");
    }
    Ok(())
}

/// Waits until every pod has come to the result of its row, and returns the pods by their names.
fn wait_for_results(rows: &[Row], scenarios: &[Scenario<'_>]) -> Result<BTreeMap<String, Value>> {
    let of_level = |level: &str| {
        let found = scenarios
            .iter()
            .zip(LEVELS)
            .find(|(_, name)| *name == level);
        found.map(|(scenario, _)| scenario).unwrap()
    };
    let pods = until("the pods of all rows", LIMIT, || {
        let mut pods = BTreeMap::new();
        for scenario in scenarios {
            for pod in scenario.pods("app=web")? {
                pods.insert(text(&pod["metadata"]["name"]), pod);
            }
        }
        let waiting: Vec<String> = rows.iter().flat_map(|row| unfinished(row, &pods)).collect();
        Ok(if waiting.is_empty() {
            Ok(pods)
        } else {
            Err(waiting.join("\n"))
        })
    })?;
    // The kubelet starts the application if it sees the sidecar run before it ends.
    let exiting = rows.iter().filter(|row| !row.works);
    let started = exiting.filter_map(|row| {
        let web = container_status(pods.get(&row.exiting_pod_name())?, "web")?;
        (web["started"] == true).then_some(row.number)
    });
    println!(
        "with ON_FAILURE=exit the application runs in the rows {:?}",
        started.collect::<Vec<_>>()
    );
    for row in rows.iter().filter(|row| !row.works) {
        let scenario = of_level(&row.level);
        let missing = "the NET_RAW capability is missing";
        let log = scenario.logged(&row.pod_name(), "podspan", missing, LIMIT)?;
        assert!(
            log.contains("ON_FAILURE=idle: nothing is mirrored"),
            "{log}"
        );
        scenario.logged(&row.exiting_pod_name(), "podspan", missing, LIMIT)?;
    }
    let working: BTreeSet<usize> = rows
        .iter()
        .filter(|row| row.works)
        .map(|row| row.number)
        .collect();
    until("copies of all rows that work", LIMIT, || {
        let log = scenarios[0].logs("sensor", "sensor")?;
        let seen = vnis(&log);
        Ok(if seen == working {
            Ok(())
        } else {
            Err(format!("copies of {seen:?} of {working:?}"))
        })
    })?;
    Ok(pods)
}

/// What a row still waits for.
fn unfinished(row: &Row, pods: &BTreeMap<String, Value>) -> Vec<String> {
    let find = |pod: &str, container: &str| container_status(pods.get(pod)?, container);
    let mut waiting = Vec::new();
    let name = row.pod_name();
    if find(&name, "web").is_none_or(|web| web["ready"] != true) {
        waiting.push(format!("{name}: the application is not ready"));
    }
    if row.works {
        return waiting;
    }
    let name = row.exiting_pod_name();
    let code = find(&name, "podspan").and_then(|podspan| {
        let ended = [&podspan["state"], &podspan["lastState"]];
        ended
            .into_iter()
            .find_map(|state| state["terminated"]["exitCode"].as_u64())
    });
    if code != Some(77) {
        waiting.push(format!("{name}: exit code {code:?} instead of 77"));
    }
    waiting
}

/// The VNIs in the log of the sensor.
fn vnis(log: &str) -> BTreeSet<usize> {
    log.split_whitespace()
        .filter_map(|word| word.strip_prefix("vnis="))
        .flat_map(|list| list.split(','))
        .filter_map(|pair| pair.split(':').next()?.parse().ok())
        .collect()
}

/// The status of a container, also of an init container, once there is one.
fn container_status<'a>(pod: &'a Value, name: &str) -> Option<&'a Value> {
    ["initContainerStatuses", "containerStatuses"]
        .iter()
        .filter_map(|list| pod["status"][list].as_array())
        .flatten()
        .find(|status| status["name"] == name)
}

/// Prints, for each container that it gets, the state of all its threads and how its root is mounted.
const SCRIPT: &str = r#"
for id; do
  pid=$(crictl inspect --output go-template --template '{{.info.pid}}' "$id")
  echo "container: $id"
  cat /proc/$pid/task/*/status
  grep -E '^([^ ]+ ){4}/ ' /proc/$pid/mountinfo | sed 's/^/root: /'
done
"#;

/// Checks the kernel's report about the process of each row: no capability, whether it works or not.
fn check_processes(cluster: &Cluster, rows: &[Row], pods: &BTreeMap<String, Value>) -> Result<()> {
    let mut nodes: BTreeMap<String, Vec<(&Row, String)>> = BTreeMap::new();
    for row in rows {
        let pod = &pods[&row.pod_name()];
        let podspan = container_status(pod, "podspan").unwrap();
        let id = text(&podspan["containerID"]).replace("containerd://", "");
        let node = text(&pod["spec"]["nodeName"]);
        nodes.entry(node).or_default().push((row, id));
    }
    for (node, rows) in nodes {
        let mut command = vec!["sh", "-ec", SCRIPT, "sh"];
        command.extend(rows.iter().map(|(_, id)| id.as_str()));
        let report = cluster.exec_in_node(&node, &command)?;
        let reports = report.split("container: ").skip(1);
        assert_eq!(reports.clone().count(), rows.len(), "{report}");
        for ((row, id), report) in rows.iter().zip(reports) {
            assert!(report.starts_with(id.as_str()), "{report}");
            check_process(row, report);
        }
    }
    Ok(())
}

fn check_process(row: &Row, report: &str) {
    let values = |name: &str| -> BTreeSet<String> {
        let lines = report.lines().filter_map(|line| line.split_once(':'));
        let of_name = lines.filter(|(key, _)| *key == name);
        of_name.map(|(_, value)| value.trim().to_owned()).collect()
    };
    let check = |name: &str, value: &str| {
        let found: Vec<_> = values(name).into_iter().collect();
        assert_eq!(found, [value], "{name}: {row:?}\n{report}");
    };
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        check(set, NONE);
    }
    let may_have_net_raw = row.adds_net_raw() || !row.drops_all();
    check("CapBnd", if may_have_net_raw { NET_RAW } else { NONE });
    check("NoNewPrivs", "1");
    // SECCOMP_MODE_FILTER
    check("Seccomp", "2");
    let user: u32 = values("Uid")
        .first()
        .and_then(|user| user.split_whitespace().next()?.parse().ok())
        .unwrap();
    if row.has_user_namespace() {
        assert!(user > 65_535, "{user} is a user of the node: {row:?}");
    } else {
        assert_eq!(user, row.user, "{row:?}");
    }
    let root = values("root").into_iter().next().unwrap_or_default();
    let options = root.split_whitespace().nth(5).unwrap_or_default();
    assert!(options.split(',').any(|option| option == "ro"), "{root}");
}

/// The lines of the document, applied to the component `sidecar`: podspan finds its sensor with its token,
/// and the application's container has none.
fn the_token_can_be_for_podspan_only(cluster: &Cluster) -> Outcome {
    let scenario = Scenario::new(cluster, "token", &[])?;
    scenario.apply_manifests(&scenario.manifests().resource("rbac/own-namespace"))?;
    let mut web = pod_with(&scenario, "sidecar")?;
    start_sensor(&scenario, &web)?;
    let section = DOCUMENT
        .split_once("\n### The token for podspan only\n")
        .unwrap()
        .1;
    let lines = section
        .split("```")
        .nth(1)
        .unwrap()
        .trim_start_matches("yaml");
    // The lines say it.
    web["spec"]["automountServiceAccountToken"].take();
    let arguments = [
        "patch",
        "--local",
        "--type=strategic",
        "-o",
        "json",
        "-f",
        "-",
        "-p",
        lines,
    ];
    let web = cluster.kubectl_with_input(&arguments, &web.to_string())?;
    scenario.apply(&web)?;
    scenario.kubectl(&["wait", "--for=condition=Ready", "--timeout=120s", "pod/web"])?;
    mirrors(&scenario, "web")?;
    let service_account = "/var/run/secrets/kubernetes.io";
    let check = ["web", "-c", "web", "--", "test", "!", "-e", service_account];
    scenario.kubectl(&[&["exec"], &check[..]].concat())?;
    Ok(())
}
