//! A reward computed by any program.

mod process;
pub(crate) mod reply;
pub(crate) mod words;

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::{Error, Sample, Verdict, Verifier};
use process::{Event, Process};

/// After so many failures (ends or timeouts) without one reply between them the program is given up.
const MOST_FAILURES: u32 = 3;
/// Time a freshly started program has before the clock of its first item starts, unless said otherwise.
const DEFAULT_STARTUP: Duration = Duration::from_secs(30);

/// Scores from a program: one JSON object per line on its stdin, one per line back on its stdout.
///
/// Request: `{"id": 7, "prompt": "...", "completion": "...", "n_tokens": 12, "truncated": false, "columns": {...}}`.
/// Reply: `{"score": 0.5}`, or `{"score": null, "reason": "..."}` for no verdict. A reply may carry the request's `id`, and
/// then come in any order; without it replies answer in the order of requests. Every other key becomes an extra column.
///
/// # What happens when
/// - **The program stays up** between batches. It is started at the first batch, in its own process group.
/// - **An item overruns its deadline.** The clock of an item runs from the last reply before it (or from its batch's
///   start), so that waiting in line costs nobody. The process group is killed, that item abstains, the program is started
///   again with the items that remain. A fresh program has a start-up allowance on top for its first item.
/// - **The program ends.** It is started again; if the same item ends it twice, that item abstains.
/// - **It ends before it ever replied**, twice, or fails three times without a reply between: an error with exit status and
///   last line of stderr.
/// - **A line is not a reply**: an error with the line's number and text, since nothing it says can be trusted.
///
/// A program must answer line by line and flush its output after every line.
///
/// The program's stdin is written by a thread of its own: a program that writes before it has read everything, or reads
/// everything before it writes, does not block.
#[derive(Debug)]
pub struct Command {
    words: Vec<String>,
    timeout: Duration,
    startup: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    process: Option<Process>,
    next_id: u64,
    /// Whether any process of this program has ever replied.
    has_replied: bool,
}

impl Command {
    /// A program and its arguments. It is started when first needed.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] where `words` is empty.
    pub fn new(words: Vec<String>) -> Result<Self, Error> {
        if words.is_empty() {
            return Err(Error::InvalidParameter {
                reward: "command",
                expected: "a command line",
                found: String::new(),
            });
        }
        let timeout = Duration::from_secs_f64(crate::spec::DEFAULT_TIMEOUT);
        Ok(Self { words, timeout, startup: DEFAULT_STARTUP, state: Mutex::default() })
    }

    /// Time for one item, default 10 s.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Extra time for the first item after a start, default 30 s.
    #[must_use]
    pub fn with_startup(mut self, startup: Duration) -> Self {
        self.startup = startup;
        self
    }

    fn program(&self) -> String {
        self.words.first().cloned().unwrap_or_default()
    }
}

/// An item on its way.
struct Pending {
    id: u64,
    index: usize,
    line: String,
    /// How many processes ended while this was the oldest item.
    ends: u32,
}

/// One batch under way.
struct Batch<'a> {
    command: &'a Command,
    state: &'a mut State,
    pending: VecDeque<Pending>,
    verdicts: Vec<Option<Verdict>>,
    failures: u32,
}

