//! The `marketd` program: parse, run, exit code.

fn main() {}
