//! A quick look at what reading and relaying a message costs: the index, the index with the checks, the index with all that a
//! proxy reads, and the edits of relaying; beside them the floors that memory sets, copying the message and finding every
//! line end of its head. What gates is instructions (`benches/instructions`); how others do is in `benches/peers`.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use referee::message::edit::Editor;
use referee::message::{Index, Message, check, parse};

#[path = "parse/messages.rs"]
mod messages;
#[path = "parse/mix.rs"]
mod mix;
#[path = "parse/view.rs"]
mod view;

fn each_message(criterion: &mut Criterion) {
    for (name, bytes) in messages::MESSAGES {
        let mut group = criterion.benchmark_group(name);
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        let mut index = Index::new();
        parse(bytes, &mut index).expect("a good message");
        let head = Message::new(bytes, &index).headers_end();
        let mut copy = vec![0; bytes.len()];
        group.bench_function("copy", |bencher| {
            bencher.iter(|| black_box(&mut copy[..]).copy_from_slice(black_box(bytes)));
        });
        group.bench_function("line ends", |bencher| {
            bencher.iter(|| memchr::memchr_iter(b'\n', black_box(&bytes[..head])).fold(0, |sum, at| sum ^ at));
        });
        group.bench_function("index", |bencher| bencher.iter(|| parse(black_box(bytes), &mut index)));
        group.bench_function("index and check", |bencher| {
            bencher.iter(|| {
                parse(black_box(bytes), &mut index).expect("a good message");
                check(Message::new(bytes, &index)).expect("a good message");
            });
        });
        group.bench_function("proxy view", |bencher| bencher.iter(|| read(bytes, &mut index)));
        let (mut editor, mut out) = (Editor::new(), Vec::new());
        group.bench_function("relay edit", |bencher| {
            bencher.iter(|| {
                view::relay(Message::new(black_box(bytes), &index), &mut editor, &mut out).expect("a good message");
                black_box(&out);
            });
        });
        group.finish();
    }
}

/// Not one message that the caches and the branch predictor know by heart, but those of many calls in turn.
fn call_mix(criterion: &mut Criterion) {
    let mix = mix::CallMix::of(&messages::MESSAGES);
    let mut group = criterion.benchmark_group("call mix");
    group.throughput(Throughput::Elements(1));
    let mut index = Index::new();
    let mut messages = mix.messages().cycle();
    group.bench_function("index", |bencher| {
        bencher.iter(|| parse(black_box(messages.next().unwrap_or_default()), &mut index));
    });
    group.bench_function("proxy view", |bencher| {
        bencher.iter(|| read(messages.next().unwrap_or_default(), &mut index));
    });
    group.finish();
}

fn read(bytes: &[u8], index: &mut Index) {
    parse(black_box(bytes), index).expect("a good message");
    view::proxy_view(Message::new(bytes, index)).expect("a good message");
}

criterion_group!(benches, each_message, call_mix);
criterion_main!(benches);
