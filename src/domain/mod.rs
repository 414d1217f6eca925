//! The rules, pure: no I/O, no async, no clock. Time is an argument.
