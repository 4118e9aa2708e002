//! The hyper-parameters of an adapter.

use serde::{Deserialize, Serialize};

use crate::{Error, PatternMap, TargetModules};

/// Largest rank accepted: far beyond use, small enough that sizes cannot overflow.
pub const MAX_RANK: usize = 1 << 16;

/// LoRA hyper-parameters, named and defaulted as in PEFT 0.21 except for the targets.
///
/// PEFT's default targets depend on the family (`q_proj` and `v_proj` for Llama); here they are all linear layers of the
/// blocks, which is where LoRA matches full fine-tuning in reinforcement learning ("LoRA Without Regret", Schulman et al.,
/// 2025).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LoraConfig {
    /// Rank of the update, 1 to [`MAX_RANK`]; default 8. More rank can learn more and costs memory and time in proportion.
    pub r: usize,
    /// Numerator of the scale, > 0; default 8. Raising it acts like raising the learning rate.
    pub lora_alpha: f64,
    /// Whether the scale is `alpha / sqrt(r)` (rank-stabilised LoRA, arXiv 2312.03732) instead of `alpha / r`; default false.
    pub use_rslora: bool,
    /// Which linear layers get factors; default all of them.
    pub target_modules: TargetModules,
    /// Ranks of modules whose rank is not `r`; default none.
    pub rank_pattern: PatternMap<usize>,
    /// Alphas of modules whose alpha is not `lora_alpha`; default none.
    pub alpha_pattern: PatternMap<f64>,
}

impl Default for LoraConfig {
    fn default() -> Self {
        Self {
            r: 8,
            lora_alpha: 8.0,
            use_rslora: false,
            target_modules: TargetModules::AllLinear,
            rank_pattern: PatternMap::default(),
            alpha_pattern: PatternMap::default(),
        }
    }
}

impl LoraConfig {
    /// The factor on `B A`: `alpha / r`, or `alpha / sqrt(r)` with `use_rslora`; of modules that no pattern names.
    pub fn scale(&self) -> f32 {
        self.scale_of(self.lora_alpha, self.r)
    }

    /// Rank and scale of the module called `name`, patterns applied.
    ///
    /// # Errors
    /// [`Error::Pattern`] for a pattern that does not compile, [`Error::Field`] for a rank or alpha out of range.
    pub fn rank_and_scale(&self, name: &str) -> Result<(usize, f32), Error> {
        let rank = *self.rank_pattern.get(name, "rank_pattern")?.unwrap_or(&self.r);
        let alpha = *self.alpha_pattern.get(name, "alpha_pattern")?.unwrap_or(&self.lora_alpha);
        check_rank("rank_pattern", rank)?;
        check_alpha("alpha_pattern", alpha)?;
        Ok((rank, self.scale_of(alpha, rank)))
    }

    /// Whether every number is in range.
    ///
    /// # Errors
    /// [`Error::Field`] with the first that is not.
    pub fn validate(&self) -> Result<(), Error> {
        check_rank("r", self.r)?;
        check_alpha("lora_alpha", self.lora_alpha)?;
        self.rank_pattern.iter().try_for_each(|(_, rank)| check_rank("rank_pattern", *rank))?;
        self.alpha_pattern.iter().try_for_each(|(_, alpha)| check_alpha("alpha_pattern", *alpha))
    }

    // In f64 as PEFT computes it; the one rounding is torch's, when the scalar meets an f32 tensor.
    fn scale_of(&self, alpha: f64, rank: usize) -> f32 {
        let rank = rank as f64;
        (alpha / if self.use_rslora { rank.sqrt() } else { rank }) as f32
    }
}

fn check_rank(field: &'static str, rank: usize) -> Result<(), Error> {
    if (1..=MAX_RANK).contains(&rank) {
        Ok(())
    } else {
        Err(Error::field(field, format!("a rank from 1 to {MAX_RANK}"), rank))
    }
}

fn check_alpha(field: &'static str, alpha: f64) -> Result<(), Error> {
    if alpha > 0.0 && alpha.is_finite() { Ok(()) } else { Err(Error::field(field, "a finite number above 0", alpha)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_are_those_of_the_definition() {
        let mut config = LoraConfig { r: 4, lora_alpha: 10.0, ..LoraConfig::default() };
        assert_eq!(config.scale(), 2.5);
        config.use_rslora = true;
        assert_eq!(config.scale(), 5.0);
        config.rank_pattern = [("q_proj".to_owned(), 16)].into_iter().collect();
        config.alpha_pattern = [("v_proj".to_owned(), 3.0)].into_iter().collect();
        assert_eq!(config.rank_and_scale("m.q_proj").unwrap(), (16, 2.5));
        assert_eq!(config.rank_and_scale("m.v_proj").unwrap(), (4, 1.5));
        assert_eq!(config.rank_and_scale("m.k_proj").unwrap(), (4, 5.0));
    }

    #[test]
    fn numbers_out_of_range_are_refused_by_name() {
        let message = |config: LoraConfig| config.validate().unwrap_err().to_string();
        let config = LoraConfig::default();
        assert!(message(LoraConfig { r: 0, ..config.clone() }).contains("`r`"));
        assert!(message(LoraConfig { r: MAX_RANK + 1, ..config.clone() }).contains("65537"));
        for alpha in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(message(LoraConfig { lora_alpha: alpha, ..config.clone() }).contains("`lora_alpha`"), "{alpha}");
        }
        let pattern = [("x".to_owned(), 0)].into_iter().collect();
        assert!(message(LoraConfig { rank_pattern: pattern, ..config }).contains("`rank_pattern`"));
    }
}
