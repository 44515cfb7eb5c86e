//! The smallest logs, and logs of non-ASCII text.
//!
//! Why: tiny logs show the cost per record; text in many scripts takes the UTF-8 path of every encoder.
//! Invariants: both are valid UTF-8 without control characters.   Bounds: tiny about 30 bytes, utf8 about 300 a log.
//! Driven by: `Payload::group`.   Spec: none.

use rand::Rng as _;
use rand_chacha::ChaCha8Rng;

use super::access::pick;
use super::builder::GroupBuilder;
use super::schema::LogGroup;
use super::{Range, time_of};

pub(super) fn tiny(rng: &mut ChaCha8Rng, range: Range) -> LogGroup {
    let mut group = GroupBuilder::new(range.count, 2, 16);
    for seq in range.seqs() {
        group
            .log(time_of(seq), None)
            .seq(seq)
            .put_fmt("m", format_args!("{}", rng.random_range(0..1000_u32)));
    }
    group.finish().placed("tiny", "192.0.2.1")
}

pub(super) fn utf8(rng: &mut ChaCha8Rng, range: Range) -> LogGroup {
    let mut group = GroupBuilder::new(range.count, 5, 300);
    for seq in range.seqs() {
        group.log(time_of(seq), Some(rng.random_range(0..1_000_000_000))).seq(seq);
        group
            .put("消息", pick(rng, &SENTENCES))
            .put("пользователь", pick(rng, &["Алиса", "Боб", "Ёжик", "Злата"]))
            .put("städte", pick(rng, &["Köln", "München", "Zürich", "Malmö"]))
            .put_fmt(
                "emoji",
                format_args!("{}{}", pick(rng, &["🦀", "👩‍🔧", "🇨🇳", "e\u{301}"]), rng.random_range(0..10_u32)),
            );
    }
    group.finish().placed("多语言", "主机-01").tagged("__path__", "/var/log/приложение.log")
}

const SENTENCES: [&str; 5] = [
    "异常登录-ECS异地登录:用户从未知位置登录,请核实",
    "Apache 路径穿越命令执行,规则编号一〇〇〇〇一",
    "Соединение отклонено: неверный пароль пользователя",
    "تم رفض الاتصال من العنوان المجهول",
    "接続が拒否されました。もう一度お試しください 🙏",
];
