//! What pages load: a stylesheet and an icon, at paths that change with them, so that browsers keep them.

use std::sync::LazyLock;

use axum::extract::Path;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use sha2::{Digest as _, Sha256};

/// A file that pages load.
struct Asset {
    /// Its name, with a part that changes with what is in it.
    name: String,
    media_type: &'static str,
    text: &'static str,
}

static STYLE: LazyLock<Asset> =
    LazyLock::new(|| asset("style", "css", "text/css; charset=utf-8", include_str!("style.css")));
static ICON: LazyLock<Asset> =
    LazyLock::new(|| asset("icon", "svg", "image/svg+xml", include_str!("icon.svg")));

fn asset(stem: &str, ending: &str, media_type: &'static str, text: &'static str) -> Asset {
    let mut name = format!("{stem}-");
    for byte in Sha256::digest(text.as_bytes()).iter().take(8) {
        name.push_str(&format!("{byte:02x}"));
    }
    Asset { name: format!("{name}.{ending}"), media_type, text }
}

/// Returns the path, from the console's root on, of the stylesheet.
pub(super) fn style() -> String {
    format!("assets/{}", STYLE.name)
}

/// Returns the path, from the console's root on, of the icon.
pub(super) fn icon() -> String {
    format!("assets/{}", ICON.name)
}

/// Serves an asset.
pub(super) async fn serve(Path(name): Path<String>) -> Response {
    let Some(asset) = [&*STYLE, &*ICON].into_iter().find(|asset| asset.name == name) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let headers = [
        (header::CONTENT_TYPE, asset.media_type),
        (header::CACHE_CONTROL, "public, max-age=31536000, immutable"),
    ];
    (headers, asset.text).into_response()
}
