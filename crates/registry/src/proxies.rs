//! Which proxies are believed when they say how a client sees the registry, and what they say:
//! `Forwarded` (RFC 7239), or `X-Forwarded-Host` and `X-Forwarded-Proto`. Pure.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use http::HeaderMap;
use http::header::FORWARDED;
use http::request::Parts;
use ipnet::IpNet;

/// The address of the client or proxy that sent a request.
///
/// A server that mounts a [`Registry`](super::Registry) inserts it into the extensions of the
/// request, so that a proxy among [`Options::trusted_proxies`](super::Options::trusted_proxies) is
/// recognised. Without it no forwarding header is believed. [`serve`](super::serve) does it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer(pub IpAddr);

/// An address; of IPv6 the network that one client has.
pub(super) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
        v4 => v4,
    }
}

/// The connection is encrypted. A server that ends TLS inserts it into the extensions of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Encrypted;

/// The credentials of the request cannot be read on the network. The registry inserts it into the
/// extensions of a request that is [`Encrypted`], or that a trusted proxy received encrypted, or
/// that comes from this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Confidential;

/// The name in the certificate that a client proved to have. A server that verifies certificates of
/// clients inserts it into the extensions of the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate(String);

impl ClientCertificate {
    /// A certificate of this name.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        ClientCertificate(name.into())
    }

    /// The first DNS name or URI among its subject alternative names.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0
    }
}

/// Addresses of proxies whose forwarding headers are believed.
///
/// Written as a list of addresses, networks and the words `loopback`, `private` and `none`.
/// `private` stands for the networks of RFC 1918, 4193 and 6598 and link-local addresses.
///
/// ```
/// use s3layers_registry::TrustedProxies;
///
/// let proxies: TrustedProxies = "loopback, 192.0.2.0/24, 2001:db8::1".parse()?;
/// assert!(proxies.contains("192.0.2.7".parse()?));
/// assert!(!proxies.contains("192.0.3.7".parse()?));
/// assert_eq!(TrustedProxies::default().to_string(), "loopback");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustedProxies(Vec<Network>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Network {
    Loopback,
    Private,
    Block(IpNet),
}

/// A text that is not a list of proxies.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an address, a network such as 10.0.0.0/8, loopback, private or none")]
pub struct InvalidProxies(String);

impl Default for TrustedProxies {
    /// `loopback`: a proxy on this machine. Clients, too, have private addresses.
    fn default() -> Self {
        TrustedProxies(vec![Network::Loopback])
    }
}

impl TrustedProxies {
    /// Whether this address is one of them. An IPv4 address that is mapped to IPv6 is itself.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(address))
    }
}

impl Network {
    fn contains(self, address: IpAddr) -> bool {
        match (self, address) {
            (Network::Loopback, address) => address.is_loopback(),
            (Network::Private, IpAddr::V4(v4)) => {
                let is_shared = matches!(v4.octets(), [100, 64..=127, ..]);
                v4.is_private() || v4.is_link_local() || is_shared
            }
            (Network::Private, IpAddr::V6(v6)) => {
                v6.is_unique_local() || v6.is_unicast_link_local()
            }
            (Network::Block(block), address) => block.contains(&address),
        }
    }
}

impl FromStr for Network {
    type Err = InvalidProxies;

    fn from_str(text: &str) -> Result<Self, InvalidProxies> {
        match text {
            "loopback" => return Ok(Network::Loopback),
            "private" => return Ok(Network::Private),
            _ => {}
        }
        let block = text.parse::<IpNet>();
        let block = block.or_else(|_| text.parse().map(|address: IpAddr| address.into()));
        block
            .map(Network::Block)
            .map_err(|_| InvalidProxies(text.to_owned()))
    }
}

impl FromStr for TrustedProxies {
    type Err = InvalidProxies;

    fn from_str(text: &str) -> Result<Self, InvalidProxies> {
        if text.trim() == "none" {
            return Ok(TrustedProxies(Vec::new()));
        }
        let networks = text.split(',').map(|network| network.trim().parse());
        networks.collect::<Result<_, _>>().map(TrustedProxies)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Network::Loopback => f.write_str("loopback"),
            Network::Private => f.write_str("private"),
            Network::Block(block) => block.fmt(f),
        }
    }
}

