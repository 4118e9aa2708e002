//! Turns of a conversation, whoever answers.

use std::io::{BufRead, IsTerminal};

use anyhow::Context;

use crate::failure::one_line;
use crate::terminal::{self, Terminal};

const HELP: &str = "/reset starts anew, /quit or Ctrl-D ends, anything else is said to the model";

/// Who answers.
pub(super) trait Partner {
    /// Says `text` and shows the answer, without a line end after it. A turn that fails is as if it had not been.
    fn reply(&mut self, text: &str, terminal: Terminal) -> anyhow::Result<()>;

    /// Forgets all that was said.
    fn reset(&mut self);

    /// The prompt is shown next.
    fn listening(&self) {}
}

/// Whether a person types.
pub(super) fn is_interactive(terminal: Terminal) -> bool {
    std::io::stdin().is_terminal() && !terminal.json
}

/// Talks until there is nothing more to say.
pub(super) fn converse(partner: &mut impl Partner, terminal: Terminal) -> anyhow::Result<()> {
    let interactive = is_interactive(terminal);
    if interactive {
        terminal.note(HELP);
    }
    let mut lines = std::io::stdin().lock();
    loop {
        if interactive {
            partner.listening();
            terminal::print("> ");
        }
        let mut line = String::new();
        if lines.read_line(&mut line).context("standard input: cannot read")? == 0 {
            break;
        }
        let text = match line.trim() {
            "" => continue,
            "/quit" | "/exit" => break,
            "/reset" => {
                partner.reset();
                terminal.note("a new conversation");
                continue;
            }
            "/help" => {
                terminal.note(HELP);
                continue;
            }
            command if interactive && command.starts_with('/') => {
                terminal.note(&format!("no command `{command}`: {HELP}"));
                continue;
            }
            text => text,
        };
        match partner.reply(text, terminal) {
            Ok(()) => terminal.piece("\n"),
            // A conversation that has become too long can be started anew; a script should hear of it.
            Err(error) if interactive => {
                terminal::error_line(&format!("error: {} (try /reset)", one_line(&format!("{error:#}"))));
            }
            Err(error) => return Err(error),
        }
    }
    if interactive {
        terminal::print("\n");
    }
    Ok(())
}
