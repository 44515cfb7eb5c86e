//! From words to commands.
//!
//! Why: what is not served is refused here with its position, and types are checked before a log is read.
//! Invariants: 1. nesting ends at `DEPTH_MAX`. 2. both sides of a comparison are text or both are numbers.
//! Bounds: as above.   Driven by: `Program::parse`.   Spec: SPL as far as `spl` says.

use super::lex::{Token, Word};
use super::{Comparison, Expr, Mistake, Operand, Step};

/// Parentheses, `not` and `cast` within each other.
pub(super) const DEPTH_MAX: usize = 64;

struct Parser<'a> {
    tokens: &'a [Token],
    at: usize,
    depth: usize,
}

/// Reads the commands of a query.
pub(super) fn steps(tokens: &[Token]) -> Result<Vec<Step>, Mistake> {
    let mut parser = Parser { tokens, at: 0, depth: 0 };
    if !parser.takes_sign("*") {
        return parser.refuse("a query begins with `*`; searching before the first pipe is not served here");
    }
    let mut steps = Vec::new();
    while parser.takes_sign("|") {
        steps.push(parser.step()?);
    }
    if *parser.peek() != Word::End {
        return parser.refuse("a pipe or the end is expected");
    }
    Ok(steps)
}

impl Parser<'_> {
    fn step(&mut self) -> Result<Step, Mistake> {
        if self.takes_word("where") {
            return Ok(Step::Where(self.any()?));
        }
        if self.takes_word("project") {
            let mut names = vec![self.name()?];
            while self.takes_sign(",") {
                names.push(self.name()?);
            }
            if matches!(self.peek(), Word::Sign("=")) {
                return self.refuse("to rename is not served here");
            }
            return Ok(Step::Project(names));
        }
        match self.peek() {
            Word::Bare(command) => {
                self.refuse(&format!("the command {command} is not served here; there are: where project"))
            }
            _ => self.refuse("a command is expected: where or project"),
        }
    }

    fn any(&mut self) -> Result<Expr, Mistake> {
        self.chain("or", Self::all, Expr::Any)
    }

    fn all(&mut self) -> Result<Expr, Mistake> {
        self.chain("and", Self::unary, Expr::All)
    }

    fn chain(
        &mut self,
        word: &str,
        part: fn(&mut Self) -> Result<Expr, Mistake>,
        make: fn(Vec<Expr>) -> Expr,
    ) -> Result<Expr, Mistake> {
        let first = part(self)?;
        if !self.is_word(word) {
            return Ok(first);
        }
        let mut parts = vec![first];
        while self.takes_word(word) {
            parts.push(part(self)?);
        }
        Ok(make(parts))
    }

    fn unary(&mut self) -> Result<Expr, Mistake> {
        if self.takes_word("not") {
            return self.deeper(|parser| Ok(Expr::Not(Box::new(parser.unary()?))));
        }
        if self.takes_sign("(") {
            return self.deeper(|parser| {
                let inner = parser.any()?;
                parser.expect_sign(")")?;
                Ok(inner)
            });
        }
        self.comparison()
    }

    fn comparison(&mut self) -> Result<Expr, Mistake> {
        let left = self.operand()?;
        let negated = self.takes_word("not");
        if self.takes_word("in") {
            let members = self.members(&left)?;
            return Ok(negate(Expr::In(left, members), negated));
        }
        if self.takes_word("like") {
            let position = self.position();
            if left.is_number() {
                return Err(Mistake { position, text: "like is for text, not for numbers".to_owned() });
            }
            return match self.next() {
                Word::Text(pattern) => Ok(negate(Expr::Like(left, pattern), negated)),
                _ => Err(Mistake { position, text: "like wants a pattern in single quotes".to_owned() }),
            };
        }
        let comparison = match self.peek() {
            Word::Sign("=") => Comparison::Equal,
            Word::Sign("!=" | "<>") => Comparison::NotEqual,
            Word::Sign("<") => Comparison::Less,
            Word::Sign("<=") => Comparison::LessOrEqual,
            Word::Sign(">") => Comparison::Greater,
            Word::Sign(">=") => Comparison::GreaterOrEqual,
            _ => return self.refuse("a comparison is expected: = != <> < <= > >= in like"),
        };
        if negated {
            return self.refuse("not stands before in, like or a whole expression");
        }
        self.at += 1;
        let position = self.position();
        let right = self.operand()?;
        check_types(&left, &right, position)?;
        Ok(Expr::Compare(left, comparison, right))
    }

    fn members(&mut self, left: &Operand) -> Result<Vec<Operand>, Mistake> {
        self.expect_sign("(")?;
        let mut members = Vec::new();
        loop {
            let position = self.position();
            let member = self.operand()?;
            if matches!(member, Operand::Field(_) | Operand::AsBigint(_) | Operand::AsDouble(_)) {
                return Err(Mistake { position, text: "in wants literals".to_owned() });
            }
            check_types(left, &member, position)?;
            members.push(member);
            if !self.takes_sign(",") {
                break;
            }
        }
        self.expect_sign(")")?;
        Ok(members)
    }

    fn operand(&mut self) -> Result<Operand, Mistake> {
        let position = self.position();
        if self.is_word("cast")
            && matches!(self.tokens.get(self.at + 1), Some(Token { word: Word::Sign("("), .. }))
        {
            self.at += 2;
            return self.deeper(Self::cast);
        }
        match self.peek().clone() {
            Word::Text(text) => {
                self.at += 1;
                Ok(Operand::Text(text))
            }
            Word::Number(text) => {
                self.at += 1;
                let bigint = text.parse().map(Operand::Bigint);
                // `1e5` and words such as `inf` are no literals of SPL.
                let is_decimal =
                    text.bytes().all(|byte| b"-.0123456789".contains(&byte)) && text.contains('.');
                bigint
                    .ok()
                    .or_else(|| text.parse().ok().filter(|_| is_decimal).map(Operand::Double))
                    .ok_or_else(|| Mistake {
                        position,
                        text: format!("{text} is neither a bigint nor a double"),
                    })
            }
            _ => {
                let name = self.name()?;
                if matches!(self.peek(), Word::Sign("(")) {
                    return Err(Mistake {
                        position,
                        text: format!("the function {name} is not served here; there is: cast"),
                    });
                }
                Ok(Operand::Field(name))
            }
        }
    }

    fn cast(&mut self) -> Result<Operand, Mistake> {
        let inner = self.operand()?;
        if !self.takes_word("as") {
            return self.refuse("`as` is expected: cast(field as bigint)");
        }
        let cast = if self.takes_word("bigint") {
            Operand::AsBigint(Box::new(inner))
        } else if self.takes_word("double") {
            Operand::AsDouble(Box::new(inner))
        } else {
            return self.refuse("a type is expected: bigint or double");
        };
        self.expect_sign(")")?;
        Ok(cast)
    }

    /// A field's name.
    fn name(&mut self) -> Result<String, Mistake> {
        match self.peek().clone() {
            Word::Bare(name) if KEYWORDS.iter().any(|word| name.eq_ignore_ascii_case(word)) => {
                self.refuse(&format!(
                    "a field is expected, not the word {name}; a field of that name needs double quotes"
                ))
            }
            Word::Bare(name) if name.contains('-') => {
                self.refuse(&format!("the field {name} needs double quotes"))
            }
            Word::Name(name) | Word::Bare(name) => {
                self.at += 1;
                Ok(name)
            }
            _ => self.refuse("a field is expected"),
        }
    }

    fn deeper<T>(&mut self, part: impl FnOnce(&mut Self) -> Result<T, Mistake>) -> Result<T, Mistake> {
        if self.depth >= DEPTH_MAX {
            return self.refuse(&format!("nested deeper than {DEPTH_MAX}"));
        }
        self.depth += 1;
        let done = part(self);
        self.depth -= 1;
        done
    }

    fn peek(&self) -> &Word {
        self.tokens.get(self.at).map_or(&Word::End, |token| &token.word)
    }

    fn next(&mut self) -> Word {
        let word = self.peek().clone();
        self.at += 1;
        word
    }

    fn position(&self) -> usize {
        self.tokens.get(self.at).or_else(|| self.tokens.last()).map_or(1, |token| token.position)
    }

    fn is_word(&self, word: &str) -> bool {
        matches!(self.peek(), Word::Bare(bare) if bare.eq_ignore_ascii_case(word))
    }

    fn takes_word(&mut self, word: &str) -> bool {
        let takes = self.is_word(word);
        self.at += usize::from(takes);
        takes
    }

    fn takes_sign(&mut self, sign: &str) -> bool {
        let takes = matches!(self.peek(), Word::Sign(here) if *here == sign);
        self.at += usize::from(takes);
        takes
    }

    fn expect_sign(&mut self, sign: &str) -> Result<(), Mistake> {
        if self.takes_sign(sign) { Ok(()) } else { self.refuse(&format!("{sign} is expected")) }
    }

    fn refuse<T>(&self, text: &str) -> Result<T, Mistake> {
        Err(Mistake { position: self.position(), text: text.to_owned() })
    }
}

/// Words that are no fields unless they stand in double quotes.
const KEYWORDS: &[&str] =
    &["and", "or", "not", "in", "like", "as", "where", "project", "is", "between", "null"];

impl Operand {
    pub(super) fn is_number(&self) -> bool {
        !matches!(self, Self::Field(_) | Self::Text(_))
    }
}

fn check_types(left: &Operand, right: &Operand, position: usize) -> Result<(), Mistake> {
    if left.is_number() == right.is_number() {
        return Ok(());
    }
    let text =
        "text cannot be compared with a number: write cast(field as bigint), or the number in single quotes";
    Err(Mistake { position, text: text.to_owned() })
}

fn negate(expr: Expr, negated: bool) -> Expr {
    if negated { Expr::Not(Box::new(expr)) } else { expr }
}
