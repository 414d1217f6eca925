//! The `marketd` program: parse, run, exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    marketd::cli::main()
}
