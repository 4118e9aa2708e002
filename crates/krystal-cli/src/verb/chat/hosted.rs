//! A conversation with a hosted model.

use std::collections::BTreeMap;
use std::pin::pin;

use anyhow::bail;
use futures_util::StreamExt;
use futures_util::future::{Either, select};
use krystal::llm::{BlockStart, Message, Request, Response, StopReason, StreamEvent};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::Options;
use super::conversation::{Partner, converse, is_interactive};
use crate::cli::Global;
use crate::failure::usage;
use crate::hosted::{Answer, Hosted, Spending, runtime, seed_of};
use crate::interrupt::{self, interrupted};
use crate::terminal::{self, Terminal};

pub(super) fn run(options: &Options, target: &str, global: &Global, terminal: Terminal) -> anyhow::Result<()> {
    let hosted = Hosted::connect(target, &options.hosted)?;
    let start: Vec<Message> = options.system.iter().map(|text| Message::system(text.as_str())).collect();
    let mut partner = Remote {
        runtime: runtime()?,
        request: request(&hosted, options)?,
        hosted,
        seed: global.seed,
        turns: start.clone(),
        start,
        spending: Spending::default(),
        interactive: is_interactive(terminal),
        max_cost: options.hosted.max_cost,
    };
    converse(&mut partner, terminal)?;
    let messages: Vec<Value> =
        partner.turns.iter().map(|turn| json!({ "role": turn.role, "content": turn.text() })).collect();
    let mut object = partner.spending.json();
    object.insert("messages".into(), json!(messages));
    terminal.json(&Value::Object(object));
    Ok(())
}

/// The request without what is said.
fn request(hosted: &Hosted, options: &Options) -> anyhow::Result<Request> {
    let flags = &options.generation;
    let local_only = [
        ("--min-p", flags.min_p.is_some()),
        ("--repetition-penalty", flags.repetition_penalty.is_some()),
        ("--ignore-eos", flags.ignore_eos),
    ];
    if let Some((flag, _)) = local_only.into_iter().find(|(_, given)| *given) {
        return Err(usage(format!("{flag} is for models of --model: hosted ones do not have it")));
    }
    let small = |flag: &str, value: Option<usize>| {
        let number = value.map(u32::try_from).transpose();
        number.map_err(|_| usage(format!("{flag} is beyond what servers take")))
    };
    let mut request = hosted.request(Vec::new());
    request.max_tokens = small("--max-new-tokens", flags.max_new_tokens)?;
    request.temperature = flags.temperature;
    request.top_p = flags.top_p;
    request.top_k = small("--top-k", flags.top_k)?.filter(|k| *k > 0);
    request.stop.clone_from(&flags.stop);
    Ok(request)
}

struct Remote {
    runtime: Runtime,
    hosted: Hosted,
    /// Settings of every request.
    request: Request,
    seed: u64,
    turns: Vec<Message>,
    start: Vec<Message>,
    spending: Spending,
    interactive: bool,
    max_cost: Option<f64>,
}

impl Partner for Remote {
    fn reply(&mut self, text: &str, terminal: Terminal) -> anyhow::Result<()> {
        if let Some(most) = self.max_cost.filter(|most| self.spending.cost_usd >= *most) {
            bail!("the budget of ${most} is spent: start again with a higher --max-cost");
        }
        self.turns.push(Message::user(text));
        let mut request = self.request.clone();
        request.messages.clone_from(&self.turns);
        if self.hosted.provider().capabilities().has(krystal::llm::Feature::Seed) {
            request.seed = Some(seed_of(self.seed, self.spending.answers as u64));
        }
        if self.interactive {
            interrupt::listen("");
        }
        match self.runtime.block_on(listen(&self.hosted, &request, terminal)) {
            Ok(response) => self.heard(response, terminal),
            Err(error) => {
                self.turns.pop();
                Err(error)
            }
        }
    }

    fn reset(&mut self) {
        self.turns.clone_from(&self.start);
    }

    fn listening(&self) {
        interrupt::listen("Ctrl-D or /quit ends, and so does Ctrl-C once more");
    }
}

