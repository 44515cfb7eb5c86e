//! Reads Rust source for the names in it, without a compiler.
//!
//! Why: a plain search finds names in comments, texts and tests, and does not see through `use a::{b, c::{d}}`.
//! Invariants: every token keeps its line. It knows the lexical rules it needs and no grammar.
//! Driven by: `tests/tidy.rs`.

/// One file, read for names.
pub(crate) struct Source {
    /// Relative to the package.
    pub(crate) path: String,
    pub(crate) text: String,
    /// Tokens of the code, without comments, literals and test modules.
    pub(crate) tokens: Vec<Token>,
    /// Every path in it, `use` groups written out: `std::time::Instant`.
    pub(crate) paths: Vec<(usize, String)>,
}

/// A word or a sign, and its line.
pub(crate) struct Token {
    pub(crate) line: usize,
    pub(crate) text: String,
}

impl Source {
    pub(crate) fn new(path: &str, text: String) -> Self {
        let tokens = without_test_items(tokens(&code_only(&text)));
        let paths = paths(&tokens);
        Self { path: path.to_owned(), text, tokens, paths }
    }

    pub(crate) fn lines(&self) -> usize {
        self.text.lines().count()
    }

    pub(crate) fn is_test(&self) -> bool {
        self.path.contains("tests/") || self.path.ends_with("/tests.rs")
    }

    /// The room of a product file that is not a test: the first name after `src/`.
    pub(crate) fn room(&self) -> Option<&str> {
        if self.is_test() || self.path == "src/lib.rs" {
            return None;
        }
        self.path.strip_prefix("src/")?.split(['/', '.']).next()
    }

    /// Where the code of this file, tests aside, names one of these paths or something inside it.
    pub(crate) fn named(&self, names: &[&str]) -> Vec<(usize, String)> {
        if self.is_test() {
            return Vec::new();
        }
        let hit = |path: &str| {
            let inside = |name: &&&str| path.strip_prefix(**name).is_some_and(|rest| rest.starts_with("::"));
            // A single name may be a variable; as the start of a path it is the crate.
            names.iter().any(|name| inside(&name) || (name.contains("::") && path == *name))
        };
        let hits = self.paths.iter().filter(|(_, path)| hit(path));
        hits.cloned().collect()
    }
}

/// The text with comments and the insides of literals blanked; every line keeps its number.
fn code_only(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < bytes.len() {
        let rest = &text[at..];
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_comment(rest)
        } else if let Some(hashes) = raw_string(rest, out.chars().next_back()) {
            let close = format!("\"{}", "#".repeat(hashes));
            let open = rest.find('"').unwrap_or(0) + 1;
            rest[open..].find(&close).map_or(rest.len(), |end| open + end + close.len())
        } else if rest.starts_with('"') {
            quoted(rest, b'"')
        } else if is_char_literal(rest) {
            quoted(rest, b'\'')
        } else {
            let c = rest.chars().next().map_or(1, char::len_utf8);
            out.push_str(&rest[..c]);
            at += c;
            continue;
        };
        out.extend(rest[..length].chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
        at += length;
    }
    out
}

fn block_comment(text: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(found) = text[at..].find(['/', '*']) {
        at += found;
        if text[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if text[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    text.len()
}

/// Number of hashes of a raw string that begins here.
fn raw_string(text: &str, before: Option<char>) -> Option<usize> {
    if before.is_some_and(|c| c.is_alphanumeric() || c == '_') {
        return None;
    }
    let rest =
        text.strip_prefix("br").or_else(|| text.strip_prefix("cr")).or_else(|| text.strip_prefix('r'))?;
    let hashes = rest.bytes().take_while(|b| *b == b'#').count();
    rest[hashes..].starts_with('"').then_some(hashes)
}

/// Length of a literal that begins and ends with `quote`, escapes minded.
fn quoted(text: &str, quote: u8) -> usize {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b if b == quote => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// `'a'` and `'\n'` are literals, `'a` is a lifetime.
fn is_char_literal(text: &str) -> bool {
    let mut chars = text.chars();
    chars.next() == Some('\'') && (chars.next() == Some('\\') || chars.next() == Some('\''))
}

fn tokens(code: &str) -> Vec<Token> {
    let mut found = Vec::new();
    for (index, line) in code.lines().enumerate() {
        let mut rest = line.trim_start();
        while let Some(first) = rest.chars().next() {
            let length = if first.is_alphanumeric() || first == '_' {
                rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len())
            } else if rest.starts_with("::") {
                2
            } else {
                first.len_utf8()
            };
            found.push(Token { line: index + 1, text: rest[..length].to_owned() });
            rest = rest[length..].trim_start();
        }
    }
    found
}

/// Drops every item behind `#[cfg(test)]`: tests may use what the code may not.
fn without_test_items(tokens: Vec<Token>) -> Vec<Token> {
    let mark = ["#", "[", "cfg", "(", "test", ")", "]"];
    let mut kept = Vec::with_capacity(tokens.len());
    let mut tokens = tokens.into_iter();
    while let Some(token) = tokens.next() {
        kept.push(token);
        if kept.len() >= mark.len() && kept[kept.len() - mark.len()..].iter().map(|t| &*t.text).eq(mark) {
            kept.truncate(kept.len() - mark.len());
            let mut depth = 0_i32;
            for token in tokens.by_ref() {
                match token.text.as_str() {
                    "{" | "(" | "[" => depth += 1,
                    "}" | ")" | "]" => depth -= 1,
                    _ => {}
                }
                if depth == 0 && (token.text == ";" || token.text == "}") {
                    break;
                }
            }
        }
    }
    kept
}

fn paths(tokens: &[Token]) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let after_name = at >= 2 && (is_name(&tokens[at - 2]) || tokens[at - 2].text == ">");
        let inside_path = at >= 1 && tokens[at - 1].text == "::" && after_name;
        at = if is_name(&tokens[at]) && !inside_path { follow(tokens, at, "", &mut found) } else { at + 1 };
    }
    found
}

/// Reads one path from its first name on, with its groups, and returns where it ends.
fn follow(tokens: &[Token], start: usize, prefix: &str, found: &mut Vec<(usize, String)>) -> usize {
    let text = |at: usize| tokens.get(at).map_or("", |token| token.text.as_str());
    let mut path = format!("{prefix}{}", text(start));
    let mut at = start + 1;
    while text(at) == "::" {
        if text(at + 1) == "{" {
            at += 2;
            while at < tokens.len() && text(at) != "}" {
                at = match text(at) {
                    "as" => at + 2,
                    _ if is_name(&tokens[at]) => follow(tokens, at, &format!("{path}::"), found),
                    _ => at + 1,
                };
            }
            return at + 1;
        }
        if text(at + 1) != "*" && !tokens.get(at + 1).is_some_and(is_name) {
            break;
        }
        path = format!("{path}::{}", text(at + 1));
        at += 2;
    }
    found.push((tokens[start].line, path));
    at
}

fn is_name(token: &Token) -> bool {
    token.text.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

#[test]
fn the_reader_sees_code_and_only_code() {
    let text = "a::b; // c::d\n/* e::f /* g */ h */ \"i::j\\\" k\" r#\"l::\"m\"# '\\'' 'n' x::<'o>::p;\n::q::{r, s::{t, u as v}, *};";
    let found: Vec<String> =
        paths(&tokens(&code_only(text))).into_iter().map(|(line, p)| format!("{line} {p}")).collect();
    assert_eq!(found, ["1 a::b", "2 x", "2 o", "3 q::r", "3 q::s::t", "3 q::s::u"]);
}
