//! Large bodies are never copied, and nothing waits for the end of a record.

mod kit;

use std::{io::IoSlice, ops::Range, task::Poll};

use bytes::{Buf, Bytes, BytesMut};
use fcgi_proto::{
    BeginRequest, ClientConfig, ClientConnection, Connection, Input, Output, Params, Role,
    ServerConfig, ServerConnection,
    record::{RecordHeader, RecordType as T},
    recv_buffer,
    server::Event,
};
use kit::*;

fn addresses(bytes: &[u8]) -> Range<usize> {
    let start = bytes.as_ptr().addr();
    start..start + bytes.len()
}

#[test]
fn a_large_write_leaves_from_where_it_was() {
    let mut config = ServerConfig::default();
    config.limits.send_high_water = 4 << 20;
    let mut server = ServerConnection::new(config);
    let (key, _) = accept(&mut server, &request(1, true, b""));
    let body = Bytes::from(vec![b'x'; 1 << 20]);
    let source = addresses(&body);
    assert_eq!(server.request(key).unwrap().write(Output::Stdout, &mut body.clone()), Ok(1 << 20));
    let queued = server.poll_transmit().unwrap();
    let mut slices = [IoSlice::new(&[]); 64];
    let n = queued.chunks_vectored(&mut slices);
    let from_source: usize = slices[..n]
        .iter()
        .filter(|slice| {
            let slice = addresses(slice);
            source.contains(&slice.start) && slice.end <= source.end
        })
        .map(|slice| slice.len())
        .sum();
    assert_eq!(from_source, 1 << 20);
    assert_eq!(queued.remaining() - from_source, 17 * 8, "the rest is headers");
}

#[test]
fn a_large_read_hands_out_slices_of_the_receive_buffer() {
    let mut server = ServerConnection::new(ServerConfig::default());
    let (key, _) = accept(&mut server, &[begin(1, 1, true), params(1, &[])].concat());
    let wire = record(T::Stdin, 1, &[b'x'; 60_000]);
    let window = server.recv_buffer();
    let buffer = addresses(window);
    let n = window.len().min(wire.len());
    window[..n].copy_from_slice(&wire[..n]);
    server.handle_recv(n).unwrap();
    while server.poll_event().unwrap().is_some() {}
    let chunk = server.request(key).unwrap().read(Input::Stdin, usize::MAX);
    let Poll::Ready(Some(chunk)) = chunk else { panic!("nothing to read") };
    assert_eq!(addresses(&chunk), buffer.start + 8..buffer.start + n);
}

#[test]
fn large_records_are_not_copied_in_part_wherever_the_first_one_starts() {
    let mut server = ServerConnection::new(ServerConfig::default());
    let (key, _) = accept(&mut server, &[begin(1, 1, true), params(1, &[])].concat());
    // The first large record starts so that its end leaves a small rest of the largest window.
    let mut wire = record(T::Stdin, 1, &[b'x'; 6000]);
    for _ in 0..10 {
        wire.extend(record(T::Stdin, 1, &[b'y'; 65_528]));
    }
    let (mut wire, mut came, mut copied) = (&wire[..], 0, 0);
    while !wire.is_empty() {
        let window = server.recv_buffer();
        let buffer = addresses(window);
        let (now, later) = wire.split_at(window.len().min(wire.len()));
        window[..now.len()].copy_from_slice(now);
        server.handle_recv(now.len()).unwrap();
        wire = later;
        while server.poll_event().unwrap().is_some() {}
        let mut request = server.request(key).unwrap();
        while let Poll::Ready(Some(chunk)) = request.read(Input::Stdin, usize::MAX) {
            came += chunk.len();
            copied += if buffer.contains(&addresses(&chunk).start) { 0 } else { chunk.len() };
        }
    }
    assert_eq!(came, 6000 + 10 * 65_528);
    assert!(copied < 4096, "{copied} bytes were copied");
}