impl Remote {
    /// Takes an answer, whole or stopped, into the conversation.
    fn heard(&mut self, response: Response, terminal: Terminal) -> anyhow::Result<()> {
        let cost = self.hosted.cost(&response.usage);
        let stopped = response.stop.reason == StopReason::Incomplete;
        let said = response.text();
        if let Ok(answer) = Answer::of("", &response, cost, 0.0) {
            self.spending.add(&answer);
        }
        let unfinished = match response.stop.reason {
            StopReason::Incomplete => " stopped",
            StopReason::Length => " cut: raise --max-new-tokens",
            StopReason::ContentFilter => " declined",
            _ => "",
        };
        if self.interactive {
            let usage = &response.usage;
            let count = |tokens: Option<u64>| tokens.map_or_else(|| "?".to_owned(), |tokens| tokens.to_string());
            let cost = cost.map_or_else(String::new, |cost| format!(", {}", crate::hosted::dollars(cost)));
            let tokens = format!("{} tokens in, {} out{cost}", count(usage.input), count(usage.output));
            let note = if stopped { unfinished.trim().to_owned() } else { format!("{tokens}{}", comma(unfinished)) };
            terminal.note(&format!("{}[{note}]", if said.is_empty() { "" } else { "\n" }));
        } else if !unfinished.is_empty() {
            terminal.note(&format!("note: the answer was{unfinished}"));
        }
        match (stopped, said.is_empty()) {
            // Nothing was said: the question may be asked again.
            (true, true) => drop(self.turns.pop()),
            // Reasoning without its signature would be refused later, and calls without results.
            (true, false) => self.turns.push(Message::assistant(said)),
            (false, _) => self.turns.push(response.message),
        }
        Ok(())
    }
}

fn comma(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!(",{text}") }
}

/// Shows an answer as it comes; Ctrl-C ends it with what has come.
async fn listen(hosted: &Hosted, request: &Request, terminal: Terminal) -> anyhow::Result<Response> {
    let mut stop = pin!(interrupted());
    let mut stream = match select(hosted.provider().stream(request), stop.as_mut()).await {
        Either::Left((stream, _)) => stream?,
        Either::Right(_) => return Ok(Response::default()),
    };
    let mut shown = Shown::new(terminal);
    loop {
        match select(stream.next(), stop.as_mut()).await {
            Either::Left((Some(Ok(event)), _)) => shown.show(&event),
            Either::Left((Some(Err(error)), _)) => {
                shown.break_off();
                return Err(error.into());
            }
            Either::Left((None, _)) | Either::Right(_) => break,
        }
    }
    shown.end();
    Ok(stream.so_far().clone())
}

/// Pieces of an answer on the screen: text as it is, reasoning dimmed and only for people.
struct Shown {
    terminal: Terminal,
    for_people: bool,
    /// What blocks are, by their number.
    blocks: BTreeMap<usize, Kind>,
    dimmed: bool,
    any: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Text,
    Reasoning,
}

impl Shown {
    fn new(terminal: Terminal) -> Self {
        let for_people = terminal::stdout_is_terminal() && !terminal.json;
        Self { terminal, for_people, blocks: BTreeMap::new(), dimmed: false, any: false }
    }

    fn show(&mut self, event: &StreamEvent) {
        match event {
            StreamEvent::BlockStart { index, block } => {
                let kind = match block {
                    BlockStart::Text | BlockStart::Refusal => Kind::Text,
                    BlockStart::Reasoning => Kind::Reasoning,
                    _ => return,
                };
                self.blocks.insert(*index, kind);
            }
            StreamEvent::BlockDelta { index, delta } => match self.blocks.get(index) {
                Some(Kind::Text) => {
                    self.end();
                    self.piece(delta);
                }
                Some(Kind::Reasoning) if self.for_people => {
                    if !self.dimmed {
                        self.terminal.piece(DIM);
                        self.dimmed = true;
                    }
                    self.piece(delta);
                }
                _ => {}
            },
            _ => {}
        }
    }

    /// Ends what is dimmed.
    fn end(&mut self) {
        if std::mem::take(&mut self.dimmed) {
            self.terminal.piece(PLAIN);
            self.terminal.piece("\n");
        }
    }

    /// Ends the line, for what is said next is an error.
    fn break_off(&mut self) {
        self.end();
        if self.any {
            self.terminal.piece("\n");
        }
    }

    fn piece(&mut self, text: &str) {
        self.any |= !text.is_empty();
        match self.for_people {
            true => self.terminal.piece(&harmless(text)),
            false => self.terminal.piece(text),
        }
    }
}

const DIM: &str = "\u{1b}[2m";
const PLAIN: &str = "\u{1b}[0m";

/// Text without the characters that command a terminal: what a server sends is not to move the cursor or set the title.
fn harmless(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && !matches!(c, '\n' | '\t') { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_commands_the_terminal() {
        assert_eq!(harmless("a\u{1b}[2Jb\nc\td\u{9b}1me\r"), "a\u{fffd}[2Jb\nc\td\u{fffd}1me\u{fffd}");
    }
}
