//! Reading and editing a message allocates nothing once buffers are warm: counted at the allocator.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::hint::black_box;

use referee::message::edit::{Editor, Response, ViaStamp, write_response};
use referee::message::properties::malformed_fields;
use referee::message::{Header, Index, Message, check, parse};

#[path = "../benches/parse/view.rs"]
mod view;

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call goes to the system's allocator unchanged; counting touches a thread-local without a destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promise about `layout` is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: `pointer` came from `alloc` or `realloc` above with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: as for `dealloc`, and the caller's promise about `size` is passed on.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations_of(work: impl FnOnce()) -> usize {
    let before = ALLOCATIONS.get();
    work();
    ALLOCATIONS.get() - before
}

#[test]
fn reading_any_message_of_a_call_allocates_nothing() {
    let mut index = Index::new();
    for (name, bytes) in view::MESSAGES {
        let count = allocations_of(|| {
            parse(bytes, &mut index).unwrap();
            let message = Message::new(bytes, &index);
            check(message).unwrap();
            view::proxy_view(message).unwrap();
            assert_eq!(malformed_fields(message), []);
        });
        assert_eq!(count, 0, "{name}");
    }
}

#[test]
fn editing_and_answering_allocate_nothing_once_warm() {
    let mut index = Index::new();
    let mut editor = Editor::new();
    let mut out = Vec::new();
    let response = Response {
        code: 100,
        reason: "Trying",
        to_tag: None,
        copy_record_route: false,
        extra: &[],
        content_type: None,
        body: b"",
    };
    let mut forward = |bytes: &[u8]| {
        parse(bytes, &mut index).unwrap();
        let message = Message::new(bytes, &index);
        let via = message.top_via().unwrap();
        let stamp = ViaStamp::of(&via, ([192, 0, 2, 1], 5060).into());
        editor.clear();
        out.clear();
        if message.is_request() {
            stamp.apply(&via, &mut editor);
            editor.insert(
                message.headers_start(),
                &[b"Via: SIP/2.0/UDP 192.0.2.9;branch=", b"z9hG4bK1", b"\r\n"],
            );
            editor.remove_first_values(message, Header::Route, 1);
            write_response(message, stamp, &response, &mut out);
        } else {
            editor.remove_first_values(message, Header::Via, 1);
        }
        if let Some(line) = message.lines_of(Header::MaxForwards).next() {
            editor.replace(line.value_span, &[b"69"]);
        }
        editor.write(message, &mut out);
        black_box(&out);
    };
    let all = |forward: &mut dyn FnMut(&[u8])| view::MESSAGES.iter().for_each(|(_, bytes)| forward(bytes));
    all(&mut forward);
    assert_eq!(allocations_of(|| all(&mut forward)), 0);
}
