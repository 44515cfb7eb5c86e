//! The words of a query.
//!
//! Why: quoting rules live in one place: `'…'` is text, `"…"` a name, a quote inside is doubled.
//! Invariants: 1. positions count characters from 1.   Bounds: the query.   Driven by: `Program::parse`.
//! Spec: SPL's grammar of literals.

use super::Mistake;

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Word {
    /// A bare word: keyword or name.
    Bare(String),
    /// A name in double quotes.
    Name(String),
    /// Text in single quotes.
    Text(String),
    Number(String),
    /// `*` `|` `(` `)` `,` and comparisons.
    Sign(&'static str),
    End,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Token {
    pub(super) word: Word,
    pub(super) position: usize,
}

/// Longer ones first.
const SIGNS: &[&str] =
    &["!=", "<>", "<=", ">=", "==", "=", "<", ">", "*", "|", "(", ")", ",", ";", ":", "+", "/", "."];

/// Takes a query apart; the last token is `End`.
pub(super) fn tokens(text: &str) -> Result<Vec<Token>, Mistake> {
    let chars: Vec<char> = text.chars().collect();
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(&first) = chars.get(at) {
        let position = at + 1;
        if first.is_whitespace() {
            at += 1;
            continue;
        }
        let rest = chars.get(at..).unwrap_or_default();
        let digits = matches!(rest, ['-', next, ..] if next.is_ascii_digit()) || first.is_ascii_digit();
        let (word, len) = match first {
            '\'' | '"' => {
                let (inner, len) = quoted(rest, first).ok_or_else(|| Mistake {
                    position,
                    text: format!("the {first} that opens here is not closed"),
                })?;
                (if first == '"' { Word::Name(inner) } else { Word::Text(inner) }, len)
            }
            _ if digits => run(rest, |c| c.is_ascii_alphanumeric() || "-.".contains(c), Word::Number),
            _ if first == '_' || first.is_alphabetic() => {
                run(rest, |c| c == '_' || c == '-' || c.is_alphanumeric(), Word::Bare)
            }
            _ => sign(rest).ok_or_else(|| Mistake {
                position,
                text: format!("the character {first:?} is not expected"),
            })?,
        };
        tokens.push(Token { word, position });
        at += len;
    }
    tokens.push(Token { word: Word::End, position: chars.len() + 1 });
    Ok(tokens)
}

fn run(rest: &[char], belongs: impl Fn(char) -> bool, make: fn(String) -> Word) -> (Word, usize) {
    let text: String = rest.iter().take_while(|c| belongs(**c)).collect();
    let len = text.chars().count();
    (make(text), len)
}

fn sign(rest: &[char]) -> Option<(Word, usize)> {
    let begins = |sign: &str| sign.chars().eq(rest.iter().take(sign.len()).copied());
    SIGNS.iter().find(|sign| begins(sign)).map(|sign| (Word::Sign(sign), sign.len()))
}

/// What stands between quotes, and how many characters it takes with them.
fn quoted(rest: &[char], quote: char) -> Option<(String, usize)> {
    let mut inner = String::new();
    let mut at = 1;
    loop {
        let here = *rest.get(at)?;
        at += 1;
        if here == quote {
            if rest.get(at) != Some(&quote) {
                return Some((inner, at));
            }
            at += 1;
        }
        inner.push(here);
    }
}
