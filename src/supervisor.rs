//! Named, tracked tasks: a part that panics takes the process down.