impl fmt::Display for TrustedProxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("none");
        }
        let networks: Vec<_> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&networks.join(","))
    }
}

/// The address of the client: the peer, or what trusted proxies say. Notes whether the request is
/// [`Confidential`].
pub(super) fn identify_client(parts: &mut Parts, trusted: &TrustedProxies) -> Option<Peer> {
    if parts.extensions.get::<Encrypted>().is_some() {
        parts.extensions.insert(Confidential);
    }
    let Peer(peer) = parts.extensions.get().copied()?;
    let is_from_proxy = trusted.contains(peer);
    let forwarded = ForwardedHeaders::of(&parts.headers);
    let is_confidential = match forwarded.scheme.filter(|_| is_from_proxy) {
        Some(scheme) => scheme.eq_ignore_ascii_case("https"),
        None if is_from_proxy && forwarded.is_ambiguous => false,
        None => peer.to_canonical().is_loopback(),
    };
    if is_confidential {
        parts.extensions.insert(Confidential);
    }
    if !is_from_proxy {
        return Some(Peer(peer));
    }
    // Each proxy adds the address that it saw. What stands before an untrusted or unknown address may be forged.
    let mut client = peer;
    for hop in forwarded.clients.iter().rev() {
        let Some(hop) = hop.filter(|_| trusted.contains(client)) else {
            break;
        };
        client = hop;
    }
    Some(Peer(client))
}

/// Headers of proxies that do not set `Forwarded`.
const OLDER: [&str; 3] = ["x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"];

/// How a client sees the registry, as far as a proxy says it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct ForwardedHeaders {
    pub(super) host: Option<String>,
    pub(super) scheme: Option<String>,
    /// The client and the proxies that its request passed, in this order. `None`: not an address.
    clients: Vec<Option<IpAddr>>,
    /// What the headers say could be from the client, not from the proxy.
    is_ambiguous: bool,
}

impl ForwardedHeaders {
    /// What the headers say. A proxy that adds to a list adds at its end, so the first element is
    /// from the outermost one. Nothing, where `Forwarded` stands beside an older header: a proxy sets only one kind, and
    /// passes the other as the client sent it. Nothing, too, where a quote has no end: a client that leaves it open hides what
    /// a proxy has added to its line.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let has_older = OLDER.iter().any(|name| headers.contains_key(*name));
        if headers.contains_key(FORWARDED) {
            let lines = lines(headers, FORWARDED.as_str());
            if has_older || lines.iter().any(|line| is_open(line)) {
                return ForwardedHeaders {
                    is_ambiguous: true,
                    ..ForwardedHeaders::default()
                };
            }
            return ForwardedHeaders::parse(&lines);
        }
        let elements = |name| {
            let lines = lines(headers, name);
            let elements = lines.iter().flat_map(|line| line.split(','));
            let elements = elements.map(|element| element.trim().to_owned());
            elements.collect::<Vec<_>>()
        };
        let first = |name| {
            let first = elements(name).into_iter().next();
            first.filter(|first| !first.is_empty())
        };
        let [clients, host, scheme] = OLDER;
        ForwardedHeaders {
            host: first(host),
            scheme: first(scheme),
            clients: elements(clients).iter().map(|hop| address(hop)).collect(),
            is_ambiguous: false,
        }
    }

    /// The host and the scheme of the first element, and the addresses of all. What is malformed is left out.
    fn parse(lines: &[String]) -> Self {
        let mut forwarded = ForwardedHeaders::default();
        let elements = lines.iter().flat_map(|line| split(line, ','));
        for (index, element) in elements.enumerate() {
            let mut client = None;
            for pair in split(element, ';') {
                let Some((name, value)) = pair.split_once('=') else {
                    continue;
                };
                let value = unquoted(value.trim());
                match name.trim().to_ascii_lowercase().as_str() {
                    "for" => client = address(&value),
                    "host" if index == 0 => forwarded.host = Some(value),
                    "proto" if index == 0 => forwarded.scheme = Some(value),
                    _ => {}
                }
            }
            forwarded.clients.push(client);
        }
        forwarded
    }
}

