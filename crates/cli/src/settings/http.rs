//! Settings of the types of the registry.

use super::value::Kind;
use s3layers_registry::{CorsOrigins, ImmutableTags, TrustedProxies};

impl Kind for TrustedProxies {
    const EXPECTED: &str = "addresses, networks such as 10.0.0.0/8, loopback, private, with commas between them; or none";

    fn parse(text: &str) -> Option<Self> {
        text.parse().ok()
    }

    fn show(&self) -> Option<String> {
        Some(self.to_string())
    }
}

impl Kind for CorsOrigins {
    const EXPECTED: &str = "origins such as https://ui.example.com with commas between them, or *";

    fn parse(text: &str) -> Option<Self> {
        text.parse().ok()
    }

    fn show(&self) -> Option<String> {
        Some(self.to_string())
    }
}

impl Kind for ImmutableTags {
    const EXPECTED: &str = "patterns REPOSITORY:TAG such as **:v*, with commas between them";

    fn parse(text: &str) -> Option<Self> {
        text.parse().ok()
    }

    fn show(&self) -> Option<String> {
        Some(self.to_string())
    }
}
