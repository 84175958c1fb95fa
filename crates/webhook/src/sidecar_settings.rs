//! The settings of podspan that annotations can have, and the check of filters.
//!
//! The table of settings is in the crate `agent`, which captures and therefore is not linked here. Until it is in
//! a crate of its own, this list has the names, as that of `kubectl-podspan`. podspan checks the values when it
//! starts, and logs what is wrong.

use inject::{Options, Setting};

/// All of podspan's settings, in the order of the table.
pub(crate) const SETTINGS: [Setting; 25] = [
    setting("SENSOR", "zeek"),
    setting("INTERFACE", "eth0,net1"),
    setting("FILTER", "not port 53"),
    setting("ANNOTATIONS", "off"),
    setting("VNI", "0x1a"),
    setting("SENSOR_NAMESPACE", "monitoring"),
    setting("SENSOR_PORT", "4789"),
    setting("SENSOR_PREFER", "any"),
    setting("RECEIVER", "socket"),
    setting("SPREAD", "flows"),
    setting("SOURCE_PORTS", "4"),
    setting("TRAILERS", "50%"),
    setting("NODE_NAME", "worker-1"),
    setting("POD_NAME", "shop-7d4b9c6f5-x2x7k"),
    setting("POD_NAMESPACE", "shop"),
    setting("POD_UID", "0f4d2a55-9c1e-4f9a-8a49-1c1f6f2f7d10"),
    setting("KUBERNETES_SERVICE_HOST", "10.96.0.1"),
    setting("KUBERNETES_SERVICE_PORT", "443"),
    setting("KUBECONFIG", "/etc/podspan/kubeconfig"),
    setting("MTU", "1450"),
    setting("RING_SIZE", "64MiB"),
    setting("START_WAIT", "10s"),
    setting("ON_FAILURE", "idle"),
    setting("LOG", "debug"),
    setting("LOG_FORMAT", "json"),
];

const fn setting(variable: &'static str, example: &'static str) -> Setting {
    Setting {
        variable,
        check,
        example,
        expected: "a text",
        pattern: "^[^\\x00-\\x1f]*$",
    }
}

fn check(value: &str) -> Result<(), String> {
    if value.trim().is_empty() {
        return Err("it is empty".to_owned());
    }
    if value.contains(char::is_control) {
        return Err("it has control characters".to_owned());
    }
    Ok(())
}

fn check_filter(text: &str) -> Result<(), String> {
    filter::Filter::new(text)
        .map(drop)
        .map_err(|error| error.to_string())
}

/// The published image as a native sidecar, with all settings.
pub(crate) fn options() -> Options<'static> {
    Options::new(&SETTINGS, check_filter)
}
