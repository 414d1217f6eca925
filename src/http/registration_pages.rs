//! The pages that a buyer's browser shows at the redirect: plain text, two links, no script.

use axum::http::{HeaderValue, header};
use axum::response::{Html, IntoResponse, Response};

use super::Seller;

/// AWS's page of a buyer's subscriptions.
const SUBSCRIPTIONS: &str = "https://console.aws.amazon.com/marketplace/home#/subscriptions";

/// The next step that a page offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NextStep {
    /// Come from AWS again, with a new token.
    ReturnToAws,
    /// Try again later.
    TryAgain,
}

/// Renders a page with a message and the next step.
pub(super) fn page(seller: &Seller, message: &str, next: NextStep) -> Response {
    let name = seller.name.as_deref().unwrap_or("the seller");
    let next = match next {
        NextStep::ReturnToAws => format!(
            "Please go to <a href=\"{SUBSCRIPTIONS}\" rel=\"noreferrer\">your subscriptions on AWS Marketplace</a>, choose the product, and choose \u{201c}Set up your account\u{201d} there."
        ),
        NextStep::TryAgain => "Please try again in a minute.".to_owned(),
    };
    let help = seller.link().map_or_else(String::new, |link| {
        let (link, name) = (escape(link.as_str()), escape(name));
        format!("<p>For help, or if you have an account already: <a href=\"{link}\" rel=\"noreferrer\">{name}</a>.</p>\n")
    });
    let title = escape(seller.name.as_deref().unwrap_or("Sign-up"));
    let message = escape(message);
    let text = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><title>{title}</title></head>\n<body>\n<h1>{title}</h1>\n<p>{message}</p>\n<p>{next}</p>\n{help}</body>\n</html>\n"
    );
    let mut response = Html(text).into_response();
    let headers = response.headers_mut();
    let nothing = "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(nothing));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// Escapes text for HTML, in elements and in attributes.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn shown(seller: &Seller, next: NextStep) -> String {
        let page = page(seller, "Nothing <b>came</b>.", next).into_body();
        let bytes = axum::body::to_bytes(page, 100_000).await.unwrap();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    #[tokio::test]
    async fn a_page_names_the_seller_and_nothing_in_it_is_run() {
        let seller = Seller {
            name: Some("A & B <script>alert(\"1\")</script> 'Ltd'".into()),
            support_url: Some("https://example.com/help?a=1&b='\"><script>".parse().unwrap()),
            sign_up: None,
        };
        let page = shown(&seller, NextStep::ReturnToAws).await;
        assert!(page.contains("A &amp; B &lt;script&gt;alert(&quot;1&quot;)"), "{page}");
        assert!(page.contains("href=\"https://example.com/help?a=1&amp;b="), "{page}");
        assert!(page.contains("Nothing &lt;b&gt;came"), "{page}");
        assert!(page.contains("console.aws.amazon.com/marketplace"), "{page}");
        assert!(!page.contains("<script") && !page.contains("<b>"), "{page}");
    }

    #[tokio::test]
    async fn where_no_name_is_set_the_sign_up_page_s_site_is_the_seller_s() {
        let nobody = Seller::default();
        let page = shown(&nobody, NextStep::TryAgain).await;
        assert!(page.contains("try again in a minute") && !page.contains("href"), "{page}");
        let sign_up = Some("https://app.example.com:8443/welcome?from=aws".parse().unwrap());
        let page = shown(&Seller { sign_up, ..nobody }, NextStep::TryAgain).await;
        assert!(page.contains("<a href=\"https://app.example.com:8443/\""), "{page}");
        assert!(page.contains(">the seller</a>"), "{page}");
    }
}
