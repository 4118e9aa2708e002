//! Which server and which model, in one word.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::endpoint::Endpoint;
use crate::error::{Error, Result};

/// The protocols that a [`Target`] can name. Providers of other vendors are given to
/// [`ClientBuilder::provider`](super::ClientBuilder::provider).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Vendor {
    /// OpenAI's chat completions, and all servers compatible with them.
    OpenAi,
    /// OpenAI's Responses API.
    OpenAiResponses,
    /// Anthropic's Messages.
    Anthropic,
    /// Gemini's generateContent.
    Gemini,
    /// Ollama's chat.
    Ollama,
}

impl Vendor {
    /// All of them, in the order in which they are looked for.
    pub const ALL: [Self; 5] = [Self::OpenAi, Self::OpenAiResponses, Self::Anthropic, Self::Gemini, Self::Ollama];

    /// The word for it in a target.
    pub const fn word(self) -> &'static str {
        match self {
            Self::OpenAi => "openai",
            Self::OpenAiResponses => "openai-responses",
            Self::Anthropic => "anthropic",
            Self::Gemini => "gemini",
            Self::Ollama => "ollama",
        }
    }

    /// The environment variables of its key, the first one that is set wins.
    pub const fn key_variables(self) -> &'static [&'static str] {
        match self {
            Self::OpenAi | Self::OpenAiResponses => &["OPENAI_API_KEY"],
            Self::Anthropic => &["ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"],
            Self::Gemini => &["GOOGLE_API_KEY", "GEMINI_API_KEY"],
            Self::Ollama => &["OLLAMA_API_KEY"],
        }
    }

    /// The environment variable of its address.
    pub const fn address_variable(self) -> &'static str {
        match self {
            Self::OpenAi | Self::OpenAiResponses => "OPENAI_BASE_URL",
            Self::Anthropic => "ANTHROPIC_BASE_URL",
            Self::Gemini => "GOOGLE_GEMINI_BASE_URL",
            Self::Ollama => "OLLAMA_HOST",
        }
    }

    /// Whether its own server answers nobody without a key.
    pub const fn needs_key(self) -> bool {
        !matches!(self, Self::Ollama)
    }
}

/// A vendor's protocol, perhaps the address of a server, perhaps a model.
///
/// | text | means |
/// |---|---|
/// | `openai:gpt-5` | a model at the vendor's own server |
/// | `anthropic` | the vendor's own server, the model is said elsewhere |
/// | `ollama@http://host:11434#qwen3` | a model at another server with this protocol |
/// | `http://host/v1#model` | a model at a server compatible with OpenAI |
///
/// The words are `openai`, `openai-responses`, `anthropic`, `gemini` and `ollama`. A model's name alone names no vendor.
///
/// ```
/// use llm_providers::client::{Target, Vendor};
///
/// let target = Target::parse("ollama:qwen3:8b")?;
/// assert_eq!((target.vendor, target.model.as_deref()), (Vendor::Ollama, Some("qwen3:8b")));
/// let target = Target::parse("http://127.0.0.1:8080/v1#llama")?;
/// assert_eq!(target.address.as_deref(), Some("http://127.0.0.1:8080/v1"));
/// assert!(Target::parse("gpt-5").is_err());
/// # Ok::<(), llm_providers::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[non_exhaustive]
pub struct Target {
    /// Which protocol.
    pub vendor: Vendor,
    /// Where, if not at the vendor's own server.
    pub address: Option<String>,
    /// Which model.
    pub model: Option<String>,
}

const EXPECTED: &str = "expected openai:MODEL, openai-responses:MODEL, anthropic:MODEL, gemini:MODEL, ollama:MODEL, \
                        http://HOST/v1#MODEL or VENDOR@http://HOST#MODEL";

impl Target {
    /// A vendor's own server.
    pub fn new(vendor: Vendor) -> Self {
        Self { vendor, address: None, model: None }
    }

    /// With a model.
    #[must_use]
    pub fn with_model(mut self, model: impl Into<String>) -> Self {
        self.model = Some(model.into());
        self
    }

    /// At another server.
    #[must_use]
    pub fn with_address(mut self, address: impl Into<String>) -> Self {
        self.address = Some(address.into());
        self
    }