impl Batch<'_> {
    fn run(mut self) -> Result<Vec<Verdict>, Error> {
        let result = self.answer_all();
        if result.is_err() {
            // Whatever is still on its way belongs to no one.
            self.state.process = None;
        }
        result?;
        Ok(self.verdicts.into_iter().map(|verdict| verdict.unwrap_or_else(|| Verdict::abstain("no reply"))).collect())
    }

    fn answer_all(&mut self) -> Result<(), Error> {
        while !self.pending.is_empty() {
            let mut process = match self.state.process.take() {
                Some(process) => process,
                None => Process::start(&self.command.words)?,
            };
            process.send(self.pending.iter().map(|item| item.line.as_str()).collect());
            let mut deadline = self.deadline(&process);
            while !self.pending.is_empty() {
                match process.next(deadline) {
                    Event::Line(number, line) => {
                        self.accept(&line, number)?;
                        process.has_replied = true;
                        deadline = self.deadline(&process);
                    }
                    Event::Overrun => {
                        self.overrun(&mut process)?;
                        break;
                    }
                    Event::End => {
                        self.ended(&mut process)?;
                        break;
                    }
                }
            }
            if process.is_up() {
                self.state.process = Some(process);
            }
        }
        Ok(())
    }

    fn deadline(&self, process: &Process) -> Option<Instant> {
        let allowance = if process.has_replied { Duration::ZERO } else { self.command.startup };
        // A deadline beyond what the clock can hold is none.
        self.command.timeout.checked_add(allowance).and_then(|time| Instant::now().checked_add(time))
    }

    fn accept(&mut self, line: &[u8], number: u64) -> Result<(), Error> {
        let malformed = |reason: String| Error::CommandOutput {
            program: self.command.program(),
            line: number,
            reason,
            text: excerpt(line),
        };
        let reply = reply::parse(line).map_err(malformed)?;
        let position = match reply.id {
            None => Some(0),
            Some(id) => self.pending.iter().position(|item| item.id == id),
        };
        let item = position.and_then(|position| self.pending.remove(position)).ok_or_else(|| {
            malformed(format!("expected the id of a waiting request, found {}", reply.id.unwrap_or_default()))
        })?;
        self.verdicts[item.index] = Some(reply.verdict);
        self.state.has_replied = true;
        self.failures = 0;
        Ok(())
    }

    fn overrun(&mut self, process: &mut Process) -> Result<(), Error> {
        process.stop();
        self.failures += 1;
        let seconds = self.command.timeout.as_secs_f64();
        if self.failures >= MOST_FAILURES {
            return Err(Error::CommandTimeout {
                program: self.command.program(),
                seconds,
                times: self.failures,
                stderr: process.last_stderr(),
            });
        }
        self.abstain_oldest(format!("reward command `{}` gave no reply within {seconds} s", self.command.program()));
        Ok(())
    }

    fn ended(&mut self, process: &mut Process) -> Result<(), Error> {
        let status = process.stop();
        let stderr = process.last_stderr();
        self.failures += 1;
        let Some(oldest) = self.pending.front_mut() else { return Ok(()) };
        oldest.ends += 1;
        let twice = oldest.ends >= 2;
        if self.failures >= MOST_FAILURES || (twice && !self.state.has_replied) {
            return Err(Error::CommandEnded { program: self.command.program(), status, stderr });
        }
        if twice {
            let program = self.command.program();
            self.abstain_oldest(format!("reward command `{program}` ended twice on this item ({status}): {stderr}"));
        }
        Ok(())
    }

    fn abstain_oldest(&mut self, reason: String) {
        if let Some(item) = self.pending.pop_front() {
            self.verdicts[item.index] = Some(Verdict::abstain(reason));
        }
    }
}

/// The beginning of a line for an error message.
fn excerpt(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    let text = text.trim_end();
    match text.char_indices().nth(120) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

impl Verifier for Command {
    fn name(&self) -> &str {
        "command"
    }

    fn verify(&self, sample: &Sample<'_>) -> Verdict {
        match self.verify_batch(&[*sample]) {
            Ok(mut verdicts) => verdicts.pop().unwrap_or_else(|| Verdict::abstain("no reply")),
            Err(error) => Verdict::abstain(error.to_string()),
        }
    }

    fn verify_batch(&self, samples: &[Sample<'_>]) -> Result<Vec<Verdict>, Error> {
        // A panic elsewhere cannot have left the state half written: it is only ever replaced whole.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let first = state.next_id;
        state.next_id += samples.len() as u64;
        let pending = samples
            .iter()
            .zip(first..)
            .enumerate()
            .map(|(index, (sample, id))| Pending { id, index, line: request(id, sample), ends: 0 })
            .collect();
        let verdicts = vec![None; samples.len()];
        Batch { command: self, state: &mut state, pending, verdicts, failures: 0 }.run()
    }
}

fn request(id: u64, sample: &Sample<'_>) -> String {
    let mut line = json!({
        "id": id,
        "prompt": sample.prompt,
        "completion": sample.completion,
        "n_tokens": sample.tokens.len(),
        "truncated": sample.truncated,
        "columns": sample.columns,
    })
    .to_string();
    line.push('\n');
    line
}
