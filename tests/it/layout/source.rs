//! Just enough of Rust to see which paths a file names: words and signs with their lines, without
//! comments, texts, and modules called `tests`.

/// A file, as far as the walls are concerned.
pub(super) struct Source {
    /// The path of the file's module.
    pub(super) module: Vec<String>,
    tokens: Vec<Token>,
}

struct Token {
    line: usize,
    text: String,
    /// The inline modules around it.
    within: Vec<String>,
}

impl Source {
    /// `path` is that of the file, below `src/`.
    pub(super) fn read(path: &str, text: &str) -> Self {
        let path = path.trim_end_matches(".rs").trim_end_matches("/mod");
        let mut tokens = nest(split(text));
        tokens.retain(|token| !token.within.iter().any(|module| module == "tests"));
        Source {
            module: path.split('/').map(str::to_owned).collect(),
            tokens,
        }
    }

    /// Whether the file is a module called `tests`, or below one.
    pub(super) fn is_of_tests(&self) -> bool {
        self.module.iter().any(|module| module == "tests")
    }

    fn text(&self, at: usize) -> &str {
        self.tokens.get(at).map_or("", |token| &token.text)
    }

    /// The lines where these tokens stand in a row.
    pub(super) fn lines_with(&self, wanted: &'static [&str]) -> impl Iterator<Item = usize> {
        let windows = self.tokens.windows(wanted.len());
        let found = windows.filter(move |window| window.iter().map(|token| &token.text).eq(wanted));
        found
            .filter_map(|window| window.first())
            .map(|token| token.line)
    }

    /// Words that stand where the name of another crate can stand.
    pub(super) fn crates(&self) -> impl Iterator<Item = (usize, &str)> {
        let tokens = self.tokens.iter().enumerate();
        let named = tokens.filter(|(at, token)| {
            let before = at.checked_sub(1).map_or("", |before| self.text(before));
            is_word(&token.text) && (before == "use" || self.text(at + 1) == "::")
        });
        named.map(|(_, token)| (token.line, token.text.as_str()))
    }

    /// Every path of this crate that the file names, from the root on, each with its line. A
    /// group in braces is as many paths.
    pub(super) fn paths(&self) -> Vec<(usize, Vec<String>)> {
        let mut paths = Vec::new();
        let mut at = 0;
        while let Some(token) = self.tokens.get(at) {
            let is_inside = at
                .checked_sub(1)
                .is_some_and(|before| self.text(before) == "::");
            let mut base = match token.text.as_str() {
                "crate" if self.text(at + 1) == "::" => Vec::new(),
                "super" if self.text(at + 1) == "::" && !is_inside => {
                    let around = self.module.iter().chain(&token.within).cloned();
                    let mut around: Vec<String> = around.collect();
                    around.pop();
                    around
                }
                _ => {
                    at += 1;
                    continue;
                }
            };
            at += 2;
            while self.text(at) == "super" && self.text(at + 1) == "::" {
                base.pop();
                at += 2;
            }
            at = self.tree(at, &base, &mut paths);
        }
        paths
    }

    /// Reads the rest of a path, from `at` on, into `paths`; gives the place after it.
    fn tree(&self, mut at: usize, base: &[String], paths: &mut Vec<(usize, Vec<String>)>) -> usize {
        let mut path = base.to_vec();
        let line = self.tokens.get(at).map_or(0, |token| token.line);
        loop {
            match self.text(at) {
                "{" => {
                    at += 1;
                    while !matches!(self.text(at), "}" | "") {
                        let before = at;
                        at = self.tree(at, &path, paths);
                        while !matches!(self.text(at), "," | "}" | "") {
                            at += 1; // `as name`
                        }
                        at += usize::from(self.text(at) == "," || at == before);
                    }
                    return at + 1;
                }
                "self" => (),
                word if is_word(word) || word == "*" => path.push(word.to_owned()),
                _ => break,
            }
            at += 1;
            if self.text(at) != "::" {
                break;
            }
            at += 1;
        }
        paths.push((line, path));
        at
    }
}

fn is_word(text: &str) -> bool {
    text.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// Words and signs, with the lines they stand in.
fn split(text: &str) -> Vec<(usize, String)> {
    let mut tokens = Vec::new();
    let mut line = 1;
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let len = skipped(rest).unwrap_or_else(|| {
            let word = rest.find(|c: char| !c.is_alphanumeric() && c != '_');
            let word = word.unwrap_or(rest.len());
            let len = match word {
                0 if rest.starts_with("::") => 2,
                0 => first.len_utf8(),
                word => word,
            };
            if !first.is_whitespace() {
                tokens.push((line, rest[..len].to_owned()));
            }
            len
        });
        line += rest[..len].matches('\n').count();
        rest = &rest[len..];
    }
    tokens
}

/// How long the comment or literal is that `text` begins with, if it does.
fn skipped(text: &str) -> Option<usize> {
    let to = |end: &str, from: usize| {
        let found = text.get(from..).and_then(|rest| rest.find(end));
        Some(found.map_or(text.len(), |found| from + found + end.len()))
    };
    if text.starts_with("//") {
        return text.find('\n').or(Some(text.len()));
    }
    if text.starts_with("/*") {
        return to("*/", 2);
    }
    if let Some(raw) = text.strip_prefix('r') {
        let quoted = raw.trim_start_matches('#');
        if quoted.starts_with('"') {
            let hashes = raw.len() - quoted.len();
            return to(&format!("\"{}", "#".repeat(hashes)), 2 + hashes);
        }
    }
    let quote = text.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    let is_char = {
        let mut chars = text.chars().skip(1);
        chars.next() == Some('\\') || chars.next() == Some('\'')
    };
    if quote == '\'' && !is_char {
        return None; // A lifetime.
    }
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return Some(at + 1),
            _ => (),
        }
    }
    Some(text.len())
}

/// Tells each token the inline modules around it.
fn nest(tokens: Vec<(usize, String)>) -> Vec<Token> {
    let mut nested: Vec<Token> = Vec::with_capacity(tokens.len());
    // The module that each open brace began, if one.
    let mut braces: Vec<Option<String>> = Vec::new();
    for (line, text) in tokens {
        if text == "}" {
            braces.pop();
        }
        let within = braces.iter().flatten().cloned().collect();
        if text == "{" {
            let mut before = nested.iter().rev().map(|token| token.text.as_str());
            let name = before.next().unwrap_or_default().to_owned();
            // A macro's `mod $name {` and `mod $d name {` too.
            let mut before = before
                .take(3)
                .take_while(|text| is_word(text) || *text == "$");
            let is_module = before.any(|text| text == "mod");
            braces.push(is_module.then_some(name));
        }
        nested.push(Token { line, text, within });
    }
    nested
}
