//! Precedence of what is told of a licence or an agreement: by events, by sign-up, and by the Agreement API.
//!
//! Each field goes by itself: the newest word counts, by the time of who tells it, and of two at the same time the greater.
//! What does not tell a field leaves it. So any order of the same words, and any repetition, comes to the same.
//! `store/facts/told_rows.rs` reads and writes the words.

use jiff::Timestamp;

use super::agreement::SeenAgreement;
use super::notification::{AgreedEnd, AgreementNews, LicenseChange, LicenseNews, is_over};
use super::{AccountId, AgreementId, EntityId, ProductCode};

/// A value with the time at which it was told to be so.
///
/// The order of the fields is the precedence: the time first, then the value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Told<T> {
    /// The time of the word, by who tells it.
    pub at: Timestamp,
    /// The value.
    pub value: T,
}

impl<T: Ord> Told<T> {
    /// Makes a word of a value that is told, if it is. Its time counts to the millisecond, as it is kept.
    pub fn maybe(value: Option<T>, at: Timestamp) -> Option<Self> {
        let at = Timestamp::from_millisecond(at.as_millisecond()).unwrap_or(at);
        value.map(|value| Self { at, value })
    }

    /// Makes a word that any event goes before: it has no time of its own.
    pub fn undated(value: Option<T>) -> Option<Self> {
        Self::maybe(value, Timestamp::UNIX_EPOCH)
    }
}

/// The words about a licence, and those that count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ToldLicense {
    /// The product, of which a licence has one for ever.
    pub product_code: Option<ProductCode>,
    /// The buyer's account.
    pub account_id: Option<Told<AccountId>>,
    /// The agreement that it stands on.
    pub agreement_id: Option<Told<AgreementId>>,
    /// Its last change.
    pub change: Option<Told<LicenseChange>>,
    /// The time at which it was first told to be active.
    pub first_updated_at: Option<Timestamp>,
}

impl ToldLicense {
    /// Returns the words of a licence event. Where it names no buyer, its agreement's is an undated word.
    pub fn by_event(
        news: &LicenseNews,
        product_code: &ProductCode,
        of_agreement: Option<AccountId>,
        at: Timestamp,
    ) -> Self {
        Self {
            product_code: Some(product_code.clone()),
            account_id: Told::maybe(news.account_id.clone(), at)
                .or_else(|| Told::undated(of_agreement)),
            agreement_id: Told::maybe(news.agreement_id.clone(), at),
            change: Told::maybe(Some(news.change), at),
            first_updated_at: (news.change == LicenseChange::Updated).then_some(at),
        }
    }

    /// Returns the words of one who has no time to tell: a sign-up, or a listing.
    pub fn undated(
        product_code: &ProductCode,
        account_id: Option<AccountId>,
        agreement_id: Option<AgreementId>,
    ) -> Self {
        Self {
            product_code: Some(product_code.clone()),
            account_id: Told::undated(account_id),
            agreement_id: Told::undated(agreement_id),
            ..Self::default()
        }
    }

    /// Returns these words and those together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            product_code: self.product_code.max(other.product_code),
            account_id: self.account_id.max(other.account_id),
            agreement_id: self.agreement_id.max(other.agreement_id),
            change: self.change.max(other.change),
            first_updated_at: self.first_updated_at.into_iter().chain(other.first_updated_at).min(),
        }
    }

    /// Returns these words and an agreement that AWS shows the licence to stand on. Of several that it has stood on, the
    /// last to begin counts, whatever events named since: this is AWS's answer. One whose beginning is not known is none
    /// of the later ones, nor of the earlier.
    ///
    /// `began` is the beginning of the agreement that it stands on by the words so far.
    #[must_use]
    pub fn shown_on(self, agreement: &SeenAgreement, began: Option<Timestamp>) -> Self {
        let agreement_id = match &self.agreement_id {
            Some(on) => {
                let later = began.zip(agreement.starts_at).is_some_and(|(on, it)| on < it);
                (on.value != agreement.agreement_id && later)
                    .then_some(on.at.max(agreement.starts_at.unwrap_or_default()))
            }
            None => Some(agreement.starts_at.unwrap_or_default()),
        };
        let account_id = Told::undated(agreement.account_id.clone());
        let mut told = self.and(Self { account_id, ..Self::default() });
        if let Some(at) = agreement_id {
            told.agreement_id = Some(Told { at, value: agreement.agreement_id.clone() });
        }
        told
    }
}

