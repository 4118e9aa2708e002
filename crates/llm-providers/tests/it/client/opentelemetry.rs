//! The metrics as OpenTelemetry gets them.

use std::sync::{Arc, Mutex};

use llm_providers::LlmProvider;
use llm_providers::client::Observed;
use opentelemetry::metrics::{Histogram, HistogramBuilder, InstrumentProvider, Meter, MeterProvider, SyncInstrument};
use opentelemetry::{InstrumentationScope, KeyValue};

use super::script::{Script, Step, paused, request};

/// Name, unit, number of boundaries, value and attributes.
type Recorded = (String, String, usize, f64, Vec<KeyValue>);

#[derive(Clone, Default)]
struct Recorder(Arc<Mutex<Vec<Recorded>>>);

struct Instrument {
    recorder: Recorder,
    name: String,
    unit: String,
    boundaries: usize,
}

impl MeterProvider for Recorder {
    fn meter_with_scope(&self, scope: InstrumentationScope) -> Meter {
        assert_eq!(scope.name(), "llm-providers");
        Meter::new(Arc::new(self.clone()))
    }
}

impl InstrumentProvider for Recorder {
    fn f64_histogram(&self, builder: HistogramBuilder<'_, Histogram<f64>>) -> Histogram<f64> {
        Histogram::new(Arc::new(Instrument {
            recorder: self.clone(),
            name: builder.name.to_string(),
            unit: builder.unit.unwrap_or_default().to_string(),
            boundaries: builder.boundaries.unwrap_or_default().len(),
        }))
    }
}

impl SyncInstrument<f64> for Instrument {
    fn measure(&self, value: f64, attributes: &[KeyValue]) {
        let recorded = (self.name.clone(), self.unit.clone(), self.boundaries, value, attributes.to_vec());
        self.recorder.0.lock().unwrap().push(recorded);
    }
}

#[test]
fn the_global_meter_gets_the_four_metrics() {
    let recorder = Recorder::default();
    opentelemetry::global::set_meter_provider(recorder.clone());
    // Other tests record at the same time; this provider's name is its own.
    let script = Script::named("for opentelemetry", |_, _| {
        let mut step = Step::answer("a");
        let again = super::script::delta("b");
        step.pieces.insert(3, (std::time::Duration::ZERO, Ok(again)));
        step
    });
    paused(async {
        Observed::new(script, Arc::default()).stream(&request()).await.unwrap().response().await.unwrap();
    });
    let mine = KeyValue::new("gen_ai.provider.name", "for opentelemetry");
    let recorded = recorder.0.lock().unwrap();
    let recorded: Vec<_> = recorded.iter().filter(|(.., attributes)| attributes.contains(&mine)).collect();
    let mut names: Vec<_> = recorded.iter().map(|(name, unit, ..)| (name.as_str(), unit.as_str())).collect();
    names.sort_unstable();
    let expected = [
        ("gen_ai.client.operation.duration", "s"),
        ("gen_ai.client.operation.time_per_output_chunk", "s"),
        ("gen_ai.client.operation.time_to_first_chunk", "s"),
        ("gen_ai.client.token.usage", "{token}"),
        ("gen_ai.client.token.usage", "{token}"),
    ];
    assert_eq!(names, expected);
    assert!(recorded.iter().all(|(_, _, boundaries, ..)| *boundaries == 14));
    let tokens = |token_type: &'static str| {
        let of = KeyValue::new("gen_ai.token.type", token_type);
        recorded.iter().find(|(.., attributes)| attributes.contains(&of)).map(|(_, _, _, value, _)| *value)
    };
    assert_eq!((tokens("input"), tokens("output")), (Some(10.0), Some(5.0)));
    assert!(recorded[0].4.contains(&KeyValue::new("server.port", 8443)));
}
