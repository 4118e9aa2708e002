//! A launched command with all that it starts.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// `SIGINT`, `SIGKILL` and `SIGTERM`.
const INTERRUPT: i32 = 2;
const KILL: i32 = 9;
const TERMINATE: i32 = 15;
/// What shells and `mpirun` add to the number of a signal to make an exit code of it.
const SIGNAL_BASE: i32 = 128;
const HIGHEST_SIGNAL: i32 = 64;

/// How long a command that is being stopped may take to stop what it has started: `mpirun` alone reaches its ranks, which lead
/// groups of their own and may be on other machines.
const GRACE: Duration = Duration::from_secs(5);
/// How often the end of a process is looked for.
const PAUSE: Duration = Duration::from_millis(20);

/// How a launch ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// By itself.
    Exit(i32),
    /// By a signal, to itself or to the program that it stands for.
    Signal(i32),
    /// It was ended because nothing moved any more.
    Stalled,
}

impl Ending {
    /// Of an exit code, or else of a signal.
    pub(crate) fn of(code: Option<i32>, signal: Option<i32>) -> Self {
        match (code, signal) {
            (Some(code), _) if (1..=HIGHEST_SIGNAL).contains(&(code - SIGNAL_BASE)) => Self::Signal(code - SIGNAL_BASE),
            (Some(code), _) => Self::Exit(code),
            (None, signal) => Self::Signal(signal.unwrap_or(KILL)),
        }
    }

    /// Whether it did its work, or was asked to end.
    pub(crate) fn is_wanted(self) -> bool {
        matches!(self, Self::Exit(0) | Self::Signal(INTERRUPT | TERMINATE))
    }

    /// The exit code that tells the same.
    pub(crate) fn code(self) -> u8 {
        let code = match self {
            Self::Exit(code) => code,
            Self::Signal(signal) => SIGNAL_BASE + signal,
            Self::Stalled => SIGNAL_BASE + KILL,
        };
        u8::try_from(code).unwrap_or(1)
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exit(code) => write!(f, "ended with exit code {code}"),
            Self::Signal(signal) => write!(f, "was ended by signal {signal}"),
            Self::Stalled => f.write_str("stood still and was killed"),
        }
    }
}

/// A command that runs as the leader of a process group of its own.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
}

impl Process {
    /// Launches the command, which reads nothing and shows what it prints; `quietly` shows it on stderr instead of stdout.
    pub(crate) fn launch(words: &[OsString], quietly: bool) -> io::Result<Self> {
        let stdout = if quietly { Stdio::from(io::stderr()) } else { Stdio::inherit() };
        Self::launch_into(words, stdout, Stdio::inherit())
    }

    /// Launches the command, which reads nothing and prints to these.
    pub(crate) fn launch_into(words: &[OsString], stdout: Stdio, stderr: Stdio) -> io::Result<Self> {
        let (program, arguments) =
            words.split_first().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "no command"))?;
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(stdout).stderr(stderr);
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        Ok(Self { child: command.spawn()? })
    }

    /// Waits a moment; how it ended, if it did.
    pub(crate) fn poll(&mut self) -> io::Result<Option<Ending>> {
        thread::sleep(PAUSE);
        if !self.has_ended() {
            return Ok(None);
        }
        self.reap().map(Some)
    }

    /// Kills what is left of the group, before its number can belong to another: while the leader has not been reaped.
    fn reap(&mut self) -> io::Result<Ending> {
        self.kill_group();
        let status = self.child.wait()?;
        #[cfg(unix)]
        let signal = std::os::unix::process::ExitStatusExt::signal(&status);
        #[cfg(not(unix))]
        let signal = None;
        Ok(Ending::of(status.code(), signal))
    }

    /// Ends it and its group: by request first, then by force.
    pub(crate) fn stop(&mut self) -> io::Result<Ending> {
        self.ask_to_end();
        let started = Instant::now();
        while started.elapsed() < GRACE {
            if let Some(ending) = self.poll()? {
                return Ok(ending);
            }
        }
        self.reap()
    }

    /// Sends `SIGTERM` to the whole group.
    pub(crate) fn ask_to_end(&mut self) {
        #[cfg(unix)]
        if let Some(group) = self.group() {
            // No such group: everything has ended already.
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::TERM);
        }
        #[cfg(not(unix))]
        self.kill_group();
    }

    fn kill_group(&mut self) {
        #[cfg(unix)]
        if let Some(group) = self.group() {
            // No such group: everything has ended already.
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
        // An error means that it has ended already.
        let _ = self.child.kill();
    }

    #[cfg(unix)]
    fn group(&self) -> Option<rustix::process::Pid> {
        i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw)
    }

    /// Whether it has ended; asks without reaping.
    #[cfg(unix)]
    fn has_ended(&mut self) -> bool {
        use rustix::process::{WaitId, WaitIdOptions, waitid};
        let Some(pid) = self.group() else { return true };
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        !matches!(waitid(WaitId::Pid(pid), options), Ok(None))
    }

    #[cfg(not(unix))]
    fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }
}
