//! What all ranks must have read alike. A rank that is alone has nothing to compare, and computes no digest.

use std::fmt::Debug;
use std::sync::Arc;

use krystal::dynlora::ContentHash;
use krystal::grpo::lm::Ranks;
use krystal::lm::{LanguageModel, LmBackend};

/// Checks that all ranks have read the same weights.
pub(crate) fn agree_on_model(model: &Arc<LanguageModel>, ranks: &Ranks) -> anyhow::Result<()> {
    agree("weights of the model", ranks, || LmBackend::new(Arc::clone(model)).base_hash())
}

/// Checks that all ranks have read the same data, which is compared as it prints.
pub(crate) fn agree_on_data(data: &impl Debug, ranks: &Ranks) -> anyhow::Result<()> {
    agree("data", ranks, || ContentHash::of_bytes(format!("{data:?}").as_bytes()))
}

fn agree(what: &'static str, ranks: &Ranks, digest: impl FnOnce() -> ContentHash) -> anyhow::Result<()> {
    if ranks.are_many() {
        ranks.agree(what, digest().to_string().as_bytes())?;
    }
    Ok(())
}
