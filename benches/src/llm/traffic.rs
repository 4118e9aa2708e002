//! What the server says: an answer of 1 kB, and streams of chunks as vendors word them.

/// The text of the whole answer: with what is around it, 1 kB.
pub const ANSWER_TEXT: &str = "A call over loopback costs what the client makes of it: building the request, writing it, waiting for the \
    server, reading the answer, finding where its head ends, and turning JSON into what the caller wants. The server has the answer \
    ready and adds nothing of its own, so that what differs between two clients is theirs alone. This text is as long as it is because \
    answers of about a kilobyte are the usual ones.";

/// A stream that the server can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Traffic {
    /// Chunks with what OpenAI puts around a word.
    Realistic,
    /// Chunks with as little around a word as compatible servers put there.
    Small,
}

/// The whole answer as JSON.
pub(super) fn answer() -> String {
    format!(
        r#"{{"id":"chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT","object":"chat.completion","created":1741569952,"model":"model","choices":[{{"index":0,"message":{{"role":"assistant","content":"{ANSWER_TEXT}","refusal":null,"annotations":[]}},"logprobs":null,"finish_reason":"stop"}}],"usage":{{"prompt_tokens":19,"completion_tokens":98,"total_tokens":117,"prompt_tokens_details":{{"cached_tokens":0,"audio_tokens":0}},"completion_tokens_details":{{"reasoning_tokens":0,"audio_tokens":0,"accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}}},"service_tier":"default","system_fingerprint":null}}"#
    )
}

impl Traffic {
    /// A chunk with a word.
    fn chunk(self, word: &str) -> String {
        match self {
            Self::Realistic => format!(
                "data: {{\"id\":\"chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT\",\"object\":\"chat.completion.chunk\",\"created\":1741569952,\"model\":\"model-2024-07-18\",\"service_tier\":\"default\",\"system_fingerprint\":\"fp_44709d6fcb\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{word}\"}},\"logprobs\":null,\"finish_reason\":null}}],\"usage\":null}}\n\n"
            ),
            Self::Small => format!(
                "data: {{\"id\":\"1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{word}\"}},\"finish_reason\":null}}]}}\n\n"
            ),
        }
    }

    fn end(self) -> String {
        let last = self
            .chunk("")
            .replace("{\"content\":\"\"}", "{}")
            .replace("\"finish_reason\":null", "\"finish_reason\":\"stop\"");
        last + "data: [DONE]\n\n"
    }

    /// The events of a stream of `n_deltas` words.
    pub fn events(self, n_deltas: usize) -> Vec<String> {
        let words = (0..n_deltas).map(|i| self.chunk(WORDS[i % WORDS.len()]));
        words.chain([self.end()]).collect()
    }

    /// The text of such a stream, in bytes.
    pub fn text_len(n_deltas: usize) -> usize {
        (0..n_deltas).map(|i| WORDS[i % WORDS.len()].len()).sum()
    }
}

const WORDS: [&str; 8] = [" the", " server", " has", " it", " ready", ",", " and", " waits"];

/// The vendors whose decoders are measured.
pub const VENDORS: [&str; 4] = ["openai", "anthropic", "gemini", "ollama"];

/// A stream of `n_deltas` words as a vendor words it.
pub fn events_of(vendor: &str, n_deltas: usize) -> String {
    let words = (0..n_deltas).map(|i| WORDS[i % WORDS.len()]);
    let delta = |word: &str| match vendor {
        "anthropic" => format!(
            "event: content_block_delta\ndata: {{\"type\":\"content_block_delta\",\"index\":0,\"delta\":{{\"type\":\"text_delta\",\"text\":\"{word}\"}}}}\n\n"
        ),
        "gemini" => format!(
            "data: {{\"candidates\": [{{\"content\": {{\"parts\": [{{\"text\": \"{word}\"}}],\"role\": \"model\"}},\"index\": 0}}],\"usageMetadata\": {{\"promptTokenCount\": 19,\"candidatesTokenCount\": 98,\"totalTokenCount\": 117}},\"modelVersion\": \"model\",\"responseId\": \"mLmbaM6PM\"}}\r\n\r\n"
        ),
        "ollama" => format!(
            "{{\"model\":\"model\",\"created_at\":\"2026-01-01T00:00:00.000000000Z\",\"message\":{{\"role\":\"assistant\",\"content\":\"{word}\"}},\"done\":false}}\n"
        ),
        _ => Traffic::Realistic.chunk(word),
    };
    let (start, end) = match vendor {
        "anthropic" => (
            "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_1\",\"type\":\"message\",\"role\":\"assistant\",\"content\":[],\"model\":\"model\",\"stop_reason\":null,\"stop_sequence\":null,\"usage\":{\"input_tokens\":25,\"output_tokens\":1}}}\n\nevent: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n".to_owned(),
            "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\nevent: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\",\"stop_sequence\":null},\"usage\":{\"output_tokens\":15}}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n".to_owned(),
        ),
        "gemini" => (String::new(), delta("").replace("\"index\": 0", "\"finishReason\": \"STOP\",\"index\": 0")),
        "ollama" => (String::new(), "{\"model\":\"model\",\"created_at\":\"2026-01-01T00:00:00Z\",\"message\":{\"role\":\"assistant\",\"content\":\"\"},\"done\":true,\"done_reason\":\"stop\",\"prompt_eval_count\":19,\"eval_count\":98}\n".to_owned()),
        _ => (String::new(), Traffic::Realistic.end()),
    };
    start + &words.map(delta).collect::<String>() + &end
}
