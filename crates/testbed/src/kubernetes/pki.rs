//! Certificates, keys and service-account tokens of one control plane.
//!
//! All keys are ECDSA P-256. A CA signs one certificate for the API server and one for each client;
//! a client's rights follow from its name and organisation (RFC 5280 subject CN and O, which
//! Kubernetes reads as user and group). Certificates are valid at any time, so a machine with a
//! wrong clock can run the tests.
//!
//! Service-account tokens are JWTs (RFC 7519) signed with ES256 (RFC 7518, section 3.4: the
//! signature is `r || s`, not DER). Their claims are those of
//! `k8s.io/kubernetes/pkg/serviceaccount/claims.go`.

use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as JWT;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use serde_json::json;

use super::error::Error;

/// The issuer and audience of every token; the API server has the same.
pub(super) const TOKEN_ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

/// go-jose, which the API server uses, accepts a token this long after its `exp`
/// (`jwt.DefaultLeeway`).
const LEEWAY: Duration = Duration::from_mins(1);

/// A certificate authority.
///
/// Public, because a test of a client that trusts the wrong CA needs a second one.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate with its private key, both PEM.
pub(super) struct Identity {
    pub(super) certificate: String,
    pub(super) key: String,
}

impl Authority {
    /// Makes a CA with a fresh key.
    ///
    /// # Errors
    /// When the system has no random numbers.
    pub fn new(name: &str) -> Result<Self, Error> {
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name.push(DnType::CommonName, name);
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().map_err(crypto("a CA key"))?;
        let issuer =
            CertifiedIssuer::self_signed(parameters, key).map_err(crypto("a CA certificate"))?;
        Ok(Self { issuer })
    }

    /// The CA's certificate, PEM.
    #[must_use]
    pub fn certificate_pem(&self) -> String {
        self.issuer.pem()
    }

    /// A certificate for a server at `address` and at `localhost`.
    pub(super) fn server(&self, name: &str, address: IpAddr) -> Result<Identity, Error> {
        let names = vec!["localhost".to_owned(), address.to_string()];
        let parameters =
            CertificateParams::new(names).map_err(crypto("a server certificate's names"))?;
        self.sign(parameters, name, None, ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// A certificate for a client: `user` becomes the user name, `group` a group.
    pub(super) fn client(&self, user: &str, group: Option<&str>) -> Result<Identity, Error> {
        let parameters = CertificateParams::default();
        self.sign(parameters, user, group, ExtendedKeyUsagePurpose::ClientAuth)
    }

    fn sign(
        &self,
        mut parameters: CertificateParams,
        name: &str,
        organisation: Option<&str>,
        usage: ExtendedKeyUsagePurpose,
    ) -> Result<Identity, Error> {
        parameters.distinguished_name.push(DnType::CommonName, name);
        if let Some(organisation) = organisation {
            parameters
                .distinguished_name
                .push(DnType::OrganizationName, organisation);
        }
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        parameters.extended_key_usages = vec![usage];
        let key = KeyPair::generate().map_err(crypto("a key"))?;
        let certificate = parameters
            .signed_by(&key, &self.issuer)
            .map_err(crypto("a certificate"))?;
        Ok(Identity {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        })
    }
}

/// The key that signs service-account tokens.
pub(super) struct TokenKey {
    key: KeyPair,
}

/// The service account of a signed token.
pub(super) struct Subject<'a> {
    pub(super) namespace: &'a str,
    pub(super) service_account: &'a str,
    /// `metadata.uid` of the service account; the API server compares it.
    pub(super) uid: &'a str,
}

impl TokenKey {
    /// Makes a fresh key.
    pub(super) fn new() -> Result<Self, Error> {
        let key = KeyPair::generate().map_err(crypto("the service-account key"))?;
        Ok(Self { key })
    }

    /// The private key, PEM.
    pub(super) fn private_pem(&self) -> String {
        self.key.serialize_pem()
    }

    /// The public key, PEM.
    pub(super) fn public_pem(&self) -> String {
        self.key.public_key_pem()
    }

    /// Signs a token that the API server accepts for `lifetime` from now, however short.
    ///
    /// `exp` is set [`LEEWAY`] earlier than that, because the API server accepts it for so much
    /// longer.
    pub(super) fn sign(&self, subject: &Subject<'_>, lifetime: Duration) -> Result<String, Error> {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_err(|error| Error::Crypto {
                what: "a token",
                reason: error.to_string(),
            })?;
        let issued = now.saturating_sub(LEEWAY * 2).as_secs();
        let expires = (now + lifetime).saturating_sub(LEEWAY).as_secs();
        let header = json!({"alg": "ES256", "typ": "JWT"});
        let claims = json!({
            "iss": TOKEN_ISSUER,
            "aud": [TOKEN_ISSUER],
            "sub": format!("system:serviceaccount:{}:{}", subject.namespace, subject.service_account),
            "iat": issued,
            "nbf": issued,
            "exp": expires,
            "kubernetes.io": {
                "namespace": subject.namespace,
                "serviceaccount": {"name": subject.service_account, "uid": subject.uid},
            },
        });
        let message = format!(
            "{}.{}",
            JWT.encode(header.to_string()),
            JWT.encode(claims.to_string())
        );
        let random = SystemRandom::new();
        let rejected = |reason: String| Error::Crypto {
            what: "a token's signature",
            reason,
        };
        let signer = EcdsaKeyPair::from_pkcs8(
            &ECDSA_P256_SHA256_FIXED_SIGNING,
            self.key.serialized_der(),
            &random,
        )
        .map_err(|error| rejected(error.to_string()))?;
        let signature = signer
            .sign(&random, message.as_bytes())
            .map_err(|error| rejected(error.to_string()))?;
        Ok(format!("{message}.{}", JWT.encode(signature.as_ref())))
    }
}

fn crypto(what: &'static str) -> impl FnOnce(rcgen::Error) -> Error {
    move |error| Error::Crypto {
        what,
        reason: error.to_string(),
    }
}
