//! Header fields that belong to one connection and not to the message (RFC 9110, 7.6.1).

use http::{
    HeaderMap,
    header::{CONNECTION, HeaderName, TE, TRAILER, TRANSFER_ENCODING, UPGRADE},
};

/// Whether the field is always hop-by-hop.
pub(crate) fn is_hop_by_hop(name: &HeaderName) -> bool {
    matches!(*name, CONNECTION | TE | TRAILER | TRANSFER_ENCODING | UPGRADE)
        || matches!(name.as_str(), "keep-alive" | "proxy-connection")
}

/// The fields that Connection names as hop-by-hop.
pub(crate) struct Nominated {
    /// Sorted, since the list may be as long as a head and is searched for each field.
    names: Vec<HeaderName>,
}

impl Nominated {
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let mut names: Vec<HeaderName> = headers
            .get_all(CONNECTION)
            .iter()
            .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
            .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
            .collect();
        names.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
        Self { names }
    }

    pub(crate) fn contains(&self, name: &HeaderName) -> bool {
        self.names.binary_search_by(|known| known.as_str().cmp(name.as_str())).is_ok()
    }
}

/// The names in `headers` that are hop-by-hop, either always or because Connection names them.
pub(crate) fn names(headers: &HeaderMap) -> Vec<HeaderName> {
    let nominated = Nominated::of(headers);
    let is_hop = |name: &&HeaderName| is_hop_by_hop(name) || nominated.contains(name);
    headers.keys().filter(is_hop).cloned().collect()
}
