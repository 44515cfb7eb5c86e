//! Values that whoever looks on should not see become `***`.
//!
//! Why: a tap shows real logs, and the one who debugs a template need not read passwords. It is done here, where the
//! copy is, so that what is hidden never leaves the process.
//! Invariants: 1. what cannot be taken apart is hidden, never shown. 2. a name that was hidden somewhere is told with
//! the event ([`Rule::hidden`]), so that one which never occurs can be told too. 3. bytes that are not hidden are not
//! changed.
//! Bounds: a copy of the message; JSON is followed [`json::DEPTH_MAX`] levels down.
//! Driven by: [`super`], for every message that is shown.
//! Spec: "What tap hides" of the reference in README.md.

mod json;
mod pairs;
mod syslog;

/// The form of a pipeline's messages.
#[derive(Clone, Debug)]
pub struct Form {
    /// What a message is.
    pub message: Message,
    /// Members, parameters and keys that are made of fields: their name and their template.
    pub made: Vec<(String, String)>,
}

/// What a message is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// A HEC event; the field whose value alone is the event, where it is so.
    Hec {
        /// `event = "raw:FIELD"`.
        raw: Option<String>,
    },
    /// A syslog message.
    Syslog {
        /// RFC 5424, else 3164.
        is_5424: bool,
        /// Templates of the header fields.
        header: Vec<String>,
        /// What stands behind the header.
        body: Body,
    },
}

/// What stands behind the header of a syslog message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// An object.
    Json,
    /// `key=value`, with this text between.
    Pairs(String),
    /// CEF.
    Cef,
    /// LEEF, with this byte between its pairs.
    Leef(u8),
    /// The value of this field, or an object where a log has it not.
    Field(String),
}

/// What is hidden.
#[derive(Clone, Debug, Default)]
pub struct Rule {
    /// Every value; keys stay.
    all: bool,
    names: Vec<String>,
    /// Which of the names the last message held.
    met: Vec<bool>,
}

/// What hides a value.
const STARS: &str = "***";

impl Rule {
    /// Hides the values of these names, or of all.
    pub fn new(names: Vec<String>, all: bool) -> Self {
        let met = vec![false; names.len()];
        Self { all, names, met }
    }

    /// Whether anything is hidden.
    pub fn is_empty(&self) -> bool {
        !self.all && self.names.is_empty()
    }

    /// The names.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Hides in one message.
    pub fn apply(&mut self, form: &Form, message: &[u8]) -> String {
        self.met.fill(false);
        if self.is_empty() {
            return String::from_utf8_lossy(message).into_owned();
        }
        let text = String::from_utf8_lossy(message);
        match &form.message {
            Message::Hec { raw } => {
                let made: Vec<(String, String)> =
                    raw.iter().map(|field| ("event".to_owned(), format!("{{{field}}}"))).collect();
                let made = Made(&[form.made.as_slice(), &made].concat()).names(self);
                json::mask(&text, self, &made)
            }
            Message::Syslog { is_5424, header, body } => {
                let made = Made(&form.made).names(self);
                syslog::mask(&text, self, &syslog::Shape { is_5424: *is_5424, header, body, made: &made })
            }
        }
    }

    /// The names that were hidden in the last message.
    pub fn hidden(&self) -> impl Iterator<Item = &str> {
        self.names.iter().zip(&self.met).filter(|(_, met)| **met).map(|(name, _)| name.as_str())
    }

    /// Whether the value of this key is hidden; notes the name.
    fn hides(&mut self, key: &str, made: &[(String, usize)]) -> bool {
        let mut hides = self.all;
        for (at, name) in self.names.iter().enumerate() {
            if name == key || made.iter().any(|(of, made_of)| of == key && *made_of == at) {
                hides = true;
                if let Some(met) = self.met.get_mut(at) {
                    *met = true;
                }
            }
        }
        hides
    }

    /// Whether text that cannot be taken apart may hold a value that is to be hidden; notes the names.
    fn may_be_in(&mut self, text: &str) -> bool {
        let mut may = self.all;
        for (name, met) in self.names.iter().zip(&mut self.met) {
            if text.contains(name.as_str()) {
                (may, *met) = (true, true);
            }
        }
        may
    }

    /// Whether a field of this name is made of one that is hidden; notes the names.
    fn hides_template(&mut self, template: &str) -> bool {
        let mut hides = self.all;
        for (name, met) in self.names.iter().zip(&mut self.met) {
            if is_made_of(template, name) {
                (hides, *met) = (true, true);
            }
        }
        hides
    }
}

/// Members with their templates.
struct Made<'a>(&'a [(String, String)]);

impl Made<'_> {
    /// Which members are made of which of the names.
    fn names(&self, rule: &Rule) -> Vec<(String, usize)> {
        let of = |(at, name): (usize, &String)| {
            let members = self.0.iter().filter(|(_, template)| is_made_of(template, name));
            members.map(|(member, _)| (member.clone(), at)).collect::<Vec<_>>()
        };
        rule.names.iter().enumerate().flat_map(of).collect()
    }
}

/// Whether a template holds `{name}`, or a path with it.
fn is_made_of(template: &str, name: &str) -> bool {
    let in_braces = template.split('{').skip(1).filter_map(|part| part.split_once('}'));
    in_braces.map(|(path, _)| path).any(|path| path == name || path.split('.').any(|step| step == name))
}

#[cfg(test)]
mod tests;