#[test]
fn a_byte_is_readable_before_its_record_is_complete() {
    let mut server = ServerConnection::new(ServerConfig::default());
    let (key, _) = accept(&mut server, &[begin(1, 1, true), params(1, &[])].concat());
    let wire = record(T::Stdin, 1, b"slowly");
    events(&mut server, &wire[..8]).unwrap();
    for at in 8..wire.len() {
        events(&mut server, &wire[at..=at]).unwrap();
        assert_eq!(read_input(&mut server, key, Input::Stdin), (vec![wire[at]], false));
    }
}

#[test]
fn a_small_exchange_is_one_contiguous_chunk_each_way() {
    let mut client = ClientConnection::new(ClientConfig::default());
    let params = Params::from_iter([("REQUEST_METHOD", "POST"), ("CONTENT_LENGTH", "2")]);
    let begin = BeginRequest { role: Role::Responder, keep_conn: true, params };
    let key = client.begin(begin).unwrap();
    let mut call = client.request(key).unwrap();
    call.write(Input::Stdin, &mut Bytes::from_static(b"in")).unwrap();
    call.finish(Input::Stdin).unwrap();
    let asked = client.poll_transmit().unwrap();
    assert_eq!(asked.chunk().len(), asked.remaining());

    let mut server = ServerConnection::new(ServerConfig::default());
    let (key, _) = accept(&mut server, asked.chunk());
    let mut call = server.request(key).unwrap();
    call.write(Output::Stderr, &mut Bytes::from_static(b"noted")).unwrap();
    call.write(Output::Stdout, &mut Bytes::from(vec![b'x'; 4096])).unwrap();
    call.finish(0).unwrap();
    let answer = server.poll_transmit().unwrap();
    assert_eq!(answer.chunk().len(), answer.remaining());
}

/// Reads into a buffer that is lent; gives the events, and the buffer if the connection does.
fn read_lent(
    server: &mut ServerConnection,
    wire: &[u8],
    buffer: BytesMut,
) -> (Vec<Event>, Option<BytesMut>) {
    let lent = addresses(&buffer);
    server.lend(buffer).expect("it has none");
    assert_eq!(addresses(server.recv_buffer()), lent);
    let unused = server.reclaim().expect("nothing is in it");
    server.lend(unused).expect("it has none");
    server.recv_buffer()[..wire.len()].copy_from_slice(wire);
    server.handle_recv(wire.len()).unwrap();
    assert_eq!(server.reclaim(), None, "it is not parsed");
    let mut events = Vec::new();
    while let Some(event) = server.poll_event().unwrap() {
        events.push(event);
    }
    let back = server.reclaim();
    assert!(back.as_ref().is_none_or(|buffer| addresses(buffer) == lent));
    (events, back)
}

#[test]
fn a_lent_buffer_comes_back_once_it_is_parsed_wherever_it_was_cut() {
    let mut server = ServerConnection::new(ServerConfig::default());
    let wire = [request(1, true, b"in"), request(2, true, b"")].concat();
    let size = server.wants_buffer().expect("it has none");
    let mut buffer = BytesMut::zeroed(size);
    for cut in wire.chunks(7) {
        assert_eq!(server.wants_buffer(), Some(size), "no buffer of its own");
        buffer = read_lent(&mut server, cut, buffer).1.expect("nothing in it is needed");
    }
    assert_eq!(server.active_requests(), 2);
}

