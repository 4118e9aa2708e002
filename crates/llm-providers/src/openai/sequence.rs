//! Lists as servers send them.

use serde::de::{Deserialize, Deserializer, IgnoredAny, SeqAccess};

/// A list that may be null.
pub(super) fn list<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    Ok(Option::<Vec<T>>::deserialize(deserializer)?.unwrap_or_default())
}

/// Skips what is left of a sequence.
pub(super) fn skip<'de, A: SeqAccess<'de>>(mut rest: A) -> Result<(), A::Error> {
    while rest.next_element::<IgnoredAny>()?.is_some() {}
    Ok(())
}
