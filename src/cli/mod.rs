//! The commands: one file a group, speaking to a running daemon over its HTTP API.
