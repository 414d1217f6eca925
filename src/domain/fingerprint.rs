//! Short names for content.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};

/// Returns the first `bytes` bytes of the content's SHA-256, in hexadecimal: equal for equal content.
pub fn fingerprint(content: &str, bytes: usize) -> String {
    let digest = Sha256::digest(content.as_bytes());
    digest.iter().take(bytes).fold(String::with_capacity(bytes * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        write!(text, "{byte:02x}").ok();
        text
    })
}
