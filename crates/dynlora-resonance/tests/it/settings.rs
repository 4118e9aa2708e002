//! Settings: what files may say, and what is refused.

use dynlora_core::Level;
use dynlora_resonance::{HorizontalConfig, HorizontalMode, ResonanceConfig, ResonanceEngine, VerticalConfig};

#[test]
fn settings_survive_json_and_typos_do_not_pass() {
    let config = ResonanceConfig::new(HorizontalConfig::seed(), VerticalConfig::seed());
    let text = serde_json::to_string(&config).unwrap();
    assert_eq!(serde_json::from_str::<ResonanceConfig>(&text).unwrap(), config);
    let partial: ResonanceConfig = serde_json::from_str(r#"{"horizontal": {"mode": "cosine"}}"#).unwrap();
    assert_eq!(partial.horizontal.mode, HorizontalMode::Cosine);
    assert_eq!(partial.vertical, VerticalConfig::default());
    assert!(serde_json::from_str::<ResonanceConfig>(r#"{"horizontal": {"aplha": 1}}"#).is_err());
}

#[test]
fn values_out_of_range_are_refused_by_name() {
    let horizontal = |change: fn(&mut HorizontalConfig), expected: &str| {
        let mut config = ResonanceConfig::default();
        change(&mut config.horizontal);
        assert_eq!(ResonanceEngine::new(config).unwrap_err().to_string(), expected);
    };
    horizontal(|config| config.alpha = f64::NAN, "`alpha`: expected a number of at least 0, found NaN");
    horizontal(|config| config.beta = 1.5, "`beta`: expected a number from 0 to 1, found 1.5");
    horizontal(|config| config.z0 = 0.0, "`z0`: expected a number above 0, found 0");
    horizontal(|config| config.floor = 0.0, "`floor`: expected a number above 0 and at most 1, found 0");
    horizontal(
        |config| config.direction_decay = 1.0,
        "`direction_decay`: expected a number from 0 and below 1, found 1",
    );
    horizontal(|config| config.dissent_windows = 0, "`dissent_windows`: expected at least 1, found 0");
    let vertical = |change: fn(&mut VerticalConfig), expected: &str| {
        let mut config = ResonanceConfig::default();
        change(&mut config.vertical);
        assert_eq!(ResonanceEngine::new(config).unwrap_err().to_string(), expected);
    };
    vertical(
        |config| config.levels = vec![Level::Agent, Level::Swarm],
        "`levels`: expected context and slower levels, each once, found [Agent, Swarm]",
    );
    vertical(
        |config| config.max_amplification = 0.5,
        "`max_amplification`: expected a number of at least 1, found 0.5",
    );
    vertical(|config| config.delta = -0.1, "`delta`: expected a number from 0 to 1, found -0.1");
    vertical(|config| config.shift_z = f64::NAN, "`shift_z`: expected a number above 0, found NaN");
}
