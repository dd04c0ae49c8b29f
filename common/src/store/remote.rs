//! Buckets: which kind a URL is, and how patient its client may be.

use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::path::Path;
use object_store::{BackoffConfig, ClientConfigKey, ObjectStore, ObjectStoreScheme, RetryConfig};

use super::failure::redact;
use crate::error::{Error, Result};

/// How long one request may take, its body included: objects are moved in parts.
const REQUEST_TIMEOUT: &str = "30 seconds";
/// How long reaching the server may take.
const CONNECT_TIMEOUT: &str = "5 seconds";
/// The client's own tries are few and quick: those that have a budget and tell of the wait are in `patience`.
const RETRY_TIMEOUT: Duration = Duration::from_secs(5);
/// How often the client tries a request again by itself.
const MAX_RETRIES: usize = 2;

/// The bucket of a URL, and the key prefix within it. Settings and credentials come from the environment.
///
/// # Errors
/// A URL of an unknown kind, one that carries credentials, or settings that do not fit together.
pub fn open(url: &str) -> Result<(Arc<dyn ObjectStore>, Path)> {
    let kinds = "use file:PATH, s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or az://CONTAINER/PREFIX";
    let shown = url.split(['?', '#']).next().unwrap_or_default();
    let parsed = url::Url::parse(url).map_err(|e| Error::Store(format!("{shown}: not a store URL ({e}); {kinds}")))?;
    if !parsed.username().is_empty() || parsed.password().is_some() || parsed.query().is_some() || parsed.fragment().is_some() {
        let host = format!("{}://{}{}", parsed.scheme(), parsed.host_str().unwrap_or_default(), parsed.path());
        return Err(Error::Store(format!(
            "{host}: a store URL has no user, password, query or fragment; credentials come from the environment (AWS_ACCESS_KEY_ID, ...)"
        )));
    }
    let (scheme, prefix) = ObjectStoreScheme::parse(&parsed)
        .map_err(|e| Error::Store(format!("{url}: not a store that Artel knows ({e}); {kinds}")))?;
    let built = match scheme {
        ObjectStoreScheme::AmazonS3 => open_s3(url),
        ObjectStoreScheme::GoogleCloudStorage => open_google(url),
        ObjectStoreScheme::MicrosoftAzure => open_azure(url),
        _ => return Err(Error::Store(format!("{url}: not a store that Artel knows; {kinds}"))),
    };
    let store = built.map_err(|e| Error::Store(format!("{url}: cannot open the store: {}", redact(&e.to_string()))))?;
    Ok((store, prefix))
}

type Built = object_store::Result<Arc<dyn ObjectStore>>;

/// Client settings that the environment may not weaken: deadlines, and plain HTTP only where an endpoint asks for it.
fn client_settings(endpoints: &[&str]) -> Vec<(ClientConfigKey, String)> {
    let plain = endpoints.iter().filter_map(|name| std::env::var(name).ok()).any(|endpoint| endpoint.starts_with("http://"));
    let mut settings = vec![
        (ClientConfigKey::Timeout, REQUEST_TIMEOUT.to_owned()),
        (ClientConfigKey::ConnectTimeout, CONNECT_TIMEOUT.to_owned()),
    ];
    if plain {
        settings.push((ClientConfigKey::AllowHttp, "true".to_owned()));
    }
    settings
}

fn retries() -> RetryConfig {
    let backoff = BackoffConfig { init_backoff: Duration::from_millis(100), max_backoff: Duration::from_secs(5), base: 2.0 };
    RetryConfig { backoff, max_retries: MAX_RETRIES, retry_timeout: RETRY_TIMEOUT }
}

fn open_s3(url: &str) -> Built {
    let endpoints = ["AWS_ENDPOINT", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"];
    let builder = AmazonS3Builder::from_env().with_url(url).with_retry(retries());
    let set = |builder: AmazonS3Builder, (key, value)| builder.with_config(AmazonS3ConfigKey::Client(key), value);
    Ok(Arc::new(client_settings(&endpoints).into_iter().fold(builder, set).build()?))
}

fn open_google(url: &str) -> Built {
    let endpoints = ["GOOGLE_BASE_URL", "GOOGLE_STORAGE_BASE_URL"];
    let builder = GoogleCloudStorageBuilder::from_env().with_url(url).with_retry(retries());
    let set = |builder: GoogleCloudStorageBuilder, (key, value)| builder.with_config(GoogleConfigKey::Client(key), value);
    Ok(Arc::new(client_settings(&endpoints).into_iter().fold(builder, set).build()?))
}

fn open_azure(url: &str) -> Built {
    let endpoints = ["AZURE_ENDPOINT", "AZURE_STORAGE_ENDPOINT"];
    let builder = MicrosoftAzureBuilder::from_env().with_url(url).with_retry(retries());
    let set = |builder: MicrosoftAzureBuilder, (key, value)| builder.with_config(AzureConfigKey::Client(key), value);
    Ok(Arc::new(client_settings(&endpoints).into_iter().fold(builder, set).build()?))
}
