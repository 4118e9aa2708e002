//! A launched command with all that it starts.

use std::ffi::OsString;
use std::io;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::Ending;

/// How long a command that is being stopped may take to stop what it has started: `mpirun` alone reaches its ranks, which lead
/// groups of their own and may be on other machines.
const GRACE: Duration = Duration::from_secs(5);
/// How often the end of a process is looked for.
const PAUSE: Duration = Duration::from_millis(20);

/// A command that runs as the leader of a process group of its own.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
}

impl Process {
    /// Launches the command, which reads nothing; `quietly` shows what it prints on stderr instead of stdout.
    pub(crate) fn launch(words: &[OsString], quietly: bool) -> io::Result<Self> {
        let (program, arguments) =
            words.split_first().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "no command"))?;
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null());
        if quietly {
            command.stdout(io::stderr());
        }
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
