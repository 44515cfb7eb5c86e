//! SLS as the data plane sees it: shards of log groups, pulls, checkpoints.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::faults::{Dice, Plan};
use crate::net::{Answer, Request};
use crate::records;

pub struct Shard {
    pub groups: Vec<Vec<u8>>,
    /// Records before each group; the last entry is the total.
    pub before: Vec<u64>,
    /// Groups that can be read by now.
    pub readable: usize,
    /// Group that a consumer would go on with.
    pub checkpoint: usize,
}

pub struct Sls {
    pub shards: Vec<Shard>,
    base: u64,
}

impl Sls {
    pub fn new(dice: &mut Dice) -> Self {
        let shards = 1 + dice.below(3);
        let shards = (0..shards).map(|shard| Shard::new(u32::try_from(shard).unwrap(), dice)).collect();
        Self { shards, base: 1_767_322_999_000_000_000 }
    }

    pub fn records(&self) -> u64 {
        self.shards.iter().map(|shard| *shard.before.last().unwrap()).sum()
    }

    pub fn cursor(&self, group: usize) -> String {
        BASE64.encode((self.base + group as u64).to_string())
    }

    pub fn group(&self, cursor: &str) -> Option<usize> {
        let text = String::from_utf8(BASE64.decode(cursor).ok()?).ok()?;
        usize::try_from(text.parse::<u64>().ok()?.checked_sub(self.base)?).ok()
    }

    /// Answers a pull.
    pub fn answer(&self, request: &Request, plan: &Plan, dice: &mut Dice) -> Answer {
        let error = |status: u16, code: &str| {
            let body = format!(r#"{{"errorCode":"{code}","errorMessage":"simulated"}}"#);
            Answer::new(status, &[("x-log-requestid", "S1")], body.into_bytes())
        };
        if dice.strike(plan.pull_hang) {
            return Answer::hang();
        }
        if dice.strike(plan.pull_status) {
            let all = [
                (503, "ServerBusy"),
                (500, "InternalServerError"),
                (403, "ShardReadQuotaExceed"),
                (401, "SignatureNotMatch"),
                (401, "Unauthorized"),
                (404, "LogStoreNotExist"),
                (502, ""),
            ];
            let (status, code) = all[usize::try_from(dice.below(all.len() as u64)).unwrap()];
            return if code.is_empty() {
                Answer::new(status, &[], b"<html>bad gateway</html>".to_vec())
            } else {
                error(status, code)
            };
        }
        let shard: usize = request.path.rsplit('/').next().unwrap().parse().unwrap();
        let shard = &self.shards[shard];
        let Some(from) = request.query("cursor").and_then(|cursor| self.group(&cursor)) else {
            return error(400, "InvalidCursor");
        };
        let count: usize = request.query("count").unwrap().parse().unwrap();
        let end = request.query("end_cursor").and_then(|cursor| self.group(&cursor)).unwrap_or(usize::MAX);
        // The server is free to return less than was asked for.
        let cap = if dice.below(10) == 0 { 1 } else { usize::MAX };
        let to = from.saturating_add(count.min(cap)).min(shard.readable).min(end).max(from);
        // Now and then it has nothing, although there is something: its servers do not agree at every moment.
        let to = if dice.strike(plan.pull_empty) { from } else { to };
        let mut groups = shard.groups[from.min(shard.readable)..to].iter();
        let announced = groups.len();
        let corrupt = (announced > 0 && dice.strike(plan.pull_corrupt)).then(|| dice.below(4));
        if corrupt == Some(3) {
            groups.next_back();
        }
        let raw = records::list(groups);
        let mut body = if raw.is_empty() { Vec::new() } else { lz4_flex::block::compress(&raw) };
        let mut raw_size = raw.len();
        match corrupt.filter(|_| !body.is_empty()) {
            Some(0) => raw_size += 1,
            Some(1) => body.truncate(body.len() / 2),
            Some(2) => body[0] ^= 0xff,
            _ => {}
        }
        let next = self.cursor(to);
        let (raw_size, groups) = (raw_size.to_string(), announced.to_string());
        let end_flag = if to == shard.readable { "1" } else { "0" };
        let headers = [
            ("x-log-bodyrawsize", raw_size.as_str()),
            ("x-log-count", &groups),
            ("x-log-cursor", &next),
            ("x-log-compresstype", "lz4"),
            ("x-log-end-of-cursor", end_flag),
            ("x-log-requestid", "S2"),
        ];
        let mut answer = Answer::new(200, &headers, body);
        answer.torn = dice.strike(plan.pull_torn);
        if dice.strike(plan.pull_slow) {
            answer.late = dice.below(12) * 1_000_000_000;
        }
        answer
    }
}

impl Shard {
    fn new(id: u32, dice: &mut Dice) -> Self {
        let mut groups = Vec::new();
        let mut before = vec![0];
        for _ in 0..dice.below(60) {
            let count = dice.below(20);
            let first = *before.last().unwrap();
            let padding = usize::try_from(dice.below(60)).unwrap();
            groups.push(records::group(id, first, count, padding));
            before.push(first + count);
        }
        Self { groups, before, readable: 0, checkpoint: 0 }
    }
}
