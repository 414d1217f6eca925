//! The parameters of statements.

/// The parameters of a statement: by place a tuple or an array, by name what `named_params!` makes.
pub(crate) trait Params: rusqlite::Params {}

impl<P: rusqlite::Params> Params for P {}
