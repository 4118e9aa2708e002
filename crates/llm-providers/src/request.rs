//! What is asked of a model.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::capabilities::{Capabilities, Feature};
use crate::error::{Error, Result};
use crate::message::{Message, Opaque};

/// One call: a conversation and how to continue it. What is `None` or empty is left to the vendor's default.
///
/// ```
/// use llm_providers::{Message, Request};
///
/// let request = Request::new("qwen3", [Message::system("Be brief."), Message::user("What is 17 + 25?")])
///     .with_max_tokens(64)
///     .with_temperature(0.0);
/// assert_eq!(request.messages.len(), 2);
/// ```
#[derive(Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Request {
    /// The model, by the vendor's name for it.
    pub model: String,
    /// The conversation. System messages may stand anywhere; where the protocol has one place for them they are joined there.
    pub messages: Vec<Message>,
    /// Upper bound of the answer, in tokens. Anthropic requires one: its provider has a default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u32>,
    /// Softmax temperature, 0 to 2 (Anthropic: to 1).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    /// Nucleus: the smallest set of tokens of this probability, 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f64>,
    /// The most likely tokens to draw from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_k: Option<u32>,
    /// Seed of the sampling. A vendor promises little.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<i64>,
    /// Texts that end the answer.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stop: Vec<String>,
    /// Penalty on tokens that occurred, -2 to 2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub presence_penalty: Option<f64>,
    /// Penalty on tokens by how often they occurred, -2 to 2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frequency_penalty: Option<f64>,
    /// Log-probabilities of the answer's tokens, with this many alternatives each (0: the token alone).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_probs: Option<u8>,
    /// The form of the answer.
    pub output: OutputFormat,
    /// Tools the model may call.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<Tool>,
    /// Whether and which tools are to be called; `None`: the vendor's default, which is `Auto`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool_choice: Option<ToolChoice>,
    /// Whether several tools may be called at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parallel_tool_calls: Option<bool>,
    /// How much to think first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<ReasoningOptions>,
    /// What to do about a setting that the vendor does not have.
    pub on_unsupported: OnUnsupported,
    /// Keys of the vendor's own, merged into the body last, objects into objects.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub extra: Map<String, Value>,
}

impl Request {
    /// A conversation for a model.
    pub fn new(model: impl Into<String>, messages: impl IntoIterator<Item = Message>) -> Self {
        Self { model: model.into(), messages: messages.into_iter().collect(), ..Self::default() }
    }

    /// With an upper bound of the answer, in tokens.
    #[must_use]
    pub fn with_max_tokens(mut self, max_tokens: u32) -> Self {
        self.max_tokens = Some(max_tokens);
        self
    }

    /// With a softmax temperature.
    #[must_use]
    pub fn with_temperature(mut self, temperature: f64) -> Self {
        self.temperature = Some(temperature);
        self
    }

