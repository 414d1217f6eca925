//! The SQLite store: one writer thread, read connections beside it. SQL stays in here.
