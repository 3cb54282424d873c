//! What reading a message costs: the index alone, and the index with all that a proxy reads; beside them the floor that
//! memory sets, finding every line end of the head. Instructions: `benches/parse/instructions.rs`.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use referee::message::{Index, Message, check, parse};

#[path = "parse/view.rs"]
mod view;

fn parsing(criterion: &mut Criterion) {
    for (name, bytes) in view::MESSAGES {
        let mut group = criterion.benchmark_group(name);
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        let mut index = Index::new();
        parse(bytes, &mut index).expect("a good message");
        let head = Message::new(bytes, &index).headers_end();
        group.bench_function("line ends", |bencher| {
            bencher.iter(|| memchr::memchr_iter(b'\n', black_box(&bytes[..head])).fold(0, |sum, at| sum ^ at));
        });
        group.bench_function("index", |bencher| bencher.iter(|| parse(black_box(bytes), &mut index)));
        group.bench_function("proxy view", |bencher| {
            bencher.iter(|| {
                parse(black_box(bytes), &mut index).expect("a good message");
                view::proxy_view(Message::new(bytes, &index)).expect("a good message");
            });
        });
        group.bench_function("index and check", |bencher| {
            bencher.iter(|| {
                parse(black_box(bytes), &mut index).expect("a good message");
                check(Message::new(bytes, &index)).expect("a good message");
            });
        });
        group.finish();
    }
}

criterion_group!(benches, parsing);
criterion_main!(benches);