/// The lines of a header: a proxy may add one of its own, and all are one list. Bytes that are not text are
/// replaced, so that such a line does not vanish.
fn lines(headers: &HeaderMap, name: &str) -> Vec<String> {
    let lines = headers.get_all(name).iter();
    let lines = lines.map(|line| String::from_utf8_lossy(line.as_bytes()).into_owned());
    lines.collect()
}

/// An address, with or without a port.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let with_port = || text.parse::<SocketAddr>().ok().map(|address| address.ip());
    let plain = text.trim_start_matches('[').trim_end_matches(']');
    plain.parse().ok().or_else(with_port)
}

/// `text` at each `separator` that is not within quotes.
fn split(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let mut quotes = Quotes::default();
    text.split(move |c| quotes.is_outside(c) && c == separator)
}

/// Whether a quoted string has no end.
fn is_open(text: &str) -> bool {
    let mut quotes = Quotes::default();
    for c in text.chars() {
        quotes.is_outside(c);
    }
    quotes.is_quoted
}

/// The quoted strings of a text that is read character by character.
#[derive(Default)]
struct Quotes {
    is_quoted: bool,
    is_escaped: bool,
}

impl Quotes {
    /// Whether the next character is outside of all quoted strings, and no quote.
    fn is_outside(&mut self, c: char) -> bool {
        let was_escaped = std::mem::take(&mut self.is_escaped);
        match c {
            _ if was_escaped => false,
            '\\' if self.is_quoted => {
                self.is_escaped = true;
                false
            }
            '"' => {
                self.is_quoted = !self.is_quoted;
                false
            }
            _ => !self.is_quoted,
        }
    }
}

