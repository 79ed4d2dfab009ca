//! Each fault, shown over real sockets.
#![allow(clippy::unwrap_used)] // A test that unwraps fails where it should.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::*;
use crate::script::Flow;

const SOON: Duration = Duration::from_secs(5);
/// Long enough to see that nothing comes.
const QUIET: Duration = Duration::from_millis(200);

/// Sends back what it gets, and tells each piece.
async fn echo() -> (String, mpsc::Receiver<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (told, pieces) = mpsc::channel(100_000);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let told = told.clone();
            tokio::spawn(async move {
                let mut buffer = [0; 4096];
                while let Ok(read @ 1..) = stream.read(&mut buffer).await {
                    let _ = told.send(buffer[..read].to_vec()).await;
                    if stream.write_all(&buffer[..read]).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    (address, pieces)
}

async fn say(stream: &mut TcpStream, text: &str) {
    stream.write_all(text.as_bytes()).await.unwrap();
}

async fn hear(stream: &mut TcpStream, text: &str) {
    let mut heard = vec![0; text.len()];
    timeout(SOON, stream.read_exact(&mut heard)).await.unwrap().unwrap();
    assert_eq!(String::from_utf8_lossy(&heard), text);
}

async fn hear_nothing(stream: &mut TcpStream) {
    let mut byte = [0];
    let heard = timeout(QUIET, stream.read(&mut byte)).await;
    assert!(heard.is_err(), "{heard:?}");
}

async fn is_reset(stream: &mut TcpStream) {
    let mut rest = Vec::new();
    let ended = timeout(SOON, stream.read_to_end(&mut rest)).await.unwrap();
    assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
}

async fn connected(proxy: &Proxy) -> TcpStream {
    let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
    say(&mut stream, "hello").await;
    hear(&mut stream, "hello").await;
    stream
}

#[tokio::test]
async fn bytes_and_the_end_go_through() {
    let (server, _pieces) = echo().await;
    let proxy = Proxy::start(&server, 1).await.unwrap();
    let mut stream = connected(&proxy).await;
    stream.shutdown().await.unwrap();
    assert_eq!(timeout(SOON, stream.read(&mut [0])).await.unwrap().unwrap(), 0);
    assert_eq!(proxy.accepted(), 1);
}

#[tokio::test]
async fn a_cut_resets_what_is_there_and_nothing_else() {
    let (server, _pieces) = echo().await;
    let proxy = Proxy::start(&server, 1).await.unwrap();
    let mut stream = connected(&proxy).await;
    proxy.cut();
    is_reset(&mut stream).await;
    connected(&proxy).await;
}

#[tokio::test]
async fn refusing_resets_the_new_and_leaves_the_old() {
    let (server, _pieces) = echo().await;
    let proxy = Proxy::start(&server, 1).await.unwrap();
    let mut old = connected(&proxy).await;
    proxy.set(Script::refusing());
    let mut new = TcpStream::connect(proxy.address()).await.unwrap();
    is_reset(&mut new).await;
    say(&mut old, "still").await;
    hear(&mut old, "still").await;
}

#[tokio::test]
async fn a_proxy_to_nowhere_resets() {
    let proxy = Proxy::open(1).await.unwrap();
    let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
    is_reset(&mut stream).await;
}

#[tokio::test]
async fn swallowed_replies_reach_the_server_and_not_the_client() {
    let (server, mut pieces) = echo().await;
    let proxy = Proxy::start(&server, 1).await.unwrap();
    let mut stream = connected(&proxy).await;
    assert_eq!(pieces.recv().await.unwrap(), b"hello");
    proxy.set(Script::replies(Flow::swallow()));
    say(&mut stream, "stored").await;
    assert_eq!(timeout(SOON, pieces.recv()).await.unwrap().unwrap(), b"stored");
    hear_nothing(&mut stream).await;
    proxy.heal();
    is_reset(&mut stream).await;
}

#[tokio::test]
async fn swallowed_requests_reach_nobody() {
    let (server, mut pieces) = echo().await;
    let proxy = Proxy::start(&server, 1).await.unwrap();
    let mut stream = connected(&proxy).await;
    pieces.recv().await.unwrap();
    proxy.set(Script::requests(Flow::swallow()));
    say(&mut stream, "gone").await;
    assert!(timeout(QUIET, pieces.recv()).await.is_err());
    proxy.heal();
    is_reset(&mut stream).await;
}

#[tokio::test]
async fn what_is_held_comes_when_it_is_healed() {
    let (server, mut pieces) = echo().await;
    let proxy = Proxy::start(&server, 1).await.unwrap();
    let mut stream = connected(&proxy).await;
    pieces.recv().await.unwrap();
    for script in [Script::both(Flow::hold()), Script::requests(Flow::hold())] {
        proxy.set(script);
        say(&mut stream, "late").await;
        assert!(timeout(QUIET, pieces.recv()).await.is_err());
        proxy.heal();
        hear(&mut stream, "late").await;
        assert_eq!(pieces.recv().await.unwrap(), b"late");
    }
    proxy.set(Script::replies(Flow::hold()));
    say(&mut stream, "half").await;
    assert_eq!(timeout(SOON, pieces.recv()).await.unwrap().unwrap(), b"half");
    hear_nothing(&mut stream).await;
    proxy.heal();
    hear(&mut stream, "half").await;
}

#[tokio::test]
async fn a_slow_or_delayed_way_takes_its_time() {
    let (server, _pieces) = echo().await;
    let proxy = Proxy::start(&server, 1).await.unwrap();
    let mut stream = connected(&proxy).await;
    let text = "x".repeat(1_000);
    proxy.set(Script::requests(Flow::slow(5_000)));
    let began = Instant::now();
    say(&mut stream, &text).await;
    hear(&mut stream, &text).await;
    assert!(began.elapsed() >= Duration::from_millis(190), "{:?}", began.elapsed());
    let delay = Duration::from_millis(100);
    proxy.set(Script::both(Flow {
        delay,
        ..Flow::default()
    }));
    let began = Instant::now();
    say(&mut stream, "late").await;
    hear(&mut stream, "late").await;
    assert!(began.elapsed() >= 2 * delay, "{:?}", began.elapsed());
}

#[tokio::test]
async fn slices_are_small_and_whole() {
    let (server, mut pieces) = echo().await;
    let proxy = Proxy::start(&server, 1).await.unwrap();
    let mut stream = connected(&proxy).await;
    pieces.recv().await.unwrap();
    proxy.set(Script::both(Flow::sliced(3)));
    let text: String = ('a'..='z').cycle().take(2_000).collect();
    say(&mut stream, &text).await;
    hear(&mut stream, &text).await;
    let mut sizes = Vec::new();
    while let Ok(piece) = pieces.try_recv() {
        sizes.push(piece.len());
    }
    // The system may join some of them again.
    assert!(sizes.len() > 10, "{sizes:?}");
}

/// How many bytes of the connection passed before it was cut.
async fn passed_before_cut(server: &str, seed: u64) -> usize {
    let proxy = Proxy::start(server, seed).await.unwrap();
    proxy.set(Script::replies(Flow::cut_within(100)));
    let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
    let mut passed = 0;
    // One byte at a time: a reset throws away what was not read yet.
    while passed < 1_000 {
        if stream.write_all(b"x").await.is_err() {
            break;
        }
        match timeout(SOON, stream.read(&mut [0])).await.unwrap() {
            Ok(1) => passed += 1,
            Ok(_) => panic!("it ended in an orderly way"),
            Err(error) => {
                assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
                break;
            }
        }
    }
    passed
}

#[tokio::test]
async fn a_cut_within_bytes_follows_from_the_seed() {
    let (server, _pieces) = echo().await;
    let first = passed_before_cut(&server, 7).await;
    assert!((0..=100).contains(&first), "{first}");
    // The last byte may fall to the reset.
    let again = passed_before_cut(&server, 7).await;
    assert!(first.abs_diff(again) <= 1, "{first} and {again}");
    let mut others = Vec::new();
    for seed in 8..12 {
        others.push(passed_before_cut(&server, seed).await);
    }
    assert!(
        others.iter().any(|other| other.abs_diff(first) > 1),
        "{first} {others:?}"
    );
}
