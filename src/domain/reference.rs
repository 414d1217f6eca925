//! References to registrations, which a new buyer's browser carries from AWS's redirect to the seller's sign-up page:
//! signed, so that they can be neither guessed nor made, and short-lived.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use sha2::Sha256;

/// The reason why a reference is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// It was not made here, or not like this.
    #[error("this reference was not made here")]
    Forged,
    /// Its time is over.
    #[error("this reference has expired")]
    Expired,
}

/// Writes a reference to a registration.
pub fn seal(key: &[u8], registration: &str, expires_at: Timestamp) -> String {
    let claim = format!("{registration}.{}", expires_at.as_second());
    let signature = signed(key, &claim).map(|mac| mac.finalize().into_bytes().to_vec());
    format!("{claim}.{}", URL_SAFE_NO_PAD.encode(signature.unwrap_or_default()))
}

/// Reads the registration that a reference names.
pub fn open(key: &[u8], reference: &str, now: Timestamp) -> Result<String, ReferenceError> {
    let (claim, signature) = reference.rsplit_once('.').ok_or(ReferenceError::Forged)?;
    let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| ReferenceError::Forged)?;
    let mac = signed(key, claim).ok_or(ReferenceError::Forged)?;
    mac.verify_slice(&signature).map_err(|_| ReferenceError::Forged)?;
    let (registration, expires_at) = claim.rsplit_once('.').ok_or(ReferenceError::Forged)?;
    let expires_at: i64 = expires_at.parse().map_err(|_| ReferenceError::Forged)?;
    if expires_at <= now.as_second() {
        return Err(ReferenceError::Expired);
    }
    Ok(registration.to_owned())
}

fn signed(key: &[u8], claim: &str) -> Option<Hmac<Sha256>> {
    // A key of any length will do, but of none.
    let mut mac = (!key.is_empty()).then(|| Hmac::<Sha256>::new_from_slice(key).ok()).flatten()?;
    mac.update(claim.as_bytes());
    Some(mac)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn second(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_reference_is_good_until_its_time_and_under_its_key() {
        let reference = seal(b"key", "reg_1", second(100));
        assert_eq!(open(b"key", &reference, second(99)), Ok("reg_1".into()));
        assert_eq!(open(b"key", &reference, second(100)), Err(ReferenceError::Expired));
        assert_eq!(open(b"other", &reference, second(1)), Err(ReferenceError::Forged));
        assert_eq!(
            open(b"", &seal(b"", "reg_1", second(100)), second(1)),
            Err(ReferenceError::Forged)
        );
        let longer = reference.replace(".100.", ".900.");
        assert_eq!(open(b"key", &longer, second(1)), Err(ReferenceError::Forged));
    }

    proptest! {
        #[test]
        fn nothing_else_opens(text in ".{0,80}", at in 0_usize..60, byte in any::<u8>()) {
            prop_assert_eq!(open(b"key", &text, second(0)), Err(ReferenceError::Forged));
            let mut reference = seal(b"key", "reg_1", second(100)).into_bytes();
            let at = at % reference.len();
            reference[at] ^= byte;
            if byte != 0 && let Ok(changed) = String::from_utf8(reference) {
                prop_assert!(open(b"key", &changed, second(0)).is_err());
            }
        }
    }
}