/// The words about an agreement, and those that count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ToldAgreement {
    /// The buyer's account.
    pub account_id: Option<AccountId>,
    /// The product's catalog id.
    pub entity_id: Option<EntityId>,
    /// The agreement that it continues.
    pub previous_agreement_id: Option<AgreementId>,
    /// The first agreement of its chain, which only the API tells.
    pub initial_agreement_id: Option<AgreementId>,
    /// The offer.
    pub offer_id: Option<Told<String>>,
    /// NEW, RENEW or REPLACE.
    pub intent: Option<Told<String>>,
    /// The time at which it starts.
    pub starts_at: Option<Told<Timestamp>>,
    /// The time at which it ends.
    pub ends_at: Option<Told<AgreedEnd>>,
    /// The status with which it ended, and when.
    pub ended: Option<Told<String>>,
}

impl ToldAgreement {
    /// Returns the words of an agreement event. An end tells no terms: what it says of them is undated.
    pub fn by_event(news: &AgreementNews, at: Timestamp) -> Self {
        let tells_terms = news.starts_at.is_some() || news.ends_at.is_some();
        let terms_at = if tells_terms { at } else { Timestamp::UNIX_EPOCH };
        // That it was amended does not tell where it came from.
        let intent = news.intent.clone().filter(|intent| intent != "AMEND");
        Self {
            account_id: news.account_id.clone(),
            entity_id: news.entity_id.clone(),
            previous_agreement_id: news.previous_agreement_id.clone(),
            initial_agreement_id: None,
            offer_id: Told::maybe(news.offer_id.clone(), terms_at),
            intent: Told::maybe(intent, terms_at),
            starts_at: Told::maybe(news.starts_at, at),
            ends_at: Told::maybe(news.ends_at, at),
            ended: Told::maybe(news.ended.clone().filter(|status| is_over(status)), at),
        }
    }

    /// Returns the words of an answer of the Agreement API. Its terms are of its last change; an end that came with the
    /// end of its term is of that time, any other of the last change.
    pub fn by_answer(seen: &SeenAgreement, asked_at: Timestamp) -> Self {
        let updated_at = seen.updated_at.unwrap_or(asked_at);
        let term_over = seen.ends_at.filter(|end| *end <= asked_at && seen.status != "CANCELLED");
        let ends_at = seen.ends_at.map_or(AgreedEnd::Open, AgreedEnd::At);
        let ended = seen.ended().map(str::to_owned);
        Self {
            account_id: seen.account_id.clone(),
            initial_agreement_id: seen.initial_agreement_id.clone(),
            offer_id: Told::maybe(seen.offer_id.clone(), updated_at),
            starts_at: Told::maybe(seen.starts_at, updated_at),
            ends_at: Told::maybe(Some(ends_at), updated_at),
            ended: Told::maybe(ended, term_over.unwrap_or(updated_at)),
            ..Self::default()
        }
    }

    /// Returns these words and those of an answer together. An end that is known keeps its time: the event that told it
    /// dates it best.
    #[must_use]
    pub fn and_answer(self, answer: Self) -> Self {
        let ended = self.ended.clone().or_else(|| answer.ended.clone());
        Self { ended, ..self.and(answer) }
    }

    /// Returns these words and those together. Whom and what an agreement is about never changes, so that these have no
    /// time; should two differ all the same, the greater counts, so that their order does not.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            account_id: self.account_id.max(other.account_id),
            entity_id: self.entity_id.max(other.entity_id),
            previous_agreement_id: self.previous_agreement_id.max(other.previous_agreement_id),
            initial_agreement_id: self.initial_agreement_id.max(other.initial_agreement_id),
            offer_id: self.offer_id.max(other.offer_id),
            intent: self.intent.max(other.intent),
            starts_at: self.starts_at.max(other.starts_at),
            ends_at: self.ends_at.max(other.ends_at),
            ended: self.ended.max(other.ended),
        }
    }
}

#[cfg(test)]
#[path = "told_tests.rs"]
mod tests;
