use super::*;
use crate::remedy::{Target, remedy};

#[test]
fn retry_after_is_that_of_the_last_answer() {
    let recorded = RetryAfter::default();
    assert_eq!(recorded.get(), None);
    for (header, expected) in [
        (Some("7"), Some(Duration::from_secs(7))),
        (Some(" 8 "), Some(Duration::from_secs(8))),
        (Some("Wed, 21 Oct 2026 07:28:00 GMT"), None),
        (Some("-1"), None),
        (Some("3"), Some(Duration::from_secs(3))),
        (None, None),
    ] {
        let mut response = Response::builder();
        if let Some(header) = header {
            response = response.header(RETRY_AFTER, header);
        }
        recorded.record(&response.body(()).unwrap());
        assert_eq!(recorded.get(), expected, "{header:?}");
    }
}

#[test]
fn missing_credentials_are_named_by_their_paths() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_owned();
    let reason = |host| match in_cluster(host, "443", &path) {
        Err(Failure::Credentials { reason }) => reason,
        other => panic!("{other:?}"),
    };
    assert!(reason("10.0.0.1").contains("token"));
    fs::write(path.join("token"), "\n").unwrap();
    assert!(reason("10.0.0.1").contains("it is empty"));
    fs::write(path.join("token"), "t").unwrap();
    assert!(reason("fd00::1").contains("ca.crt"));
    assert!(reason("not a host").contains("KUBERNETES_SERVICE_HOST"));
    fs::write(path.join("ca.crt"), "c").unwrap();
    fs::write(path.join("namespace"), "shop\n").unwrap();
    let ClientParts { config, server, .. } = in_cluster("fd00::1", "443", &path).unwrap();
    assert_eq!(server, "https://[fd00::1]:443/");
    assert_eq!(config.cluster_url.to_string(), "https://[fd00::1]:443/");
    assert_eq!(config.default_namespace, "shop");
}

/// Secrets in the file, which must not be in the log.
const TOKEN: &str = "s3cr3t-token-value";
const PASSWORD: &str = "hunter2";
const KEY: &str = "LS0tLS1CRUdJTi.FPRIVATE";

/// A kubeconfig with these lines of its cluster and its user.
fn kubeconfig_of(cluster: &str, user: &str) -> String {
    let lines = |text: &str| {
        let lines = text.lines().map(|line| format!("    {line}\n"));
        lines.collect::<String>()
    };
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts:\n- name: c\n  context:\n    \
         cluster: c\n    user: u\nclusters:\n- name: c\n  cluster:\n{}users:\n- name: u\n  \
         user:\n{}",
        lines(cluster),
        lines(user)
    )
}

/// The line of [`kubeconfig_of`] with the first line of the user, if the cluster has one line.
const FIRST_OF_USER: usize = 16;

/// What is logged for a kubeconfig: the failure without a client, else a text with the server.
async fn logged(text: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("the.kubeconfig");
    fs::write(&path, text).unwrap();
    let source = ClientSource::Kubeconfig(Some(path));
    let mut target = Target {
        server: source.server(),
        credentials: source.credentials(),
        ..Target::own_pod("any")
    };
    match source.connect().await {
        Ok(connection) => {
            target.server = connection.server;
            format!("connects to {}", remedy(&Failure::Unauthorized, &target))
        }
        Err(failure) => remedy(&failure, &target),
    }
}

#[track_caller]
fn assert_without_secrets(text: &str, of: &str) {
    for secret in [TOKEN, PASSWORD, KEY, "s3cr3t", "hunter", "LS0tLS1"] {
        assert!(!text.contains(secret), "{secret} of\n{of}\nis in {text}");
    }
}

