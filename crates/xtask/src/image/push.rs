//! `--push`: the image to a registry, by the OCI distribution API.
//!
//! Blobs first, then what names them, the index last and under the tag: who pulls in between gets the
//! old image or the new one. Blobs that are there already are not sent. The registry must answer with
//! our digest at the end. Credentials are those of `docker login`.

use std::str::FromStr;

use docker_credential::{CredentialRetrievalError, DockerCredential, get_credential};
use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::errors::OciDistributionError;
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference};

use super::oci::{Blob, INDEX, MANIFEST};
use crate::failure::{Failure, Result};

/// Sends blobs, each after all that it names. The last one gets the tag.
pub(crate) fn push(blobs: &[&Blob], name: &str, insecure: bool) -> Result<()> {
    let root = blobs.last().map_or("", |blob| blob.digest.as_str());
    let reference: Reference = name.parse().map_err(|error| {
        Failure::Usage(format!(
            "--push {name:?}: {error}; it is REGISTRY/NAME:TAG, such as registry.example/podspan:0.1.0"
        ))
    })?;
    let registry = reference.resolve_registry();
    let plain = insecure || is_loopback(registry);
    // The one of the tree; without a choice reqwest panics.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = Client::new(ClientConfig {
        protocol: if plain {
            ClientProtocol::Http
        } else {
            ClientProtocol::Https
        },
        ..ClientConfig::default()
    });
    let auth = credentials(registry)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| Failure::system("starting a runtime", source))?;
    let answered = runtime
        .block_on(send(&client, &reference, &auth, blobs))
        .map_err(|error| Failure::Wrong(format!("pushing {name}: {error}")))?;
    if answered != root {
        return Err(Failure::Wrong(format!(
            "pushing {name}: the registry has {answered}, and {root} was sent"
        )));
    }
    println!("pushed {name}@{answered}");
    Ok(())
}

/// Returns the digest that the registry has for the tag at the end.
async fn send(
    client: &Client,
    reference: &Reference,
    auth: &RegistryAuth,
    blobs: &[&Blob],
) -> Result<String, OciDistributionError> {
    client
        .store_auth_if_needed(reference.resolve_registry(), auth)
        .await;
    let root = blobs.last().map(|blob| &blob.digest);
    for blob in blobs {
        match blob.media_type {
            INDEX | MANIFEST if Some(&blob.digest) == root => {
                let content_type = header(blob.media_type)?;
                client
                    .push_manifest_raw(reference, blob.bytes.clone(), content_type)
                    .await?;
            }
            INDEX | MANIFEST => {
                let by_digest = Reference::with_digest(
                    reference.registry().to_owned(),
                    reference.repository().to_owned(),
                    blob.digest.clone(),
                );
                let content_type = header(blob.media_type)?;
                client
                    .push_manifest_raw(&by_digest, blob.bytes.clone(), content_type)
                    .await?;
            }
            _ if client.blob_exists(reference, &blob.digest).await? => {}
            _ => {
                client
                    .push_blob(reference, blob.bytes.clone(), &blob.digest)
                    .await?;
            }
        }
    }
    client.fetch_manifest_digest(reference, auth).await
}

fn header<T: FromStr>(media_type: &str) -> Result<T, OciDistributionError> {
    let wrong = |_| OciDistributionError::GenericError(Some(format!("{media_type} is no header")));
    media_type.parse().map_err(wrong)
}

/// Plain HTTP is only for a registry on this machine.
fn is_loopback(registry: &str) -> bool {
    let host = match registry.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => registry,
    };
    let address = host.trim_start_matches('[').trim_end_matches(']');
    let parsed = address.parse::<std::net::IpAddr>();
    host == "localhost" || parsed.is_ok_and(|address| address.is_loopback())
}

fn credentials(registry: &str) -> Result<RegistryAuth> {
    match get_credential(registry) {
        Ok(DockerCredential::UsernamePassword(user, password)) => {
            Ok(RegistryAuth::Basic(user, password))
        }
        Ok(DockerCredential::IdentityToken(_)) => Err(Failure::Wrong(format!(
            "docker's credential for {registry} is an identity token, which is not supported: log \
             in with a user name and a password or an access token"
        ))),
        Err(
            CredentialRetrievalError::NoCredentialConfigured
            | CredentialRetrievalError::ConfigNotFound
            | CredentialRetrievalError::ConfigReadError,
        ) => Ok(RegistryAuth::Anonymous),
        Err(error) => Err(Failure::Wrong(format!(
            "reading docker's credential for {registry}: {error}; run `docker login {registry}`"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_for_loopback_only() {
        for registry in [
            "localhost",
            "localhost:5000",
            "127.0.0.1:5000",
            "[::1]:5000",
        ] {
            assert!(is_loopback(registry), "{registry}");
        }
        for registry in [
            "registry.example",
            "localhost.example:5000",
            "127.0.0.1.example",
            "10.0.0.1:5000",
        ] {
            assert!(!is_loopback(registry), "{registry}");
        }
    }
}
