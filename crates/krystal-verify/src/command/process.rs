//! A child process that reads and writes lines.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::Error;

/// Longest line taken from a program; a longer one is cut and will not parse.
const MAX_LINE: u64 = 1 << 20;
/// How long an exit status and the last of stderr are waited for, once a process is being stopped.
const GRACE: Duration = Duration::from_millis(500);

/// What came from the process.
#[derive(Debug)]
pub(super) enum Event {
    /// A line of its stdout that is not blank, and its number, from 1.
    Line(u64, Vec<u8>),
    /// Nothing until the deadline.
    Overrun,
    /// It closed its stdout.
    End,
}

/// A running program. Three threads serve its pipes, so that none of them can fill up and block; they end with the pipes.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    input: Option<Sender<String>>,
    lines: Receiver<(u64, Vec<u8>)>,
    stderr: Arc<Mutex<String>>,
    stderr_done: Receiver<()>,
    /// Whether it has replied since it was started.
    pub(super) has_replied: bool,
    is_up: bool,
}

impl Process {
    pub(super) fn start(words: &[String]) -> Result<Self, Error> {
        let program = words.first().cloned().unwrap_or_default();
        let mut command = Command::new(&program);
        command.args(words.iter().skip(1)).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut child = command.spawn().map_err(|source| Error::CommandStart { program, source })?;

        let (input, requests) = mpsc::channel::<String>();
        let stdin = child.stdin.take();
        thread::spawn(move || write_all(stdin, &requests));

        let (sender, lines) = mpsc::channel();
        let stdout = child.stdout.take();
        thread::spawn(move || each_line(stdout, |number, line| sender.send((number, line)).is_ok()));

        let stderr = Arc::new(Mutex::new(String::new()));
        let (done, stderr_done) = mpsc::channel();
        let (last, pipe) = (Arc::clone(&stderr), child.stderr.take());
        thread::spawn(move || {
            each_line(pipe, |_, line| {
                *last.lock().unwrap_or_else(PoisonError::into_inner) = String::from_utf8_lossy(&line).trim().to_owned();
                true
            });
            // Nobody listening is fine: the process was dropped.
            let _ = done.send(());
        });
        Ok(Self { child, input: Some(input), lines, stderr, stderr_done, has_replied: false, is_up: true })
    }

    /// Hands lines to the writer, which never keeps the caller waiting.
    pub(super) fn send(&self, lines: Vec<&str>) {
        if let Some(input) = &self.input {
            // A writer that is gone has met a closed pipe: the reader will see the end as well.
            let _ = input.send(lines.concat());
        }
    }

    /// The next line, or what happened instead. `None`: no deadline.
    pub(super) fn next(&mut self, deadline: Option<Instant>) -> Event {
        let received = match deadline {
            Some(deadline) => self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())),
            None => self.lines.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        match received {
            Ok((number, line)) => Event::Line(number, line),
            Err(RecvTimeoutError::Timeout) => Event::Overrun,
            Err(RecvTimeoutError::Disconnected) => Event::End,
        }
    }

    pub(super) fn is_up(&self) -> bool {
        self.is_up
    }

    /// Ends the process, with its whole group, and says how it ended. A process on its way out keeps its own status.
    pub(super) fn stop(&mut self) -> String {
        self.is_up = false;
        self.input = None;
        if matches!(self.lines.try_recv(), Err(mpsc::TryRecvError::Disconnected)) {
            self.wait_a_little();
        }
        self.kill_group();
        match self.child.wait() {
            Ok(status) => status.to_string(),
            Err(error) => format!("status unknown: {error}"),
        }
    }

    /// Waits for the process to end by itself, without reaping it: as long as it has not been reaped its group's number
    /// cannot belong to anyone else.
    fn wait_a_little(&self) {
        let start = Instant::now();
        while !self.has_ended() && start.elapsed() < GRACE {
            thread::sleep(Duration::from_millis(2));
        }
    }

    #[cfg(unix)]
    fn has_ended(&self) -> bool {
        use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
        let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) else { return true };
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        !matches!(waitid(WaitId::Pid(pid), options), Ok(None))
    }

    /// Elsewhere nothing can be asked without reaping, so that the full time is waited.
    #[cfg(not(unix))]
    fn has_ended(&self) -> bool {
        false
    }

    /// Kills whatever is left of the group: the program and all it has started that did not leave the group.
    fn kill_group(&mut self) {
        #[cfg(unix)]
        if let Some(group) = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw) {
            // No such group: everything has ended already.
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
        // An error means that it has ended already.
        let _ = self.child.kill();
    }

    /// The last line on stderr that is not blank, once the pipe is closed or a moment has passed.
    pub(super) fn last_stderr(&self) -> String {
        let _ = self.stderr_done.recv_timeout(GRACE);
        let last = self.stderr.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_empty() { "(none)".to_owned() } else { last.clone() }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.is_up {
            // Closing its input asks a well-behaved program to leave.
            self.input = None;
            self.wait_a_little();
            self.kill_group();
            // Reaps it; an error means that there is nothing to reap.
            let _ = self.child.wait();
        }
    }
}

fn write_all(stdin: Option<impl Write>, requests: &Receiver<String>) {
    let Some(mut stdin) = stdin else { return };
    for request in requests {
        if stdin.write_all(request.as_bytes()).and_then(|()| stdin.flush()).is_err() {
            return; // The program no longer reads; its end is seen on stdout.
        }
    }
}

/// Calls `take` with the number and the bytes of every line that is not blank, until the pipe ends or `take` says stop.
fn each_line(pipe: Option<impl Read>, mut take: impl FnMut(u64, Vec<u8>) -> bool) {
    let Some(pipe) = pipe else { return };
    let mut reader = BufReader::new(pipe);
    for number in 1.. {
        let mut line = Vec::new();
        match (&mut reader).take(MAX_LINE).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {
                let blank = line.iter().all(u8::is_ascii_whitespace);
                if !blank && !take(number, line) {
                    return;
                }
            }
        }
    }
}
