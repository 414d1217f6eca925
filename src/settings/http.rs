//! `[http]`: where the API listens, and to whom.

use secrecy::SecretString;

use super::layers::Layers;
use super::value::{Addresses, Connections, Listen, PathPrefix, SocketMode};
use super::{HttpSettings, tokens};

pub(super) fn read(layers: &mut Layers) -> Option<HttpSettings> {
    let listen: Option<Listen> = layers.required("http.listen");
    let inline: Option<SecretString> = layers.optional("http.token");
    let token = inline.or(layers.secret_file("http.token_file"));
    let tokens = tokens::read(layers, token.as_ref());
    let guarded = tokens::are_set(layers);
    if listen.as_ref().is_some_and(|listen| !listen.is_local()) && !guarded {
        layers.fault(
            "http.listen",
            "reaches beyond this machine: set http.token, http.token_file or [[http.tokens]], or listen on 127.0.0.1",
        );
    }
    let proxies: Option<Addresses> = layers.optional("http.trusted_proxies");
    let trusted_proxies = proxies.map(|Addresses(proxies)| proxies).unwrap_or_default();
    let connections = layers.required("http.connections").map(|Connections(count)| count);
    let socket_mode = layers.required("http.socket_mode").map(|SocketMode(mode)| mode);
    let prefix: Option<PathPrefix> = layers.optional("http.path_prefix");
    Some(HttpSettings {
        listen: listen?,
        probe_listen: layers.optional("http.probe_listen"),
        token,
        tokens,
        trusted_proxies,
        connections: connections?,
        socket_mode: socket_mode?,
        path_prefix: prefix.map(|PathPrefix(prefix)| prefix).unwrap_or_default(),
    })
}
