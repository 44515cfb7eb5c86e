//! lz4 blocks that can be joined without compressing again.
//!
//! Why: a pull may ask for any range of log groups, and compressing each answer would make the emulator slower than
//! what it tests. Blocks cannot simply stand one after the other: a block ends in literals without a match, and only
//! the last sequence of a stream may.
//! So the last literals of one block and the first of the next are written as one run; all else is copied.
//! Invariants: 1. joined blocks decode to the joined contents (matches reach back inside their own block only).
//! Bounds: the sum of the blocks plus five bytes for each join.
//! Driven by: `data`, when a segment is sealed and when a pull is answered.   Spec: the lz4 block format.

/// A block and where its outer literals lie.
#[derive(Debug)]
pub(crate) struct Block {
    bytes: Vec<u8>,
    shape: Shape,
}

#[derive(Debug, Clone, Copy)]
struct Shape {
    /// First sequence: its literals.
    head: Literals,
    /// Match part of the first token.
    head_match: u8,
    /// Where the last token stands; 0 when it is the first one too.
    tail_at: usize,
    tail: Literals,
}

#[derive(Debug, Clone, Copy)]
struct Literals {
    at: usize,
    len: usize,
}

impl Block {
    /// Compresses.
    pub(crate) fn compress(raw: &[u8]) -> Self {
        let bytes = lz4_flex::block::compress(raw);
        let shape = survey(&bytes).unwrap_or(Shape {
            head: Literals { at: bytes.len(), len: 0 },
            head_match: 0,
            tail_at: 0,
            tail: Literals { at: bytes.len(), len: 0 },
        });
        Self { bytes, shape }
    }

    /// Its length.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }
}

/// Writes blocks one after the other as one block.
#[derive(Debug)]
pub(crate) struct Joiner<'a> {
    out: Vec<u8>,
    /// Literals that wait for the match that follows them.
    waiting: Vec<&'a [u8]>,
}

impl<'a> Joiner<'a> {
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        Self { out: Vec::with_capacity(bytes), waiting: Vec::new() }
    }

    /// Appends a block.
    pub(crate) fn push(&mut self, block: &'a Block) {
        let Block { bytes, shape } = block;
        let literals = |run: Literals| bytes.get(run.at..run.at + run.len).unwrap_or_default();
        self.waiting.push(literals(shape.head));
        if shape.tail_at == 0 {
            return;
        }
        self.flush(shape.head_match);
        let body = bytes.get(shape.head.at + shape.head.len..shape.tail_at).unwrap_or_default();
        self.out.extend_from_slice(body);
        self.waiting.push(literals(shape.tail));
    }

    /// The joined block.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.flush(0);
        self.out
    }

    fn flush(&mut self, match_nibble: u8) {
        let len: usize = self.waiting.iter().map(|run| run.len()).sum();
        let nibble = u8::try_from(len.min(15)).unwrap_or(15);
        self.out.push(nibble << 4 | match_nibble);
        if let Some(mut rest) = len.checked_sub(15) {
            while rest >= 255 {
                self.out.push(255);
                rest -= 255;
            }
            self.out.push(u8::try_from(rest).unwrap_or(u8::MAX));
        }
        for run in self.waiting.drain(..) {
            self.out.extend_from_slice(run);
        }
    }
}

/// Walks the sequences of a block; `None` if it is not one.
fn survey(block: &[u8]) -> Option<Shape> {
    let mut at = 0;
    let mut first = None;
    loop {
        let token_at = at;
        let token = *block.get(at)?;
        at += 1;
        let len = extended(block, &mut at, usize::from(token >> 4))?;
        let run = Literals { at, len };
        at += len;
        let (head, head_match) = *first.get_or_insert((run, token & 15));
        if at == block.len() {
            return Some(Shape { head, head_match, tail_at: token_at, tail: run });
        }
        at += 2; // offset of the match
        extended(block, &mut at, usize::from(token & 15))?;
    }
}

/// A length of 15 goes on in the following bytes, until one that is not 255.
fn extended(block: &[u8], at: &mut usize, nibble: usize) -> Option<usize> {
    let mut len = nibble;
    if nibble == 15 {
        loop {
            let more = *block.get(*at)?;
            *at += 1;
            len += usize::from(more);
            if more != 255 {
                break;
            }
        }
    }
    Some(len)
}

#[cfg(test)]
mod tests {
    use rand::{Rng as _, SeedableRng as _};

    use super::*;

    fn sample(rng: &mut rand_chacha::ChaCha8Rng) -> Vec<u8> {
        let len = match rng.random_range(0..6) {
            0 => 0,
            1 => rng.random_range(1..40),
            2 => rng.random_range(250..300),
            3 => rng.random_range(500..600),
            _ => rng.random_range(1..20_000),
        };
        if rng.random_bool(0.4) {
            return (0..len).map(|_| rng.random()).collect();
        }
        let words = [&b"GET /index.html 200 "[..], b"10.0.0.1 ", b"{\"a\":\"b\"}", b"x"];
        let mut out = Vec::new();
        while out.len() < len {
            out.extend_from_slice(words[rng.random_range(0..words.len())]);
        }
        out
    }

    #[test]
    fn joined_blocks_decode_to_the_joined_contents() {
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(4);
        for round in 0..400 {
            let parts: Vec<Vec<u8>> = (0..rng.random_range(0..6)).map(|_| sample(&mut rng)).collect();
            let blocks: Vec<Block> = parts.iter().map(|part| Block::compress(part)).collect();
            let mut joiner = Joiner::with_capacity(0);
            for block in &blocks {
                joiner.push(block);
            }
            let whole = joiner.finish();
            let want = parts.concat();
            let got = lz4_flex::block::decompress(&whole, want.len()).unwrap();
            assert_eq!(got, want, "round {round}");
            let sum: usize = blocks.iter().map(Block::len).sum();
            assert!(whole.len() <= sum + 5 * parts.len() + 1, "round {round}");
        }
    }
}
