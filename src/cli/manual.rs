//! `marketd completions` and `marketd man`: what shells complete and the pages of the manual, from the same definitions as
//! `--help`.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, Command};
use clap_complete::Shell;
use serde_json::json;

use super::output::Output;

/// Prints what a shell needs to complete commands and options.
#[derive(Debug, Args)]
pub(super) struct Completions {
    /// The shell.
    shell: Shell,
}

impl Completions {
    pub(super) fn execute(self, mut command: Command) -> anyhow::Result<()> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut command, "marketd", &mut script);
        std::io::stdout().write_all(&script).context("the script could not be printed")
    }
}

/// Writes the pages of the manual into a folder: `marketd.1`, and one for each command.
#[derive(Debug, Args)]
pub(super) struct Man {
    /// The folder; it is made if there is none.
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

impl Man {
    pub(super) fn execute(self, command: Command, output: Output) -> anyhow::Result<()> {
        let Self { folder } = self;
        let refused = || format!("pages cannot be written to {}", folder.display());
        std::fs::create_dir_all(&folder).with_context(refused)?;
        let mut command = command.disable_help_subcommand(true);
        command.build();
        let mut pages = 0_usize;
        write_pages(&folder, &command, "marketd", &mut pages).with_context(refused)?;
        let said = format!("wrote {pages} pages to {}", folder.display());
        output.done(&json!({"folder": folder, "pages": pages}), &[said])
    }
}

/// Writes the page of a command, and those of the commands below it.
fn write_pages(
    folder: &Path,
    command: &Command,
    name: &str,
    pages: &mut usize,
) -> std::io::Result<()> {
    for below in command.get_subcommands() {
        write_pages(folder, below, &format!("{name}-{}", below.get_name()), pages)?;
    }
    let mut page = Vec::new();
    let man = clap_mangen::Man::new(command.clone()).title(name).manual("marketd's commands");
    man.source(concat!("marketd ", env!("CARGO_PKG_VERSION"))).render(&mut page)?;
    std::fs::write(folder.join(format!("{name}.1")), page)?;
    *pages += 1;
    Ok(())
}
