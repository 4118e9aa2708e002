//! The list of models.

use serde_json::Value;

use crate::error::{Error, Result};
use crate::json;
use crate::provider::Availability;

/// Reads `{"data": [{"id": ..}]}`, and the bare list that some servers give.
pub(super) fn read(provider: &str, body: &[u8]) -> Result<Availability> {
    let list: Value = json::parse(provider, "a list of models", body)?;
    let models = ["data", "models"].iter().find_map(|key| list.get(key)).unwrap_or(&list);
    let Some(models) = models.as_array() else {
        return Err(Error::Decode {
            provider: provider.to_owned(),
            expected: "a list of models".to_owned(),
            found: "JSON without data".to_owned(),
        });
    };
    let name =
        |model: &Value| Some(["id", "name", "model"].iter().find_map(|key| model.get(key))?.as_str()?.to_owned());
    Ok(Availability::new(models.iter().filter_map(name).collect()))
}
