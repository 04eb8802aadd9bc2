//! What operators see of a coordinator from outside: logs on stderr, traces over OTLP where an endpoint is configured,
//! and the figures behind `/metrics` (in [`metrics`]).
//!
//! Standard output belongs to the ready line, so logs never go there.

mod full;
mod metrics;

pub(crate) use metrics::Metrics;

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::{Resource, trace::SdkTracerProvider};
use std::{io, time::Duration};
use tracing::Level;
use tracing_subscriber::{
    EnvFilter, Layer as _, filter::Targets, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};

/// How long a shutdown waits for the last spans to leave.
const FLUSH_WAIT: Duration = Duration::from_secs(3);

/// How long one export may take before its spans are dropped.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);

/// Prefix of the targets whose spans are exported. Spans of the HTTP stack are left out: exporting makes HTTP spans
/// of its own, which would be exported again without end.
const OWN_TARGETS: &str = "matrixai";

/// Why telemetry could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The level or filter of the configuration is not one.
    #[error("log filter {filter:?}: {what}; write a level (info, debug) or a list such as \"info,matrixai=debug\"")]
    Filter {
        /// The filter as configured.
        filter: String,
        /// What the parser said.
        what: String,
    },
    /// The OTLP endpoint cannot be used.
    #[error("OTLP endpoint {endpoint}: {what}")]
    Endpoint {
        /// The endpoint as configured.
        endpoint: String,
        /// What the exporter said.
        what: String,
    },
}

/// Logging and tracing of this process; ends with [`Telemetry::shutdown`].
#[derive(Debug)]
pub(crate) struct Telemetry {
    traces: Option<SdkTracerProvider>,
}

impl Telemetry {
    /// Starts logging to stderr and, where `otlp_endpoint` is given, exporting traces to it over gRPC.
    ///
    /// `filter` is a level or an env-filter list. Must be called inside the tokio runtime, since the exporter's
    /// connection lives there. A process that already has a subscriber (a test, an embedding) keeps it.
    ///
    /// # Errors
    /// [`TelemetryError`] names the setting that is wrong.
    pub(crate) fn start(filter: &str, otlp_endpoint: Option<&str>, instance: &str) -> Result<Self, TelemetryError> {
        let levels = EnvFilter::try_new(filter)
            .map_err(|error| TelemetryError::Filter { filter: filter.to_owned(), what: error.to_string() })?;
        let traces = otlp_endpoint.map(|endpoint| exporter(endpoint, instance)).transpose()?;
        let exported = traces.as_ref().map(|provider| {
            tracing_opentelemetry::layer()
                .with_tracer(provider.tracer("matrixai"))
                .with_filter(Targets::new().with_target(OWN_TARGETS, Level::DEBUG))
        });
        let stderr = tracing_subscriber::fmt::layer().with_writer(io::stderr).with_filter(levels);
        if tracing_subscriber::registry().with(exported).with(stderr).try_init().is_err() {
            tracing::debug!("this process has a subscriber already: the coordinator uses it");
        }
        Ok(Self { traces })
    }

    /// Sends the last spans and closes the exporter. It blocks on its own worker, so it must not do so on a thread of
    /// the runtime that carries its connection.
    pub(crate) async fn shutdown(self) {
        let Some(provider) = self.traces else { return };
        let closed = tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(FLUSH_WAIT)).await;
        match closed {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the last traces could not be sent"),
            Err(error) => tracing::warn!(%error, "the trace exporter did not stop"),
        }
    }
}

fn exporter(endpoint: &str, instance: &str) -> Result<SdkTracerProvider, TelemetryError> {
    let exporter = SpanExporter::builder()
        .with_tonic()
        .with_endpoint(endpoint)
        .with_timeout(EXPORT_TIMEOUT)
        .build()
        .map_err(|error| TelemetryError::Endpoint { endpoint: endpoint.to_owned(), what: error.to_string() })?;
    let resource = Resource::builder()
        .with_service_name("matrixai-coordinator")
        .with_attribute(opentelemetry::KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .with_attribute(opentelemetry::KeyValue::new("service.instance.id", instance.to_owned()))
        .build();
    Ok(SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn wrong_settings_are_named() {
        let filter = Telemetry::start("matrixai=loud", None, "test").unwrap_err().to_string();
        assert!(filter.contains("matrixai=loud"), "{filter}");
        let endpoint = Telemetry::start("info", Some("not an address"), "test").unwrap_err().to_string();
        assert!(endpoint.contains("not an address"), "{endpoint}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn shutdown_ends_though_nobody_listens_at_the_endpoint() {
        let telemetry = Telemetry::start("error", Some("http://127.0.0.1:9"), "test").unwrap();
        tokio::time::timeout(FLUSH_WAIT * 3, telemetry.shutdown()).await.unwrap();
    }
}
