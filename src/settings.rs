//! Settings: defaults, then a file, then the environment, into one validated struct.