#[tokio::test]
async fn a_broken_kubeconfig_is_named_by_its_line_and_not_quoted() {
    let credentials = format!("token: {TOKEN}\npassword: {PASSWORD}\nclient-key-data: {KEY}");
    for (fault, user, line) in [
        (
            "indentation",
            format!("token: {TOKEN}\n  password: {PASSWORD}\nclient-key-data: {KEY}"),
            1,
        ),
        (
            "indentation to the left",
            format!("  token: {TOKEN}\n password: {PASSWORD}"),
            1,
        ),
        (
            "a number for a list",
            format!("{credentials}\nas-groups: 5"),
            3,
        ),
        ("a text for a list", format!("as-groups: {TOKEN}"), 0),
        ("a secret for a map", format!("auth-provider: {TOKEN}"), 0),
        (
            "a secret for a boolean",
            format!("exec:\n  provideClusterInfo: {TOKEN}"),
            1,
        ),
        (
            "a secret for a choice",
            format!("exec:\n  interactiveMode: {TOKEN}"),
            1,
        ),
        (
            "a tab",
            format!("token: {TOKEN}\n\tpassword: {PASSWORD}"),
            1,
        ),
        (
            "a duplicate key",
            format!("{credentials}\ntoken: {TOKEN}"),
            3,
        ),
        (
            "a secret as duplicate key",
            format!("{TOKEN}: 1\n{TOKEN}: 2"),
            1,
        ),
        (
            "an open quote",
            format!("token: \"{TOKEN}\npassword: {PASSWORD}"),
            0,
        ),
        (
            "a text after a quote",
            format!("token: \"{TOKEN}\" {PASSWORD}"),
            0,
        ),
        ("an escape", format!("token: \"\\q{TOKEN}\""), 0),
        (
            "a list for the token",
            format!("token: [{TOKEN}, {PASSWORD}]"),
            0,
        ),
        (
            "a map for the token",
            format!("token:\n  {TOKEN}: {PASSWORD}"),
            0,
        ),
        (
            "no space after the colon",
            format!("token:{TOKEN}\npassword: {PASSWORD}"),
            0,
        ),
        (
            "an open bracket",
            format!("token: {TOKEN}\npassword: [{PASSWORD}"),
            1,
        ),
        ("an alias", format!("token: *{TOKEN}"), 0),
        ("a tag", format!("token: !{TOKEN}!x {PASSWORD}"), 0),
        ("base64 by tag", format!("token: !!binary {TOKEN}"), 0),
        (
            "a reserved character",
            format!("token: `{TOKEN}\npassword: @{PASSWORD}"),
            0,
        ),
    ] {
        let text = kubeconfig_of(SERVER, &user);
        let logged_text = logged(&text).await;
        assert_without_secrets(&logged_text, &text);
        assert!(
            logged_text.contains("the.kubeconfig"),
            "{fault}: {logged_text}"
        );
        let line = FIRST_OF_USER + line;
        let near = (line - 1..=line + 1).any(|line| logged_text.contains(&format!("line {line},")));
        assert!(near, "{fault}: no line near {line} in {logged_text}");
    }
}

const SERVER: &str = "server: https://127.0.0.1:6443";

/// Checks that a kubeconfig with these lines gives no client, and that the reason has `words` and no
/// secret.
async fn assert_refused(cluster: &str, user: &str, words: &str) {
    let text = kubeconfig_of(cluster, user);
    let logged_text = logged(&text).await;
    assert!(
        !logged_text.starts_with("connects"),
        "{text}\ngives a client"
    );
    assert_without_secrets(&logged_text, &text);
    assert!(
        logged_text.contains(words),
        "{words:?} is not in {logged_text}"
    );
}

