//! The four client metrics of OpenTelemetry's conventions for generative AI.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use serde::Serialize;
use serde_json::Value;

use super::histogram::Histogram;

/// Powers of 4.
const TOKENS: [f64; 14] = [
    1.0,
    4.0,
    16.0,
    64.0,
    256.0,
    1024.0,
    4096.0,
    16_384.0,
    65_536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    67_108_864.0,
];
const SECONDS: [f64; 14] = [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92];

/// A metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Metric {
    TokenUsage,
    Duration,
    TimeToFirstChunk,
    TimePerOutputChunk,
}

impl Metric {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::TokenUsage => "gen_ai.client.token.usage",
            Self::Duration => "gen_ai.client.operation.duration",
            Self::TimeToFirstChunk => "gen_ai.client.operation.time_to_first_chunk",
            Self::TimePerOutputChunk => "gen_ai.client.operation.time_per_output_chunk",
        }
    }

    pub(super) const fn unit(self) -> &'static str {
        match self {
            Self::TokenUsage => "{token}",
            _ => "s",
        }
    }

    pub(super) const fn boundaries(self) -> &'static [f64] {
        match self {
            Self::TokenUsage => &TOKENS,
            _ => &SECONDS,
        }
    }
}

/// What a value is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Attributes {
    pub(super) operation: &'static str,
    pub(super) provider: String,
    pub(super) request_model: String,
    pub(super) response_model: Option<String>,
    pub(super) server: Option<(String, u16)>,
    pub(super) token_type: Option<&'static str>,
    pub(super) error_type: Option<&'static str>,
}

impl Attributes {
    fn map(&self) -> BTreeMap<&'static str, Value> {
        let server = self.server.as_ref();
        let all = [
            ("gen_ai.operation.name", Some(Value::from(self.operation))),
            ("gen_ai.provider.name", Some(Value::from(self.provider.as_str()))),
            ("gen_ai.request.model", Some(Value::from(self.request_model.as_str()))),
            ("gen_ai.response.model", self.response_model.as_deref().map(Value::from)),
            ("gen_ai.token.type", self.token_type.map(Value::from)),
            ("server.address", server.map(|(host, _)| Value::from(host.as_str()))),
            ("server.port", server.map(|(_, port)| Value::from(*port))),
            ("error.type", self.error_type.map(Value::from)),
        ];
        all.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }

    #[cfg(feature = "opentelemetry")]
    fn key_values(&self) -> Vec<opentelemetry::KeyValue> {
        let value = |value| match value {
            Value::String(text) => opentelemetry::Value::from(text),
            value => opentelemetry::Value::from(value.as_i64().unwrap_or_default()),
        };
        self.map().into_iter().map(|(name, of)| opentelemetry::KeyValue::new(name, value(of))).collect()
    }
}

/// Counts what calls take: tokens, time, time to the first chunk, time between chunks. Share one through an [`Arc`](std::sync::Arc).
///
/// With the feature `opentelemetry`, all of it is also recorded with the global meter of the crate `opentelemetry`, as it is set when
/// the first value comes.
#[derive(Debug, Default)]
pub struct Metrics {
    series: Mutex<BTreeMap<(Metric, Attributes), Histogram>>,
    #[cfg(feature = "opentelemetry")]
    instruments: std::sync::OnceLock<[opentelemetry::metrics::Histogram<f64>; 4]>,
}

impl Metrics {
    /// Nothing counted yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// What has been counted by now.
    pub fn snapshot(&self) -> MetricsSnapshot {
        let series = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        let series = series.iter().map(|((metric, attributes), histogram)| Series {
            name: metric.name(),
            unit: metric.unit(),
            attributes: attributes.map(),
            count: histogram.count(),
            sum: histogram.sum,
            boundaries: histogram.boundaries.to_vec(),
            buckets: histogram.buckets.clone(),
        });
        MetricsSnapshot { series: series.collect() }
    }

    pub(super) fn record(&self, metric: Metric, attributes: &Attributes, value: f64) {
        self.export(metric, attributes, value);
        let mut one = Histogram::new(metric.boundaries());
        one.record(value);
        self.add(metric, attributes, &one);
    }

    /// Counts what was counted elsewhere, and exported there.
    pub(super) fn add(&self, metric: Metric, attributes: &Attributes, values: &Histogram) {
        let mut series = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = series.entry((metric, attributes.clone()));
        entry.or_insert_with(|| Histogram::new(metric.boundaries())).add(values);
    }

    /// Tells OpenTelemetry alone.
    #[cfg(feature = "opentelemetry")]
    pub(super) fn export(&self, metric: Metric, attributes: &Attributes, value: f64) {
        let instruments = self.instruments.get_or_init(|| {
            let meter = opentelemetry::global::meter("llm-providers");
            let all = [Metric::TokenUsage, Metric::Duration, Metric::TimeToFirstChunk, Metric::TimePerOutputChunk];
            all.map(|metric| {
                let builder = meter.f64_histogram(metric.name()).with_unit(metric.unit());
                builder.with_boundaries(metric.boundaries().to_vec()).build()
            })
        });
        instruments[metric as usize].record(value, &attributes.key_values());
    }

    #[cfg(not(feature = "opentelemetry"))]
    pub(super) fn export(&self, _: Metric, _: &Attributes, _: f64) {}
}

/// What has been counted at some time.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[non_exhaustive]
pub struct MetricsSnapshot {
    /// One entry for each metric and each set of attributes.
    pub series: Vec<Series>,
}

impl MetricsSnapshot {
    /// As JSON: `{"series": [{"name", "unit", "attributes", "count", "sum", "boundaries", "buckets"}]}`.
    pub fn to_json(&self) -> String {
        // Numbers and strings alone: there is nothing that cannot be said in JSON.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// A histogram.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Series {
    /// The metric.
    pub name: &'static str,
    /// Its unit: `s` or `{token}`.
    pub unit: &'static str,
    /// What the values are about, by the names of the conventions.
    pub attributes: BTreeMap<&'static str, Value>,
    /// How many values.
    pub count: u64,
    /// Their sum.
    pub sum: f64,
    /// Upper ends of the buckets, each belonging to its bucket.
    pub boundaries: Vec<f64>,
    /// How many values each bucket has; the last one is for those above all boundaries.
    pub buckets: Vec<u64>,
}
