//! What those can cost who need no token: time, memory, places.

use std::time::Duration;

use reqwest::Client;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::support::world::World;

const PAGE: (&str, &str) = ("MARKETD__REGISTRATION__REDIRECT_URL", "https://app.example.com/");
const FORM: &str = "application/x-www-form-urlencoded";

/// The memory that a process has, in MiB.
fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1_024
}

/// The time that a process has had on the processors, which is the same however busy the machine is otherwise.
fn spent(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // Behind the name, which may hold blanks: user's and system's time are the 12th and 13th, in hundredths of a second.
    let fields = stat.rsplit(')').next().unwrap().split_whitespace().skip(11).take(2);
    fields.map(|ticks| Duration::from_millis(10 * ticks.parse::<u64>().unwrap())).sum()
}

fn process(world: &mut World) -> u32 {
    let daemon = world.take_daemon();
    let pid = daemon.id().unwrap();
    world.give_daemon(daemon);
    pid
}

fn address(world: &World) -> String {
    world.url().trim_start_matches("http://").to_owned()
}

#[tokio::test]
async fn the_dearest_form_that_is_taken_costs_next_to_nothing() {
    let mut world = World::with_settings(&[PAGE]).await;
    let pid = process(&mut world);
    let post = async |body: String| {
        let post = Client::new().post(format!("{}/aws/register", world.url()));
        let before = spent(pid);
        let answer = post.header("content-type", FORM).body(body).send().await.unwrap();
        (answer.status().as_u16(), spent(pid).saturating_sub(before))
    };
    let token = "x-amzn-marketplace-token=";
    // A megabyte of tokens and of fields to look for them in.
    let tokens = format!("{token}z1&").repeat(17_000);
    let dear = format!("{tokens}{token}b&{}", "b=&".repeat(190_000));
    let limit = 16 * 1_024;
    let rest = limit - token.len() - 3;
    let many = format!("{token}b&{}", "b=&".repeat(rest / 3));
    let several = format!("{token}b&{token}c");
    let long = format!("{token}{}", "b".repeat(limit - token.len()));
    let longer = format!("{long}b");
    let fields: Vec<String> = (0..49).map(|it| format!("&x-amzn-marketplace-{it}=b")).collect();
    let fullest = format!("{token}b{}", fields.concat());
    for (body, expected) in [
        (dear, 413),
        (many, 400),
        (several, 400),
        (long, 422),
        (longer, 413),
        (format!("{fullest}&a=b"), 400),
        (fullest, 422),
    ] {
        let (length, (status, took)) = (body.len(), post(body).await);
        assert_eq!(status, expected, "{length} bytes");
        // Half a second is far more than it needs.
        assert!(took < Duration::from_millis(500), "{length} bytes took {took:?}");
    }
    world.stop().await;
}

#[tokio::test]
async fn the_whole_of_a_larger_body_is_never_read() {
    let world = World::with_settings(&[PAGE]).await;
    for (path, limit, word) in
        [("/aws/register", 16 * 1_024, "<!doctype html>"), ("/aws/sns", 256 * 1_024, "problem:")]
    {
        let mut stream = TcpStream::connect(address(&world)).await.unwrap();
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: a\r\nContent-Type: {FORM}\r\nTransfer-Encoding: chunked\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let chunk = format!("1000\r\n{}\r\n", "a".repeat(4_096));
        let mut sent = 0;
        // Until the other side has had enough.
        let mut heard = Vec::new();
        while sent < 64 * limit && stream.write_all(chunk.as_bytes()).await.is_ok() {
            sent += 4_096;
            let mut part = [0; 4_096];
            if let Ok(count) = stream.try_read(&mut part) {
                heard.extend_from_slice(&part[..count]);
                break;
            }
        }
        stream.read_to_end(&mut heard).await.ok();
        let heard = String::from_utf8_lossy(&heard);
        assert!(heard.contains(" 413 ") && heard.contains(word), "{path}: {heard}");
        let declared =
            format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", limit + 1);
        let mut stream = TcpStream::connect(address(&world)).await.unwrap();
        stream.write_all(declared.as_bytes()).await.unwrap();
        let mut part = vec![0; 4_096];
        let count = stream.read(&mut part).await.unwrap();
        let heard = String::from_utf8_lossy(&part[..count]);
        assert!(heard.contains(" 413 "), "before a byte of it came: {heard}");
    }
    world.stop().await;
}

/// Bodies of SNS's size without their last byte, on as many connections as there may be.
async fn hold(address: &str, length: usize, count: usize) -> Vec<TcpStream> {
    let mut held = Vec::new();
    let body = vec![b'a'; length - 1];
    for _ in 0..count {
        let Ok(mut stream) = TcpStream::connect(address).await else { continue };
        let head = format!("POST /aws/sns HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n");
        // Who is sent away meanwhile does not hold anything.
        if stream.write_all(head.as_bytes()).await.is_ok() {
            stream.write_all(&body).await.ok();
        }
        held.push(stream);
    }
    held
}

#[tokio::test]
async fn strangers_hold_little_memory_however_much_they_send() {
    let mut world = World::with_settings(&[PAGE]).await;
    let pid = process(&mut world);
    let before = resident(pid);
    let address = address(&world);
    let held = hold(&address, 256 * 1_024, 600).await;
    // And by HTTP/2, of which a connection could hold two hundred bodies.
    let mut spoken = TcpStream::connect(&address).await.unwrap();
    let preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    spoken.write_all(preface.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    spoken.read_to_end(&mut answer).await.ok();
    assert!(!answer.starts_with(&[0, 0]), "a second protocol: {answer:?}");
    let most = resident(pid);
    assert!(most < before + 100, "{before} MiB have become {most}");
    // Whoever else comes is answered meanwhile.
    let message = Client::new().post(format!("{}/aws/sns", world.url())).body("{}");
    assert_eq!(message.send().await.unwrap().status(), 400);
    let buyer = Client::new().post(format!("{}/aws/register", world.url()));
    let buyer = buyer.header("content-type", FORM).body("x-amzn-marketplace-token=made-up");
    assert_eq!(buyer.send().await.unwrap().status(), 422);
    drop(held);
    world.stop().await;
}
