//! The addresses of forms, as a browser loads them that was told to load the page anew: each leads to the page that its form
//! is on.

use axum::Router;
use axum::extract::{Extension, Request};
use axum::response::IntoResponse as _;
use axum::routing::get;

use super::parts::go;
use super::session::Visitor;
use super::{ACTIONS, ADMINISTRATION, PAGES, Page, SANDBOX, SANDBOX_ACTIONS};
use crate::http::{ApiState, browser, no_such_method};

/// Returns the ways back from forms, and from those of the sandbox.
pub(super) fn routes() -> (Router<ApiState>, Router<ApiState>) {
    (ways(ACTIONS.iter().chain(ADMINISTRATION)), ways(SANDBOX_ACTIONS))
}

fn ways<'a>(forms: impl IntoIterator<Item = &'a Page>) -> Router<ApiState> {
    let ways = forms.into_iter().filter_map(|(form, _)| Some((*form, up(form)?)));
    ways.fold(Router::new(), |all, (form, up)| {
        let back = async move |Extension(visitor): Extension<Visitor>, request: Request| {
            // A program is told what is wrong.
            if !browser::wants_page(&request) {
                return no_such_method(&request).into_response();
            }
            go(&visitor, above(request.uri().path(), up))
        };
        all.route(form, get(back))
    })
}

/// Returns by how many parts a form's path is longer than that of the page which it is on; none where its own is a page's.
fn up(form: &str) -> Option<usize> {
    let is_page = |path: &str| PAGES.iter().chain(SANDBOX).any(|(page, _)| *page == path);
    if is_page(form) {
        return None;
    }
    let parts = form.matches('/').count();
    // A path of one part that is no form's page is a page of its own.
    (1..parts).find(|up| is_page(above(form, *up)))
}

/// Returns a path without so many of its last parts.
fn above(path: &str, up: usize) -> &str {
    let ends = path.rmatch_indices('/').map(|(place, _)| place).nth(up - 1);
    match ends {
        Some(place) if place > 0 => &path[..place],
        _ => "/",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_has_a_page_above_it() {
        let forms = ACTIONS.iter().chain(ADMINISTRATION).chain(SANDBOX_ACTIONS);
        let is_page = |path: &str| PAGES.iter().chain(SANDBOX).any(|(page, _)| *page == path);
        for (form, _) in forms {
            assert!(is_page(form) || up(form).is_some() || *form == "/settings", "{form}");
        }
        for (form, page) in [
            ("/plans/{id}/entitlements/remove", "/plans/{id}"),
            ("/metering/records/{id}/resolve", "/metering/records/{id}"),
            ("/sandbox/faults/clear", "/sandbox"),
            ("/events/test", "/events"),
        ] {
            assert_eq!(above(form, up(form).unwrap()), page);
        }
    }
}
