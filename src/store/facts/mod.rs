//! Facts told by AWS: notifications, licences, agreements, topics, and the legacy names of buyers.
//!
//! It imports the buyers' queue and the rooms below it. Nothing here decides what a customer has.
//!
//! - A notification is kept before it is acknowledged, and taken in once.
//! - What is told late or twice changes nothing that is newer.
//! - What tells of a product that is not imported waits for its import, and is released in the import's transaction.

pub(super) mod agreements;
pub(super) mod buyer_names;
pub(super) mod discard;
pub(super) mod inbox;
pub(super) mod inbox_list;
pub(super) mod legacy_ids;
pub(super) mod licenses;
pub(super) mod listings;
pub(super) mod record;
pub(super) mod registered_licenses;
pub(super) mod release;
pub(super) mod searches;
pub(super) mod sns;
pub(super) mod told_rows;
pub(super) mod topics;
