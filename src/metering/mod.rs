//! Usage out: closing hours, freezing records, sending them exactly once.
