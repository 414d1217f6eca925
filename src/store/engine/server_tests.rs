//! Servers that fall silent, that are reached by another host, or with another password; and what a failure is said to be.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use super::noted::Notes;
use super::place::Place;
use super::postgres::turn_changes;
use super::sql::postgres::session::Session;
use super::sql::{Address, Connection, Error, ErrorKind, Password, Patience, Result, Transaction};
use crate::store::slow_wire::{Loss, SlowWire};
use crate::store::test_database::{on_server, place_on_server};

/// A server that is silent for as long is taken for gone.
const SILENCE: Duration = Duration::from_millis(500);
const IMPATIENT: Patience = Patience::of(Duration::from_secs(10), SILENCE);

/// Connects to the database that stands for a file, by a wire that can be frozen.
fn by_wire(file: &Path) -> Option<(Connection, SlowWire)> {
    let (url, schema) = on_server(file)?;
    let wire = SlowWire::to(&url, Duration::ZERO);
    let address: Address = format!("{}?sslmode=disable", wire.url()).parse().unwrap();
    let session = Session::connect(Arc::new(address.in_schema(&schema)), IMPATIENT).unwrap();
    Some((Connection::Postgres(Box::new(session)), wire))
}

fn one(connection: &Connection) -> Result<bool> {
    connection.prepare_cached("SELECT 1")?.exists([])
}

/// Asserts that it fails in time because the server says nothing, and that it is made up for by another connection.
fn assert_lost(connection: &Connection, asked: &Result<()>, begun: Instant) {
    assert!(matches!(asked, Err(Error::Unanswered(SILENCE))), "{asked:?}");
    assert!(begun.elapsed() < SILENCE * 4, "{:?}", begun.elapsed());
    assert!(matches!(one(connection), Err(Error::Lost)), "nothing more is asked there");
    connection.reconnect_if_lost().unwrap();
    assert!(one(connection).unwrap());
}

#[test]
fn a_server_that_says_nothing_is_taken_for_gone() {
    let folder = tempfile::tempdir().unwrap();
    let Some((connection, wire)) = by_wire(folder.path()) else { return };
    assert!(one(&connection).unwrap());
    let begun = Instant::now();
    wire.freeze();
    assert_lost(&connection, &one(&connection).map(drop), begun);

    let posted = "SET application_name = 'marketd'";
    connection.prepare_cached(posted).unwrap().post([]).unwrap();
    let begun = Instant::now();
    wire.freeze();
    assert_lost(&connection, &connection.settle(), begun);
}

#[test]
fn a_server_that_goes_on_answering_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let Some((connection, _wire)) = by_wire(folder.path()) else { return };
    let begun = Instant::now();
    for _ in 0..10 {
        connection.prepare_cached("SELECT pg_sleep(0.1)").unwrap().post([]).unwrap();
    }
    connection.settle().unwrap();
    assert!(begun.elapsed() > SILENCE, "{:?}", begun.elapsed());
}

#[test]
fn a_server_that_works_ends_what_takes_too_long_and_the_connection_stays() {
    let folder = tempfile::tempdir().unwrap();
    let Some((connection, _wire)) = by_wire(folder.path()) else { return };
    let limited = Patience::of(Duration::from_millis(100), Duration::from_secs(10));
    connection.be_patient(limited).unwrap();
    let sleep = |statement| connection.prepare_cached(statement).and_then(|mut it| it.exists([]));
    let ended = sleep("SELECT pg_sleep(5)").map(drop).unwrap_err();
    assert!(ended.kind() == ErrorKind::Passing && ended.to_string().contains("timeout"), "{ended}");
    assert!(one(&connection).unwrap());
    connection.be_patient(Patience::ENDLESS).unwrap();
    sleep("SELECT pg_sleep(0.2)").unwrap();
}

#[test]
fn what_came_of_a_commit_that_a_silent_server_has_is_found_out() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("marketd.db");
    let (Some(place), Some((connection, wire))) = (place_on_server(&file), by_wire(&file)) else {
        return;
    };
    drop(Place::Server(place).open_writer().unwrap());
    let Connection::Postgres(session) = &connection else { unreachable!("it is on a server") };
    let begin = || {
        let transaction = Transaction::begin(&connection).unwrap();
        turn_changes::write(&connection, session, &Notes::default()).unwrap();
        transaction.settle().unwrap();
        transaction
    };
    begin().commit().unwrap();
    let (turn, done) = (session.turn().unwrap().number, begin());
    wire.lose(Loss::Rest);
    done.commit().unwrap();
    assert_eq!(session.turn().unwrap().number, turn + 1);
    begin().commit().unwrap();
}

/// Listens, takes connections and says nothing.
fn mute_host() -> (TcpListener, u16) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