#[test]
fn a_lent_buffer_that_bytes_were_handed_out_of_stays_with_them() {
    let mut server = ServerConnection::new(ServerConfig::default());
    let size = server.wants_buffer().expect("it has none");
    let other = BytesMut::zeroed(size + 1);
    assert_eq!(server.lend(other.clone()), Err(other), "of another size");
    let head = [begin(1, 1, true), params(1, &[])].concat();
    let (events, buffer) = read_lent(&mut server, &head, BytesMut::zeroed(size));
    let [Event::Request { key, .. }] = events[..] else { panic!("{events:?}") };
    let buffer = buffer.expect("nothing in it is needed");
    let wire = record(T::Stdin, 1, &vec![b'x'; size - 16]);
    assert_eq!(read_lent(&mut server, &wire, buffer).1, None);
    let chunk = server.request(key).unwrap().read(Input::Stdin, usize::MAX);
    assert_eq!(chunk, Poll::Ready(Some(Bytes::from(vec![b'x'; size - 16]))));
}

#[test]
fn a_lent_buffer_comes_back_once_nobody_keeps_slices_of_it() {
    let mut server = ServerConnection::new(ServerConfig::default());
    let size = server.wants_buffer().expect("it has none");
    let head = [begin(1, 1, true), params(1, &[])].concat();
    let (events, buffer) = read_lent(&mut server, &head, BytesMut::zeroed(size));
    let [Event::Request { key, .. }] = events[..] else { panic!("{events:?}") };
    let buffer = buffer.expect("nothing in it is needed");
    let lent = addresses(&buffer);
    let wire = record(T::Stdin, 1, &vec![b'x'; size - 8]);
    assert_eq!(read_lent(&mut server, &wire, buffer).1, None, "its slice is unread");
    let chunk = server.request(key).unwrap().read(Input::Stdin, usize::MAX);
    assert_eq!(server.reclaim(), None, "its slice is kept");
    drop(chunk);
    let back = server.reclaim().expect("nothing in it is needed");
    assert_eq!(addresses(&back), lent);
    assert_eq!(server.wants_buffer(), Some(4 * size), "the next window is larger");
}

#[test]
fn a_lent_buffer_of_which_slices_are_kept_can_be_retired() {
    let mut server = ServerConnection::new(ServerConfig::default());
    let size = server.wants_buffer().expect("it has none");
    assert_eq!(server.retire(), None, "there is none");
    let head = [begin(1, 1, true), params(1, &[])].concat();
    let (events, buffer) = read_lent(&mut server, &head, BytesMut::zeroed(size));
    let [Event::Request { key, .. }] = events[..] else { panic!("{events:?}") };
    let buffer = buffer.expect("nothing in it is needed");
    let lent = addresses(&buffer);
    let body = vec![b'x'; size - 8];
    assert_eq!(read_lent(&mut server, &record(T::Stdin, 1, &body), buffer).1, None);
    let retired = server.retire().expect("its slice is unread");
    assert_eq!((server.retire(), server.reclaim()), (None, None), "it has none now");

    // The next one is read into while the slice of the first is unread.
    let size = server.wants_buffer().expect("it has none");
    let more = vec![b'y'; size - 8];
    read_lent(&mut server, &record(T::Stdin, 1, &more), BytesMut::zeroed(size));
    let retired = retired.try_into_mut().expect_err("its slice is unread");
    assert_eq!(read_input(&mut server, key, Input::Stdin), ([body, more].concat(), false));
    let again = retired.try_into_mut().expect("its slice is dropped");
    assert_eq!(addresses(&again), lent);
}

/// A whole request with a body, read into a lent buffer. Gives the chunk of the body, if it is kept
/// until the request has ended.
fn request_lent(server: &mut ServerConnection, buffer: BytesMut, keeps: bool) -> Option<Bytes> {
    let body = vec![b'x'; buffer.len() - 100];
    let (events, back) = read_lent(server, &request(1, true, &body), buffer);
    assert_eq!(back, None, "its slice is unread");
    let Some(&Event::Request { key, .. }) = events.first() else { panic!("{events:?}") };
    let mut request = server.request(key).unwrap();
    let Poll::Ready(Some(chunk)) = request.read(Input::Stdin, usize::MAX) else {
        panic!("nothing to read")
    };
    assert_eq!(chunk, body);
    let kept = keeps.then_some(chunk);
    request.finish(0).unwrap();
    let mut answer = server.poll_transmit().unwrap();
    answer.advance(answer.remaining());
    assert_eq!(server.poll_event(), Ok(None));
    kept
}

