//! The queue of buyers to look at: who is due, who is being looked at, and how the last look ended.
//!
//! It imports the base and the engine.
//!
//! - A buyer that was marked while somebody looked at it is looked at again.
//! - A look that failed is put off, longer each time, and never forgotten.

pub(super) mod due;
pub(super) mod state;