#[tokio::test]
async fn no_error_about_keys_and_tokens_quotes_them() {
    let pem = |text: &str| base64(text.as_bytes());
    let certificate = format!(
        "client-certificate-data: {}\nclient-key-data: ",
        pem("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    );
    let with_key = |key: &str| format!("{certificate}{}", pem(key));
    let [no_end, no_tag, no_key] = [
        with_key(&format!("-----BEGIN PRIVATE KEY-----\n{TOKEN}\n")),
        with_key(&format!("-----BEGIN {TOKEN}\n")),
        with_key("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"),
    ];
    let base = "the.kubeconfig: client-key-data is not base64";
    assert_refused(
        SERVER,
        &format!("client-certificate-data: AAAA\nclient-key-data: {KEY}"),
        base,
    )
    .await;
    let base = "the.kubeconfig: client-certificate-data is not base64";
    assert_refused(
        SERVER,
        &format!("client-certificate-data: {KEY}\nclient-key-data: AAAA"),
        base,
    )
    .await;
    let key_only = format!("client-key-data: {}", pem(TOKEN));
    assert_refused(SERVER, &key_only, "client-certificate is missing").await;
    for user in [no_end, no_tag] {
        assert_refused(
            SERVER,
            &user,
            "the.kubeconfig: client-certificate or client-key",
        )
        .await;
    }
    assert_refused(SERVER, &no_key, "the.kubeconfig: client-key").await;
    // Secrets in place of a file's path.
    let user = format!("client-certificate: /dev/null\nclient-key: {TOKEN}");
    assert_refused(SERVER, &user, "the.kubeconfig: the file of client-key").await;
    let user = format!("tokenFile: {TOKEN}");
    assert_refused(SERVER, &user, "the.kubeconfig: the file of tokenFile").await;
    let user = format!("token: \"{TOKEN}\\n{PASSWORD}\"");
    assert_refused(SERVER, &user, "the.kubeconfig: the token").await;
}

#[tokio::test]
async fn no_error_of_a_plugin_quotes_its_command_or_output() {
    let exec = |script: &str| {
        format!(
            "exec:\n  apiVersion: client.authentication.k8s.io/v1\n  interactiveMode: Never\n  \
             command: sh\n  args: [\"-c\", \"{script}\"]\n  env:\n  - name: PASSWORD\n    \
             value: {PASSWORD}"
        )
    };
    for (script, words) in [
        (
            format!("echo {TOKEN}; echo {TOKEN} >&2; exit 3"),
            "exit status: 3",
        ),
        (format!("echo status: {{token: {TOKEN}"), "line 1, column"),
        (format!("echo status: {TOKEN}"), "line 1, column"),
        (
            format!("echo status: {{expirationTimestamp: {TOKEN}}}"),
            "expiration date",
        ),
        (format!("echo kind: {TOKEN}"), "no status"),
    ] {
        assert_refused(SERVER, &exec(&script), words).await;
    }
    let user = format!("exec:\n  command: /nowhere/{TOKEN}");
    assert_refused(SERVER, &user, "the exec plugin does not start").await;
    let user = format!("auth-provider:\n  name: {TOKEN}");
    assert_refused(SERVER, &user, "the auth-provider gave no token").await;
    for (config, words) in [
        (format!("cmd-path: /nowhere/{TOKEN}"), "auth-provider"),
        (
            format!("cmd-path: ls, cmd-args: /nowhere/{TOKEN}"),
            "exit status",
        ),
        (
            format!("cmd-path: echo, cmd-args: {TOKEN}, token-key: x"),
            "not JSON",
        ),
        (
            format!("access-token: {TOKEN}, expiry: {PASSWORD}"),
            "expiration date",
        ),
    ] {
        let user = format!("auth-provider:\n  name: gcp\n  config: {{{config}}}");
        assert_refused(SERVER, &user, words).await;
    }
}

#[tokio::test]
async fn no_error_about_a_ca_or_a_proxy_quotes_it() {
    for (line, words) in [
        (
            "certificate-authority-data: LS0tLS1CRUdJTi.",
            "certificate-authority-data",
        ),
        (
            "certificate-authority: hunter2",
            "the file of certificate-authority",
        ),
        ("proxy-url: http://admin:hunter2@proxy:1", "proxy-url"),
        ("proxy-url: http://admin:hunter2@pro xy:1", "proxy-url"),
    ] {
        assert_refused(&format!("{SERVER}\n{line}"), "token: t", words).await;
    }
}

#[test]
fn the_files_of_a_kubeconfig_are_those_of_kubectl() {
    let paths = |text: &str| files(None, Some(&text.into()), Some("/home/jane".into()));
    assert_eq!(paths("/a::/b"), [PathBuf::from("/a"), PathBuf::from("/b")]);
    assert_eq!(paths(""), [PathBuf::from("/home/jane/.kube/config")]);
    assert!(files(None, None, None).is_empty());
    let given = PathBuf::from("/c");
    assert_eq!(files(Some(&given), Some(&"/a".into()), None), [given]);
}

#[tokio::test]
async fn a_server_is_shown_without_user_query_and_fragment() {
    for (server, shown) in [
        (
            "https://admin:hunter2@host:6443/path?x=y",
            "https://host:6443/path",
        ),
        (
            "https://admin:hunter2@host:6443/path?x=hunter2#hunter2",
            "https://host:6443/path",
        ),
        (
            "https://admin:hunter2@[fd00::1]:6443",
            "https://[fd00::1]:6443/",
        ),
        ("https://hunter2@[fd00::1]", "https://[fd00::1]/"),
        (
            "https://host/k8s/clusters/c-1",
            "https://host/k8s/clusters/c-1",
        ),
        ("http://10.0.0.1:8080", "http://10.0.0.1:8080/"),
    ] {
        let logged_text = logged(&kubeconfig_of(&format!("server: {server:?}"), "token: t")).await;
        assert_without_secrets(&logged_text, server);
        assert!(
            logged_text.contains(&format!("API server {shown} ")),
            "{server}: {logged_text}"
        );
    }
}

#[tokio::test]
async fn a_server_that_is_not_a_url_is_not_shown() {
    for server in [
        "admin:hunter2@host:6443",
        "host:6443",
        "https:admin:hunter2@host",
        "https:/admin:hunter2@host:6443",
        "/admin:hunter2@host",
        "//admin:hunter2@host",
        "https://admin:hun ter2@host",
        "https://admin:hunter2%40host",
        "https://admin:hunter2",
        "https://admin:hunter2/@host:6443",
        "https://admin:hunter2?@host:6443",
        "https://admin:hunter2#@host:6443",
        "https://admin:hunter2@[fd00::1",
        "https://admin:hunter2@host:99999",
        "https://admin:hunter2@host:six",
        "https://admin:hunter2@",
        "https://",
        "hunter2",
        "",
    ] {
        let logged_text = logged(&kubeconfig_of(&format!("server: {server:?}"), "token: t")).await;
        assert_without_secrets(&logged_text, server);
        assert!(
            logged_text.contains("the.kubeconfig"),
            "{server:?}: {logged_text}"
        );
        assert!(logged_text.contains("server"), "{server:?}: {logged_text}");
    }
    // The digits may be the start of a password, because / ? or # ends the host.
    for end in ['/', '?', '#'] {
        let server = format!("https://admin:1234{end}5@host:6443/");
        let logged_text = logged(&kubeconfig_of(&format!("server: {server:?}"), "token: t")).await;
        assert!(
            !logged_text.contains("1234") && !logged_text.contains("5@"),
            "{server}: {logged_text}"
        );
    }
}

#[tokio::test]
async fn in_a_cluster_the_address_has_no_user_either() {
    for (host, shown) in [
        ("10.0.0.1", "https://10.0.0.1:443/"),
        ("fd00::1", "https://[fd00::1]:443/"),
        ("hunter2@host", "https://host:443/"),
        ("admin:hunter2@host", "of this pod"),
        ("not a host hunter2", "of this pod"),
    ] {
        let source = ClientSource::in_cluster(host, NonZeroU16::new(443).unwrap());
        let server = source.server();
        assert_without_secrets(&server, host);
        assert!(server.contains(shown), "{server}");
        let Err(failure) = in_cluster(host, "443", Path::new("/nowhere")) else {
            panic!("there is no token");
        };
        assert_without_secrets(&remedy(&failure, &Target::own_pod("any")), host);
    }
}

/// RFC 4648, section 4.
fn base64(bytes: &[u8]) -> String {
    let alphabet: Vec<char> = ('A'..='Z')
        .chain('a'..='z')
        .chain('0'..='9')
        .chain(['+', '/'])
        .collect();
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let bits = (0..3).fold(0, |bits, at| {
            bits << 8 | usize::from(*chunk.get(at).unwrap_or(&0))
        });
        for at in 0..4 {
            let character = alphabet[bits >> (18 - 6 * at) & 63];
            text.push(if at <= chunk.len() { character } else { '=' });
        }
    }
    text
}