/// A token, or the content of a quoted string. No host or scheme has a character that needs an
/// escape, so backslashes stay and make the value invalid.
fn unquoted(text: &str) -> String {
    let inner = text
        .strip_prefix('"')
        .and_then(|text| text.strip_suffix('"'));
    inner.unwrap_or(text).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxies_are_known_by_their_addresses() {
        for (proxies, address, want) in [
            ("loopback", "127.0.0.1", true),
            ("loopback", "::1", true),
            ("loopback", "::ffff:127.0.0.1", true),
            ("loopback", "10.0.0.1", false),
            ("private", "10.0.0.1", true),
            ("private", "172.31.0.1", true),
            ("private", "172.32.0.1", false),
            ("private", "100.64.0.1", true),
            ("private", "100.128.0.1", false),
            ("private", "169.254.1.1", true),
            ("private", "fd00::1", true),
            ("private", "fe80::1", true),
            ("private", "2001:db8::1", false),
            ("192.0.2.1", "192.0.2.1", true),
            ("192.0.2.1", "192.0.2.2", false),
            ("192.0.2.129/25", "192.0.2.200", true),
            ("192.0.2.129/25", "192.0.2.100", false),
            ("0.0.0.0/0", "203.0.113.1", true),
            ("0.0.0.0/0", "2001:db8::1", false),
            ("::/0", "2001:db8::1", true),
            ("2001:db8::/32", "2001:db8:1::1", true),
            ("2001:db8::/32", "2001:db9::1", false),
            ("none", "127.0.0.1", false),
            (" loopback , 192.0.2.1 ", "192.0.2.1", true),
        ] {
            let list: TrustedProxies = proxies.parse().unwrap();
            let address = address.parse().unwrap();
            assert_eq!(list.contains(address), want, "{proxies} {address}");
            let shown = list.to_string();
            assert_eq!(shown.parse(), Ok(list), "{shown}");
        }
        for text in [
            "",
            "x",
            "10.0.0.0/33",
            "10.0.0.0/",
            "10.0.0.0/-1",
            "none,private",
            "::/129",
        ] {
            assert!(text.parse::<TrustedProxies>().is_err(), "{text}");
        }
    }

    #[test]
    fn client_is_the_last_address_that_is_no_proxy() {
        let trusted = "loopback,192.0.2.9".parse().unwrap();
        for (lines, want) in [
            (&["203.0.113.1"][..], "203.0.113.1"),
            (&["198.51.100.1, 203.0.113.1"], "203.0.113.1"),
            // The proxy adds a line to the one that the client made up.
            (&["198.51.100.1", "203.0.113.1"], "203.0.113.1"),
            (&["203.0.113.1", "192.0.2.9"], "203.0.113.1"),
            (&["192.0.2.9", "127.0.0.2"], "192.0.2.9"),
            // A proxy that does not name the address that it saw.
            (&["198.51.100.1, unknown"], "127.0.0.1"),
            (&["198.51.100.1, unknown, 192.0.2.9"], "192.0.2.9"),
            (&["198.51.100.1, "], "127.0.0.1"),
            (&[], "127.0.0.1"),
        ] {
            let headers = lines
                .iter()
                .map(|line| ("x-forwarded-for", line.as_bytes()));
            let (client, _) = identify(headers, &trusted);
            assert_eq!(client, want, "{lines:?}");
        }
    }

    #[test]
    fn line_that_is_not_text_is_not_left_out() {
        let trusted = TrustedProxies::default();
        let line = b"\xff, 203.0.113.1";
        let (client, _) = identify([("x-forwarded-for", &line[..])], &trusted);
        assert_eq!(client, "203.0.113.1");
        let line = b"for=\"\xff\", for=203.0.113.1";
        let (client, _) = identify([("forwarded", &line[..])], &trusted);
        assert_eq!(client, "203.0.113.1");
    }

    #[test]
    fn both_kinds_of_headers_are_not_believed() {
        let trusted = TrustedProxies::default();
        let forwarded = ("forwarded", &b"for=203.0.113.9;proto=https"[..]);
        let (client, is_confidential) = identify([forwarded], &trusted);
        assert_eq!((client.as_str(), is_confidential), ("203.0.113.9", true));
        for older in [
            ("x-forwarded-for", &b"203.0.113.1"[..]),
            ("x-forwarded-proto", b"http"),
            ("x-forwarded-host", b"a"),
        ] {
            let (client, is_confidential) = identify([forwarded, older], &trusted);
            let got = (client.as_str(), is_confidential);
            assert_eq!(got, ("127.0.0.1", false), "{older:?}");
        }
    }

    #[test]
    fn each_element_of_forwarded_is_a_hop() {
        let trusted = TrustedProxies::default();
        for (line, want) in [
            ("for=198.51.100.1, for=203.0.113.1", "203.0.113.1"),
            ("for=203.0.113.1, for=127.0.0.3", "203.0.113.1"),
            ("for=198.51.100.1, for=unknown", "127.0.0.1"),
            (r#"for=198.51.100.1;x=", for=203.0.113.1"#, "127.0.0.1"),
            (r#"for=198.51.100.1;x="\", for=203.0.113.1"#, "127.0.0.1"),
            ("for=198.51.100.1, proto=https", "127.0.0.1"),
        ] {
            let (client, _) = identify([("forwarded", line.as_bytes())], &trusted);
            assert_eq!(client, want, "{line}");
        }
    }

    /// The client of a request of 127.0.0.1 with these headers, and whether it is confidential.
    fn identify<'a>(
        headers: impl IntoIterator<Item = (&'static str, &'a [u8])>,
        trusted: &TrustedProxies,
    ) -> (String, bool) {
        let mut request = http::Request::get("/v2/").extension(Peer([127, 0, 0, 1].into()));
        for (name, line) in headers {
            request = request.header(name, line);
        }
        let (mut parts, ()) = request.body(()).unwrap().into_parts();
        let Peer(client) = identify_client(&mut parts, trusted).unwrap();
        let is_confidential = parts.extensions.get::<Confidential>().is_some();
        (client.to_string(), is_confidential)
    }

    #[test]
    fn the_first_element_of_forwarded_counts() {
        for (value, host, scheme) in [
            ("host=a;proto=https", Some("a"), Some("https")),
            (
                "for=192.0.2.1;Host=\"a:5000\" ; PROTO=https",
                Some("a:5000"),
                Some("https"),
            ),
            (
                "for=\"[::1]:1\";host=a, host=b;proto=https",
                Some("a"),
                None,
            ),
            ("for=\"a,b;host=c\";host=d", Some("d"), None),
            ("for=\"\\\"\";host=d,host=e", Some("d"), None),
            ("for=_hidden", None, None),
            ("", None, None),
            ("host", None, None),
        ] {
            let got = ForwardedHeaders::parse(&[value.to_owned()]);
            assert_eq!(
                (got.host.as_deref(), got.scheme.as_deref()),
                (host, scheme),
                "{value}"
            );
        }
    }
}
