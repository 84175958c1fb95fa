//! The settings of the webhook, each declared once.

use program::{Program, settings};

/// The program, for `--help` and the table of `docs/injection.md`.
pub const PROGRAM: Program = Program {
    name: "podspan-webhook",
    purpose: "adds podspan's sidecar to new pods that opted in, when an API server asks.",
    settings: &SETTINGS,
};

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
}
