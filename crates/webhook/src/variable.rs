//! The settings of the webhook, each declared once: the reading with its errors, `--help` and the table of
//! `docs/injection.md` come from [`SETTINGS`].

/// One environment variable.
#[derive(Debug, PartialEq, Eq)]
pub struct Variable {
    /// Its name.
    pub name: &'static str,
    /// The value if it is not set.
    pub default: &'static str,
    /// The valid values; it follows "expected: ".
    pub expected: &'static str,
    /// Its effect, in whole sentences.
    pub text: &'static str,
    /// A valid value.
    pub example: &'static str,
}

macro_rules! settings {
    ($($name:ident { default: $default:expr, expected: $expected:literal, text: $text:literal, example: $example:literal, })+) => {
        $(
            pub(crate) const $name: Variable = Variable {
                name: stringify!($name),
                default: $default,
                expected: $expected,
                text: $text,
                example: $example,
            };
        )+

        /// Every setting, in the order in which they are shown.
        pub const SETTINGS: [&Variable; [$(stringify!($name)),+].len()] = [$(&$name),+];
    };
}

settings! {
    IMAGE {
        default: inject::IMAGE,
        expected: "the name of an image",
        text: "podspan's image, which the pods get.",
        example: "registry.example/podspan:0.1.0",
    }

    PLACEMENT {
        default: "native",
        expected: "native or plain",
        text: "native: podspan is the first init container and has restartPolicy: Always. It starts before the \
               application and ends after it; Kubernetes 1.29 and newer. plain: the last container, for older \
               clusters; pods that end by themselves are refused.",
        example: "plain",
    }

    SECURITY {
        default: "added",
        expected: "added, baseline or root",
        text: "podspan's user and capabilities. added: an unprivileged user, with NET_RAW added. baseline: the \
               same, for namespaces that enforce the Pod Security level baseline, with containerd. root: root in \
               its container, for runtimes that do not honour file capabilities.",
        example: "baseline",
    }

    DEFAULTS {
        default: "",
        expected: "annotations without podspan.dev/, as name=value, separated by semicolons or line ends",
        text: "Annotations that apply to a pod that has none of this name.",
        example: "sensor=zeek; cpu=50m/250m",
    }

    CERTIFICATES {
        default: "self",
        expected: "self, or the absolute path of a folder",
        text: "self: the webhook makes its certificates and renews them, keeps them in its Secret, and writes \
               their CA into its MutatingWebhookConfiguration. A folder: it reads tls.crt and tls.key there, \
               and reads them again when they change.",
        example: "/etc/podspan-webhook",
    }

    NAMESPACE {
        default: "podspan-system",
        expected: "the name of a namespace",
        text: "The namespace of the webhook's Service and Secret.",
        example: "podspan-system",
    }

    SERVICE {
        default: "podspan-webhook",
        expected: "the name of a Service",
        text: "The name of the webhook's Service, of its Secret and of its MutatingWebhookConfiguration.",
        example: "podspan-webhook",
    }

    NAMES {
        default: "",
        expected: "host names or addresses, separated by commas",
        text: "Further names in the certificate that the webhook makes, for a configuration with a URL in the \
               place of the Service.",
        example: "webhook.example,192.0.2.7",
    }

    VALIDITY {
        default: "90d",
        expected: "a time from 5s to 3650d, with s, m, h or d after the number",
        text: "How long a certificate is valid that the webhook makes. It is renewed when a third of the time \
               is left.",
        example: "30d",
    }

    LISTEN {
        default: "[::]:8443",
        expected: "an address with a port",
        text: "Where API servers ask, by HTTPS: POST /mutate.",
        example: "0.0.0.0:8443",
    }

    STATUS {
        default: "[::]:8080",
        expected: "an address with a port",
        text: "Where /healthz, /readyz and /metrics are, by HTTP.",
        example: "127.0.0.1:8080",
    }

    DRAIN {
        default: "5s",
        expected: "a time from 0s to 60s, with s or ms after the number",
        text: "How long the webhook still answers after SIGTERM or SIGINT, while it is not ready, so that the \
               Service's endpoints change before it ends.",
        example: "10s",
    }

    LOG {
        default: "info",
        expected: "error, warn, info, debug or trace",
        text: "Which events are logged.",
        example: "debug",
    }

    LOG_FORMAT {
        default: "text",
        expected: "text or json",
        text: "The form of the log lines.",
        example: "json",
    }
}

/// The table of `docs/injection.md`.
#[must_use]
pub fn markdown() -> String {
    let rows = SETTINGS.map(|setting| {
        let default = if setting.default.is_empty() {
            "none".to_owned()
        } else {
            format!("`{}`", setting.default)
        };
        let Variable {
            name,
            expected,
            text,
            ..
        } = setting;
        format!("| `{name}` | {default} | {expected} | {text} |\n")
    });
    format!(
        "| setting | default | values | what it does |\n|-|-|-|-|\n{}",
        rows.concat()
    )
}

/// The text of `--help`.
#[must_use]
pub fn help() -> String {
    let entries = SETTINGS.map(|setting| {
        let Variable {
            name,
            default,
            expected,
            text,
            example,
        } = setting;
        let default = if default.is_empty() { "none" } else { default };
        format!(
            "\n{name}\n    {text}\n    expected: {expected}\n    default: {default}\n    example: {name}={example:?}\n"
        )
    });
    format!(
        "podspan-webhook: adds podspan's sidecar to new pods that opted in, when an API server asks.\n\
         \n\
         usage: podspan-webhook [--help | --version]\n\
         \n\
         Settings are environment variables. Exit codes: 0 ended by a signal; 64 wrong settings, all are listed;\n\
         71 a system call failed.\n{}",
        entries.concat()
    )
}

/// The output of `--version`.
#[must_use]
pub fn version() -> String {
    format!("podspan-webhook {}\n", env!("CARGO_PKG_VERSION"))
}