#[test]
fn an_idle_connection_keeps_no_lent_buffer() {
    let mut server = ServerConnection::new(ServerConfig::default());
    let size = server.wants_buffer().expect("it has none");
    let buffer = BytesMut::zeroed(size);
    let lent = addresses(&buffer);
    assert_eq!(request_lent(&mut server, buffer, false), None);
    let buffer = server.reclaim().expect("nothing in it is needed");
    assert_eq!(addresses(&buffer), lent);
    // A chunk that is kept for longer keeps the buffer.
    let chunk = request_lent(&mut server, buffer, true).expect("it is kept");
    assert_eq!(server.reclaim(), None);
    assert_eq!(server.wants_buffer(), Some(size), "it has none");
    assert!(lent.contains(&addresses(&chunk).start));
}

#[test]
fn large_contents_between_small_ones_leave_in_order_however_much_is_taken() {
    let large: Vec<u8> = (0..200_000_u32).map(|n| (n / 7) as u8).collect();
    let other = vec![b'z'; 70_001];
    let mut expected = Vec::new();
    let streams: [(T, &[u8]); 4] =
        [(T::Stdout, b"first"), (T::Stdout, &large), (T::Stderr, b"noted"), (T::Stdout, &other)];
    for (kind, content) in streams {
        for chunk in content.chunks(65_528) {
            let header = RecordHeader::new(kind, 1, chunk.len() as u16);
            expected.extend_from_slice(&header.encode());
            expected.extend_from_slice(chunk);
            expected.extend_from_slice(&[0; 8][..usize::from(header.padding_length)]);
        }
    }
    for step in [1009, 8, 65_535, 65_536, 131_000, usize::MAX] {
        let mut config = ServerConfig::default();
        config.limits.send_high_water = 4 << 20;
        let mut server = ServerConnection::new(config);
        let (key, _) = accept(&mut server, &request(1, true, b""));
        let mut call = server.request(key).unwrap();
        call.write(Output::Stdout, &mut Bytes::from_static(b"first")).unwrap();
        call.write(Output::Stdout, &mut Bytes::from(large.clone())).unwrap();
        call.write(Output::Stderr, &mut Bytes::from_static(b"noted")).unwrap();
        call.write(Output::Stdout, &mut Bytes::from(other.clone())).unwrap();
        let mut sent = Vec::new();
        while let Some(mut queued) = server.poll_transmit() {
            let mut slices = [IoSlice::new(&[]); 3];
            let n = queued.chunks_vectored(&mut slices);
            assert_eq!(addresses(&slices[0]), addresses(queued.chunk()));
            let before = sent.len();
            for slice in &slices[..n] {
                let room = step - (sent.len() - before);
                sent.extend_from_slice(&slice[..slice.len().min(room)]);
            }
            let taken = sent.len() - before;
            queued.advance(taken);
        }
        assert!(sent == expected, "taken in steps of {step}");
    }
}

#[test]
fn a_buffer_to_lend_starts_at_a_cache_line_that_is_not_the_first_of_a_page() {
    let buffers = [0, 1, 4096, 5000, 16_384, 65_536, 65_536].map(|len| (len, recv_buffer(len)));
    for (len, buffer) in buffers {
        let start = buffer.as_ptr().addr();
        assert!(start % 64 == 0 && start % 4096 != 0, "{len} bytes at {start:#x}");
        assert_eq!(buffer, vec![0; len]);
        let shared = buffer.freeze();
        drop(shared.slice(..len / 2));
        let again = shared.try_into_mut().expect("nobody else has it");
        assert_eq!((again.as_ptr().addr(), again.len()), (start, len));
    }
}
