//! Forms that were refused, as their pages show them again.
//!
//! A form that is refused is not lost. The guard has its page made anew, with the mistake in the frame: the page says at its
//! top what went wrong, beside the field too where one is at fault, and fields hold what was sent.

use std::fmt::Display;
use std::sync::Arc;

use serde::de::DeserializeOwned;

use super::wording;
use crate::http::Problem;

/// A form that was refused: what it sent, and why it was refused.
#[derive(Clone, Debug)]
pub(super) struct Mistake(Arc<Refused>);

#[derive(Debug)]
struct Refused {
    problem: Arc<Problem>,
    /// The route of the form, as the table of actions has it.
    route: String,
    fields: Vec<(String, String)>,
    /// The path that the form was sent to, from the root on, without a slash at its beginning.
    place: String,
}

impl Mistake {
    pub(super) fn new(
        problem: Arc<Problem>,
        route: String,
        fields: Vec<(String, String)>,
        place: String,
    ) -> Self {
        Self(Arc::new(Refused { problem, route, fields, place }))
    }

    /// Returns what went wrong, and what to do.
    pub(super) fn detail(&self) -> String {
        wording::said(&self.0.problem)
    }

    /// Reports whether it says this, as the API has it.
    pub(super) fn says(&self, text: &str) -> bool {
        let said = self.said().unwrap_or_default();
        self.0.problem.detail().contains(text) || (!said.is_empty() && text.contains(&said))
    }

    /// Returns the words of AWS that it is about, where it is said what they mean.
    pub(super) fn said(&self) -> Option<String> {
        self.member("said").filter(|said: &String| !said.is_empty())
    }

    /// Returns what it names that can be looked at: what it is, and its page.
    pub(super) fn named(&self) -> Option<(String, String)> {
        wording::named(&self.0.problem)
    }

    /// Returns the field that is at fault, if it is one.
    pub(super) fn field(&self) -> Option<&str> {
        self.0.problem.field()
    }

    /// Returns one of the problem's members.
    pub(super) fn member<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        self.0.problem.member(name)
    }

    /// Returns the path that the form was sent to.
    pub(super) fn place(&self) -> &str {
        &self.0.place
    }

    fn sent(&self, name: &str) -> Option<&str> {
        let field = self.0.fields.iter().find(|(field, _)| field == name);
        field.map(|(_, value)| value.as_str())
    }
}

/// A form as a page shows it: anew, or with what it sent when it was refused.
pub(super) struct Shown<'a>(Option<&'a Mistake>);

impl<'a> Shown<'a> {
    /// Makes the form of a route, as the table of actions names it.
    pub(super) fn of(mistake: Option<&'a Mistake>, route: &str) -> Self {
        Self(mistake.filter(|it| it.0.route == route))
    }

    /// Returns the same form, if what it sent is about this: a page may have a form of a route for each row.
    pub(super) fn about(&self, name: &str, value: impl AsRef<str>) -> Shown<'a> {
        Shown(self.0.filter(|it| it.sent(name) == Some(value.as_ref())))
    }

    /// Reports whether it was refused.
    pub(super) const fn failed(&self) -> bool {
        self.0.is_some()
    }

    /// Returns what a field holds: what was sent, or else a value.
    pub(super) fn value(&self, name: impl AsRef<str>, value: impl Display) -> String {
        let sent = self.0.map(|it| it.sent(name.as_ref()).unwrap_or_default().to_owned());
        sent.unwrap_or_else(|| value.to_string())
    }

    /// Reports whether a field holds a choice: that which was sent, or else the one that is chosen without it.
    pub(super) fn chose(
        &self,
        name: impl AsRef<str>,
        choice: impl Display,
        chosen: impl Display,
    ) -> bool {
        self.value(name, chosen) == choice.to_string()
    }

    /// Reports whether a box was checked when it was sent.
    pub(super) fn has(&self, name: impl AsRef<str>) -> bool {
        self.0.is_some_and(|it| it.sent(name.as_ref()).is_some())
    }

    /// Returns what is wrong with a field, if it is the one at fault.
    pub(super) fn fault(&self, name: impl AsRef<str>) -> Option<String> {
        self.0.filter(|it| it.field() == Some(name.as_ref())).map(Mistake::detail)
    }
}