#[test]
fn a_host_that_says_nothing_keeps_nobody_from_the_next() {
    let Some((url, _)) = on_server(Path::new("marketd.db")) else { return };
    let (_listener, mute) = mute_host();
    let (user, server) = url.rsplit_once('@').unwrap();
    let address = format!("{user}@127.0.0.1:{mute},{server}?connect_timeout=1");
    let begun = Instant::now();
    let session = Session::connect(Arc::new(address.parse().unwrap()), Patience::USUAL).unwrap();
    assert!(begun.elapsed() >= Duration::from_secs(1), "it is tried first: {:?}", begun.elapsed());
    assert!(one(&Connection::Postgres(Box::new(session))).unwrap());
    let only = format!("{user}@127.0.0.1:{mute}/marketd?connect_timeout=1");
    let refused = Session::connect(Arc::new(only.parse().unwrap()), Patience::USUAL).unwrap_err();
    assert!(matches!(refused, Error::Silent(_)), "{refused}");
}

/// Reads a message of the driver's, whose length stands in front.
fn message(of: &mut TcpStream) -> Vec<u8> {
    let mut length = [0; 4];
    of.read_exact(&mut length).unwrap();
    let mut rest = vec![0; u32::from_be_bytes(length) as usize - 4];
    of.read_exact(&mut rest).unwrap();
    rest
}

/// A server that asks for the password, and lets nobody in; returns its port and the passwords that it is told.
fn curious_host() -> (u16, mpsc::Receiver<String>) {
    let (listener, port) = mute_host();
    let (told, heard) = mpsc::channel();
    thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.unwrap();
            drop(message(&mut client));
            client.write_all(b"R\0\0\0\x08\0\0\0\x03").unwrap();
            client.read_exact(&mut [0]).unwrap();
            let password = String::from_utf8(message(&mut client)).unwrap();
            drop(told.send(password.trim_end_matches('\0').to_owned()));
        }
    });
    (port, heard)
}

#[test]
fn the_password_is_the_one_that_the_file_holds_at_the_time() {
    let folder = tempfile::tempdir().unwrap();
    let (port, heard) = curious_host();
    let address: Address =
        format!("postgres://me@127.0.0.1:{port}/x?sslmode=disable").parse().unwrap();
    let (file, passfile) = (folder.path().join("password"), folder.path().join("pgpass"));
    let by = |password: Password| {
        let address = Arc::new(address.clone().with_password(password));
        Session::connect(address, Patience::USUAL).unwrap_err()
    };
    for password in ["first", "rotated"] {
        std::fs::write(&file, format!("{password}\n")).unwrap();
        drop(by(Password::File(file.clone())));
        assert_eq!(heard.recv().unwrap(), password);
    }
    for password in ["kept", "changed"] {
        std::fs::write(&passfile, format!("127.0.0.1:{port}:x:me:{password}\n")).unwrap();
        make_private(&passfile);
        drop(by(Password::Passfile(passfile.clone())));
        assert_eq!(heard.recv().unwrap(), password);
    }
    std::fs::write(&file, "\n").unwrap();
    let empty = by(Password::File(file.clone()));
    std::fs::remove_file(&file).unwrap();
    let gone = by(Password::File(file.clone()));
    for (error, words) in [(empty, "is empty"), (gone, "cannot be read")] {
        let said = error.to_string();
        assert!(said.contains(words) && said.contains(&*file.to_string_lossy()), "{said}");
        assert!(error.kind().is_passing(), "it may be there again: {said}");
    }
    assert!(heard.try_recv().is_err());
}

fn make_private(file: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn the_first_failure_is_told_where_a_statement_is_prepared_behind_it() {
    let folder = tempfile::tempdir().unwrap();
    let Some(place) = place_on_server(&folder.path().join("marketd.db")) else { return };
    let connection = Place::Server(place).open_writer().unwrap();
    let refused = "INSERT INTO turns (id, n) VALUES (1, 0)";
    for again in ["UPDATE customers SET name = 'x'", "DELETE FROM customers"] {
        let transaction = Transaction::begin(&connection).unwrap();
        connection.prepare_cached(refused).unwrap().post([]).unwrap();
        let mut next = connection.prepare_cached(again).unwrap();
        // The first is sent with it.
        next.post([]).unwrap();
        let failed = connection.prepare_cached("SELECT id FROM events").map(drop).unwrap_err();
        assert!(failed.kind() == ErrorKind::Refused, "{again}: {failed}");
        assert!(failed.to_string().contains("duplicate key"), "{again}: {failed}");
        transaction.rollback().unwrap();
    }
    // What no row of several has done is its own failure.
    let transaction = Transaction::begin(&connection).unwrap();
    connection.prepare_cached(refused).unwrap().post([]).unwrap();
    let update = "UPDATE customers SET name = ?2 WHERE id = ?1";
    let mut update = connection.prepare_cached(update).unwrap();
    for id in ["a", "b"] {
        update.post_one((id, "x")).unwrap();
    }
    let failed = connection.settle().unwrap_err();
    assert!(failed.kind() == ErrorKind::Refused, "{failed}");
    assert!(failed.to_string().contains("duplicate key"), "{failed}");
    drop(transaction);
}