    /// Reads a target.
    ///
    /// # Errors
    ///
    /// [`Error::Configuration`], which lists what is possible.
    pub fn parse(text: &str) -> Result<Self> {
        let text = text.trim();
        if text.starts_with("http://") || text.starts_with("https://") {
            return Self::at(Vendor::OpenAi, text);
        }
        let end = text.find([':', '@']).unwrap_or(text.len());
        let (word, rest) = text.split_at(end);
        let Some(vendor) = Vendor::ALL.into_iter().find(|vendor| vendor.word() == word) else {
            // Whatever is long may be a key in the wrong place.
            let came = if word.len() <= 20 { format!("{word:?}") } else { "something else".to_owned() };
            return Err(wrong(&format!(
                "{EXPECTED}; {came} is none of these, and a model's name alone names no vendor"
            )));
        };
        match rest.split_at_checked(1) {
            None => Ok(Self::new(vendor)),
            Some((_, "")) => Err(wrong(&format!("{EXPECTED}; nothing came after {text:?}"))),
            Some(("@", place)) => Self::at(vendor, place),
            Some((_, model)) => Ok(Self::new(vendor).with_model(model)),
        }
    }

    fn at(vendor: Vendor, place: &str) -> Result<Self> {
        let (address, model) = match place.split_once('#') {
            Some((_, "")) => return Err(wrong(&format!("{EXPECTED}; no model came after #"))),
            Some((address, model)) => (address, Some(model.to_owned())),
            None => (place, None),
        };
        // Ollama's own variable has hosts without a scheme; they are read where the server is connected to.
        if vendor != Vendor::Ollama || address.contains("://") || address.contains(['@', '?']) {
            Endpoint::new(address)?;
        }
        Ok(Self { vendor, address: Some(address.to_owned()), model })
    }
}

fn wrong(problem: &str) -> Error {
    Error::Configuration { setting: "target".to_owned(), problem: problem.to_owned() }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.vendor.word())?;
        match (&self.address, &self.model) {
            (None, None) => Ok(()),
            (None, Some(model)) => write!(f, ":{model}"),
            (Some(address), None) => write!(f, "@{address}"),
            (Some(address), Some(model)) => write!(f, "@{address}#{model}"),
        }
    }
}

impl FromStr for Target {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::parse(text)
    }
}

impl TryFrom<String> for Target {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        Self::parse(&text)
    }
}

impl From<Target> for String {
    fn from(target: Target) -> Self {
        target.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_read_and_written() {
        let local = Some("http://host:11434");
        for (text, vendor, address, model) in [
            ("ollama:qwen3", Vendor::Ollama, None, Some("qwen3")),
            ("ollama:qwen3:8b-q4@x", Vendor::Ollama, None, Some("qwen3:8b-q4@x")),
            ("openai:gpt-5", Vendor::OpenAi, None, Some("gpt-5")),
            ("openai-responses:gpt-5", Vendor::OpenAiResponses, None, Some("gpt-5")),
            ("anthropic", Vendor::Anthropic, None, None),
            ("gemini:models/g", Vendor::Gemini, None, Some("models/g")),
            ("ollama@http://host:11434#qwen3:8b", Vendor::Ollama, local, Some("qwen3:8b")),
            ("ollama@http://host:11434", Vendor::Ollama, local, None),
            ("ollama@host", Vendor::Ollama, Some("host"), None),
            ("openai@https://host/v1#org/model", Vendor::OpenAi, Some("https://host/v1"), Some("org/model")),
        ] {
            let target = Target::parse(text).unwrap();
            let expected = Target { vendor, address: address.map(str::to_owned), model: model.map(str::to_owned) };
            assert_eq!(target, expected, "{text}");
            assert_eq!(target.to_string(), text);
        }
        let compatible = Target::parse(" http://host/v1#model ").unwrap();
        assert_eq!(compatible.to_string(), "openai@http://host/v1#model");
    }

    #[test]
    fn what_is_no_target_is_told_what_is() {
        for text in
            ["", "gpt-5", "qwen3:8b", "OpenAI:gpt-5", "openai:", "openai@", "http://host/v1#", ":", "@", "claude"]
        {
            let error = Target::parse(text).unwrap_err().to_string();
            assert!(
                !error.contains('\n') && (error.contains("openai") || error.contains("http://")),
                "{text}: {error}"
            );
        }
        for text in ["http://name:planted@host/v1#m", "ollama@name:planted@host", "sk-planted-planted-planted-planted"]
        {
            let error = Target::parse(text).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("planted"), "{text}: {error:?}");
        }
    }
}
