use serde_json::json;

use super::*;

fn status(value: serde_json::Value) -> Failure {
    let status: Status = serde_json::from_value(value).unwrap();
    classify(&kube::Error::Api(Box::new(status)))
}

#[test]
fn a_403_for_anonymous_is_unauthorized_and_advises_no_role() {
    let message = "pods is forbidden: User \"system:anonymous\" cannot list resource \"pods\"";
    let anonymous = status(json!({"code": 403, "message": message, "status": "Failure"}));
    assert_eq!(anonymous, Failure::Unauthorized);
}

#[test]
fn a_message_of_the_server_stays_on_one_line() {
    let message = "no\n2026-11-23T00:00:00Z  INFO forged";
    let failure = status(json!({"code": 404, "message": message, "status": "Failure"}));
    let Failure::NotFound { message } = failure else {
        panic!("{failure:?}");
    };
    assert!(!message.contains('\n'), "{message}");
}

#[test]
fn a_403_names_verb_and_account() {
    let failure = status(json!({"code": 403, "reason": "Forbidden", "message":
        "pods is forbidden: User \"system:serviceaccount:shop:cart\" cannot list resource \
         \"pods\" in API group \"\" in the namespace \"shop\""}));
    let user = Some(User::ServiceAccount {
        namespace: "shop".to_owned(),
        name: "cart".to_owned(),
    });
    assert_eq!(
        failure,
        Failure::Forbidden {
            verb: Verb::List,
            user
        }
    );
    let failure = status(json!({"code": 403, "message":
        "pods is forbidden: User \"jane\" cannot watch resource \"pods\""}));
    let user = Some(User::Other("jane".to_owned()));
    assert_eq!(
        failure,
        Failure::Forbidden {
            verb: Verb::Watch,
            user
        }
    );
    // A proxy on the path can send any text.
    let failure = status(json!({"code": 403, "message": "no"}));
    assert_eq!(
        failure,
        Failure::Forbidden {
            verb: Verb::Watch,
            user: None
        }
    );
}

#[test]
fn a_403_names_the_user_that_the_server_quotes() {
    let user = |message: &str| match status(json!({"code": 403, "message": message})) {
        Failure::Forbidden { user, verb } => (user, verb),
        failure => panic!("{failure:?}"),
    };
    for (quoted, name) in [
        (r#""jane""#, "jane"),
        (r#""ad\"min""#, "ad\"min"),
        (r#""DOMAIN\\jane""#, "DOMAIN\\jane"),
        (r#""x\" cannot list ""#, "x\" cannot list "),
        (r#""a\u00a0b\x7f\U000e0041\n""#, "a\u{a0}b\u{7f}\u{e0041}\n"),
    ] {
        let message = format!("pods is forbidden: User {quoted} cannot watch resource \"pods\"");
        let other = Some(User::Other(name.to_owned()));
        assert_eq!(user(&message), (other, Verb::Watch));
    }
    // A text that is not in Go's quotes may be the start of another name.
    for quoted in [r#""jane"doe""#, r#""jane\q""#, r#""jane"#, r#""jane\xff""#] {
        let message = format!("pods is forbidden: User {quoted} cannot list resource \"pods\"");
        assert_eq!(user(&message), (Some(User::Unreadable), Verb::List));
    }
}

#[test]
fn statuses_by_code() {
    assert_eq!(status(json!({"code": 401})), Failure::Unauthorized);
    assert_eq!(status(json!({"code": 410})), Failure::Gone);
    assert!(matches!(
        status(json!({"code": 404})),
        Failure::NotFound { .. }
    ));
    assert!(matches!(
        status(json!({"code": 422})),
        Failure::Unsupported { .. }
    ));
    assert!(matches!(
        status(json!({"code": 500})),
        Failure::Server { code: 500, .. }
    ));
    assert!(matches!(
        status(json!({"code": 418})),
        Failure::Unexpected { .. }
    ));
    assert!(matches!(status(json!({})), Failure::Unexpected { .. }));
}

#[test]
fn the_retry_time_is_read_from_the_body_or_the_header() {
    let second = Duration::from_secs(1);
    let body = json!({"code": 429, "details": {"retryAfterSeconds": 7}});
    let after = |after| Failure::Throttled { code: 429, after };
    assert_eq!(status(body), after(Some(7 * second)));
    let bare = status(json!({"code": 429, "message": "Too many requests"}));
    assert_eq!(bare, after(None));
    assert_eq!(bare.with_retry_after(Some(second)), after(Some(second)));
    let restarting = status(json!({"code": 503})).with_retry_after(Some(second));
    assert_eq!(
        restarting,
        Failure::Throttled {
            code: 503,
            after: Some(second)
        }
    );
    let denied = Failure::Unauthorized.with_retry_after(Some(second));
    assert_eq!(denied, Failure::Unauthorized);
}

#[test]
fn io_errors_are_found_below_other_errors() {
    let of = |error: io::Error| classify(&kube::Error::Service(Box::new(error)));
    let nested = |kind| io::Error::other(io::Error::from(kind));
    let refused = of(nested(io::ErrorKind::ConnectionRefused));
    assert!(
        matches!(refused, Failure::Unreachable { .. }),
        "{refused:?}"
    );
    let timed_out = of(nested(io::ErrorKind::TimedOut));
    assert!(
        matches!(timed_out, Failure::TimedOut { .. }),
        "{timed_out:?}"
    );
    let reset = of(nested(io::ErrorKind::ConnectionReset));
    assert!(matches!(reset, Failure::Disconnected { .. }), "{reset:?}");
    let unknown = rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
    let wrong = of(io::Error::new(io::ErrorKind::InvalidData, unknown));
    assert!(matches!(wrong, Failure::Certificate { .. }), "{wrong:?}");
}

#[test]
fn a_plugin_that_fails_before_a_request_is_not_quoted() {
    let out = std::process::Output {
        status: std::process::ExitStatus::default(),
        stdout: b"s3cr3t".to_vec(),
        stderr: b"s3cr3t".to_vec(),
    };
    let error = AuthError::AuthExecRun {
        cmd: "PASSWORD=s3cr3t plugin".to_owned(),
        out: Box::new(out),
    };
    let failure = classify(&kube::Error::Service(Box::new(error)));
    let Failure::Credentials { reason } = failure else {
        panic!("{failure:?}");
    };
    assert!(reason.contains("exec plugin"), "{reason}");
    assert!(!reason.contains("s3cr3t"), "{reason}");
}

#[test]
fn the_resolvers_error_is_recognized_by_its_text() {
    #[derive(Debug, thiserror::Error)]
    #[error("dns error")]
    struct Resolver(#[source] io::Error);
    let below = io::Error::other("failed to lookup address information");
    let failure = classify(&kube::Error::Service(Box::new(Resolver(below))));
    let Failure::UnknownHost { reason } = failure else {
        panic!("{failure:?}");
    };
    assert!(reason.contains("failed to lookup"), "{reason}");
}

#[test]
fn failures_of_one_kind_may_have_different_texts() {
    let server = |code, message: &str| Failure::Server {
        code,
        message: message.to_owned(),
    };
    assert!(server(500, "a").is_same_kind(&server(500, "b")));
    assert!(!server(500, "a").is_same_kind(&server(503, "a")));
    let denied = |verb| Failure::Forbidden { verb, user: None };
    assert!(!denied(Verb::List).is_same_kind(&denied(Verb::Watch)));
    assert!(!Failure::Gone.is_same_kind(&Failure::Unauthorized));
}