    /// With a seed.
    #[must_use]
    pub fn with_seed(mut self, seed: i64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// With log-probabilities and `top` alternatives for each token.
    #[must_use]
    pub fn with_log_probs(mut self, top: u8) -> Self {
        self.log_probs = Some(top);
        self
    }

    /// With tools.
    #[must_use]
    pub fn with_tools(mut self, tools: impl IntoIterator<Item = Tool>) -> Self {
        self.tools = tools.into_iter().collect();
        self
    }

    /// With a form of the answer.
    #[must_use]
    pub fn with_output(mut self, output: OutputFormat) -> Self {
        self.output = output;
        self
    }

    /// With how much to think first.
    #[must_use]
    pub fn with_reasoning(mut self, reasoning: ReasoningOptions) -> Self {
        self.reasoning = Some(reasoning);
        self
    }

    /// With a key of the vendor's own in the body.
    #[must_use]
    pub fn with_extra(mut self, key: impl Into<String>, value: impl Into<Value>) -> Self {
        self.extra.insert(key.into(), value.into());
        self
    }

    /// Merges the vendor's own keys into a body, objects into objects.
    pub(crate) fn merge_extra(&self, body: &mut Map<String, Value>) {
        merge(body, &self.extra);
    }

    /// This request without what `provider` cannot do, where that is wished.
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`] where it is not.
    pub(crate) fn supported(&self, provider: &str, capabilities: &Capabilities) -> Result<Cow<'_, Self>> {
        let mut request = Cow::Borrowed(self);
        for feature in self.features() {
            if capabilities.has(feature) {
                continue;
            }
            // An answer without log-probabilities, tools or the schema is not a worse answer, it is another one.
            if self.on_unsupported == OnUnsupported::Refuse || !request.to_mut().drop_feature(feature) {
                return Err(Error::Unsupported { provider: provider.to_owned(), feature });
            }
        }
        Ok(request)
    }

    /// What this request needs.
    fn features(&self) -> Vec<Feature> {
        let forced = self.tool_choice.as_ref().is_some_and(|choice| *choice != ToolChoice::Auto);
        let wanted = [
            (Feature::TopK, self.top_k.is_some()),
            (Feature::Seed, self.seed.is_some()),
            (Feature::Stop, !self.stop.is_empty()),
            (Feature::Penalties, self.presence_penalty.is_some() || self.frequency_penalty.is_some()),
            (Feature::LogProbs, self.log_probs.is_some()),
            (Feature::JsonObject, self.output == OutputFormat::JsonObject),
            (Feature::JsonSchema, matches!(self.output, OutputFormat::JsonSchema(_))),
            (Feature::Tools, !self.tools.is_empty()),
            (Feature::ToolChoice, forced),
            (Feature::ParallelToolCalls, self.parallel_tool_calls.is_some()),
            (Feature::Reasoning, self.reasoning.is_some()),
        ];
        wanted.into_iter().filter_map(|(feature, wanted)| wanted.then_some(feature)).collect()
    }

    /// Takes out what a request can do without; false where it cannot.
    fn drop_feature(&mut self, feature: Feature) -> bool {
        match feature {
            Feature::TopK => self.top_k = None,
            Feature::Seed => self.seed = None,
            Feature::Stop => self.stop.clear(),
            Feature::Penalties => (self.presence_penalty, self.frequency_penalty) = (None, None),
            Feature::ToolChoice => self.tool_choice = None,
            Feature::ParallelToolCalls => self.parallel_tool_calls = None,
            Feature::Reasoning => self.reasoning = None,
            _ => return false,
        }
        true
    }
}

fn merge(into: &mut Map<String, Value>, from: &Map<String, Value>) {
    for (key, value) in from {
        match (into.get_mut(key), value) {
            (Some(Value::Object(old)), Value::Object(new)) => merge(old, new),
            _ => {
                into.insert(key.clone(), value.clone());
            }
        }
    }
}

/// What to do about a setting that the vendor does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnUnsupported {
    /// A typed error before anything is sent.
    #[default]
    Refuse,
    /// Leave the setting out: sampling settings, stop texts, the choice of tools, reasoning. Log-probabilities, tools and schemas are
    /// refused even then.
    Drop,
}

/// The form of the answer.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum OutputFormat {
    /// Text.
    #[default]
    Text,
    /// Any JSON object. OpenAI wants the word JSON in the prompt.
    JsonObject,
    /// JSON of this schema. Providers take out the keywords their vendor refuses.
    JsonSchema(JsonSchema),
}

/// A schema the answer is to follow.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct JsonSchema {
    /// A name of letters, digits, `_` and `-`.
    pub name: String,
    /// JSON Schema.
    pub schema: Value,
    /// What it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Whether the vendor is to enforce it by constrained decoding; `None`: its default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strict: Option<bool>,
}

impl JsonSchema {
    /// An enforced schema.
    pub fn new(name: impl Into<String>, schema: Value) -> Self {
        Self { name: name.into(), schema, description: None, strict: Some(true) }
    }
}

/// A tool the model may call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Tool {
    /// A function of the caller's.
    Function(FunctionTool),
    /// A tool that runs at the vendor's (a search, an interpreter), in the vendor's words.
    Vendor(Opaque),
}

/// A function of the caller's.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct FunctionTool {
    /// A name of letters, digits, `_` and `-`.
    pub name: String,
    /// What it does, for the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// JSON Schema of the arguments, an object.
    pub parameters: Value,
    /// Whether the vendor is to enforce the schema; `None`: its default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strict: Option<bool>,
    /// Asks for the prompt to be cached up to here; see [`Message::cache_breakpoint`].
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cache_breakpoint: bool,
}

impl FunctionTool {
    /// A function with a schema of its arguments.
    pub fn new(name: impl Into<String>, description: impl Into<String>, parameters: Value) -> Self {
        Self {
            name: name.into(),
            description: Some(description.into()),
            parameters,
            strict: None,
            cache_breakpoint: false,
        }
    }
}

impl From<FunctionTool> for Tool {
    fn from(tool: FunctionTool) -> Self {
        Self::Function(tool)
    }
}

/// Whether and which tools are to be called.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ToolChoice {
    /// As the model likes.
    Auto,
    /// None.
    None,
    /// At least one.
    Required,
    /// This one.
    Function(String),
}

/// How much to think before the answer.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct ReasoningOptions {
    /// How hard, in words; providers translate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub effort: Option<Effort>,
    /// At most this many tokens of reasoning (Anthropic, Gemini).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget_tokens: Option<u32>,
    /// Whether the reasoning, or a summary, is to be shown; `None`: the vendor's default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub visible: Option<bool>,
}

impl ReasoningOptions {
    /// An effort in words.
    pub fn effort(effort: Effort) -> Self {
        Self { effort: Some(effort), ..Self::default() }
    }

    /// A budget in tokens.
    pub fn budget(tokens: u32) -> Self {
        Self { budget_tokens: Some(tokens), ..Self::default() }
    }

    /// With the reasoning shown or hidden.
    #[must_use]
    pub fn visible(mut self, visible: bool) -> Self {
        self.visible = Some(visible);
        self
    }
}

/// How hard to think, in the words of the vendors together; each provider documents what it makes of those that its vendor lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Effort {
    /// Not at all.
    None,
    /// As little as possible.
    Minimal,
    /// A little.
    Low,
    /// The usual.
    Medium,
    /// Much.
    High,
    /// More.
    XHigh,
    /// As much as possible.
    Max,
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("model", &self.model)
            .field("messages", &self.messages)
            .field("features", &self.features())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for JsonSchema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.name)
    }
}

impl fmt::Debug for FunctionTool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.name)
    }
}
