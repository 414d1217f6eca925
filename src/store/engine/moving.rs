//! The move of a database to the other engine: every row of every table, in one transaction of the place that it comes to.
//!
//! The names of tables and columns are the same on both. What was copied is read back and compared by a digest of its rows.

use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{Context, Digest, SHA256};
use jiff::Timestamp;

use super::connection;
use super::error::{During as _, StoreError};
use super::lock::{DatabaseLock, LockError, LockPurpose};
use super::place::{Place, ServerPlace};
use super::postgres::schema::table_names;
use super::postgres::workers::workers_in;
use super::private_files::Draft;
use super::sql::{Connection, Patience, ToSql, Transaction, Value};
use super::worker::Worker;

/// The rows that one statement reads, or writes at most.
const ROWS_AT_ONCE: usize = 1_000;
/// The parameters that one statement has at most; SQLite takes 32,766.
const PARAMETERS: usize = 30_000;
/// The tables in which a database that was used has something.
const SIGNS_OF_USE: [&str; 6] =
    ["customers", "products", "events", "notifications", "usage_events", "metering_records"];

/// The reason why a database was not moved. The place that it comes to is as it was before.
#[derive(Debug, thiserror::Error)]
pub enum MoveError {
    /// Both places are files, or both are servers.
    #[error(
        "{from} and {to} are of the same engine: `marketd backup` and `restore` move a file, `pg_dump` and `pg_restore` a \
         server's database"
    )]
    SameEngine {
        /// The place that it is at.
        from: String,
        /// The place that it was to come to.
        to: String,
    },
    /// Something has the name of the new file.
    #[error("{} exists already: name a new file", path.display())]
    Exists {
        /// The name.
        path: PathBuf,
    },
    /// There is no database to move.
    #[error("there is no database at {place}")]
    Missing {
        /// The place.
        place: String,
    },
    /// The place that it was to come to is used.
    #[error("{place} holds a database that was used already ({table} has rows): name an empty one")]
    Used {
        /// The place.
        place: String,
        /// A table that is not empty.
        table: &'static str,
    },
    /// A daemon runs on one of them.
    #[error("a daemon runs on {place} ({}, since {}): stop it first", worker.name, worker.since)]
    Running {
        /// The place.
        place: String,
        /// The daemon.
        worker: Box<Worker>,
    },
    /// What came there is not what was sent.
    #[error("the rows of {table} differ after they were copied: nothing was moved")]
    Differs {
        /// The table.
        table: &'static str,
    },
    /// The new file could not be written.
    #[error("could not write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// The file is in use.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// A database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A table with the number of its rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MovedTable {
    /// Its name.
    pub name: &'static str,
    /// The number of its rows.
    pub rows: u64,
}

/// Moves a database to the other engine, or only says what would be moved. Tells how many rows are copied, of how many.
pub fn move_database(
    from: &Place,
    to: &Place,
    is_dry: bool,
    now: Timestamp,
    report: &mut dyn FnMut(u64, u64),
) -> Result<Vec<MovedTable>, MoveError> {
    let _lock = match from.file() {
        Some(path) if !path.exists() => {
            return Err(MoveError::Missing { place: from.to_string() });
        }
        Some(path) => Some(DatabaseLock::take(path, LockPurpose::Move, now)?),
        None => None,
    };
    let (server, source, mut draft) = match (from, to) {
        (Place::File(_), Place::Server(server)) => (server, from.open_current_reader()?, None),
        (Place::Server(server), Place::File(path)) => {
            (server, open_server(server)?, Some(draft_of(path)?))
        }
        _ => {
            return Err(MoveError::SameEngine { from: from.to_string(), to: to.to_string() });
        }
    };
    let target = match &draft {
        Some(draft) => connection::open_writer(draft.path())?,
        None => to.open_writer()?,
    };
    let of_server = if draft.is_some() { &source } else { &target };
    // Tables of any size are counted and read.
    of_server.be_patient(Patience::ENDLESS).during("prepare the move")?;
    refuse_running(server, of_server)?;
    let tables = tables(of_server)?;
    // On a server this keeps writers out; a file is locked.
    let reading =
        if draft.is_some() { Transaction::begin(&source) } else { Transaction::of_reads(&source) };
    let reading = reading.during("read the database as it is")?;
    let counts = counts(&reading, &tables)?;
    if let Some(table) = used(&target)? {
        return Err(MoveError::Used { place: to.to_string(), table });
    }
    if is_dry {
        return Ok(counts);
    }
    let writing = Transaction::begin(&target).during("write what is moved")?;
    copy(&reading, &writing, &tables, &counts, report)?;
    writing.commit().during("commit what was moved")?;
    drop(reading);
    if let (Some(draft), Some(path)) = (draft.take(), to.file()) {
        target
            .execute_batch("PRAGMA journal_mode = DELETE")
            .and_then(|()| target.close())
            .during("complete the file")?;
        let path = path.to_owned();
        draft.place_new(&path).map_err(|source| MoveError::Write { path, source })?;
    }
    Ok(counts)
}

fn draft_of(path: &Path) -> Result<Draft, MoveError> {
    if path.symlink_metadata().is_ok() {
        return Err(MoveError::Exists { path: path.to_owned() });
    }
    Draft::beside(path).map_err(|source| MoveError::Write { path: path.to_owned(), source })
}

fn open_server(server: &ServerPlace) -> Result<Connection, MoveError> {
    let connection = Connection::Postgres(Box::new(server.connect()?));
    super::postgres::schema::check(&connection)?;
    Ok(connection)
}

fn refuse_running(server: &ServerPlace, connection: &Connection) -> Result<(), MoveError> {
    let workers = workers_in(connection).during("see who runs on the database")?;
    workers.into_iter().next().map_or(Ok(()), |worker| {
        let place = Place::Server(server.clone()).to_string();
        Err(MoveError::Running { place, worker: Box::new(worker) })
    })
}

fn used(target: &Connection) -> Result<Option<&'static str>, StoreError> {
    for table in SIGNS_OF_USE {
        let select = format!("SELECT 1 FROM {table} LIMIT 1");
        let mut select = target.prepare_cached(&select).during("see whether it was used")?;
        if select.exists([]).during("see whether it was used")? {
            return Ok(Some(table));
        }
    }
    Ok(None)
}

/// A table: its columns, and the places of its key's among them.
struct Table {
    name: &'static str,
    columns: Vec<String>,
    key: Vec<usize>,
    /// The column that the server numbers by itself.
    numbered: Option<String>,
}

/// Describes the tables, each after those that it refers to.
fn tables(server: &Connection) -> Result<Vec<Table>, StoreError> {
    table_names()
        .into_iter()
        .map(|name| {
            let list = |sql: &str| -> Result<Vec<String>, StoreError> {
                let mut select = server.prepare_cached(sql).during("read the schema")?;
                let names = select.query_map([name], |row| row.get(0)).during("read the schema")?;
                names.collect::<Result<_, _>>().during("read the schema")
            };
            let columns = list(
                "SELECT CAST(column_name AS text) FROM information_schema.columns
                 WHERE table_schema = current_schema() AND table_name = CAST(?1 AS text) ORDER BY ordinal_position",
            )?;
            let key = list(
                "SELECT CAST(a.attname AS text) FROM pg_index i, unnest(i.indkey) WITH ORDINALITY k (number, place), pg_attribute a
                 WHERE i.indrelid = to_regclass(CAST(?1 AS text)) AND i.indisprimary
                   AND a.attrelid = i.indrelid AND a.attnum = k.number ORDER BY k.place",
            )?;
            let numbered = list(
                "SELECT CAST(column_name AS text) FROM information_schema.columns
                 WHERE table_schema = current_schema() AND table_name = CAST(?1 AS text) AND is_identity = 'YES'",
            )?;
            let place = |name: &String| columns.iter().position(|column| column == name);
            let key: Vec<usize> = key.iter().filter_map(place).collect();
            // Rows that nothing tells apart could not be read in pieces.
            if key.is_empty() {
                let detail = format!("{name} has no primary key");
                return Err(StoreError::Corrupt { what: "a table", detail });
            }
            Ok(Table { name, columns, key, numbered: numbered.into_iter().next() })
        })
        .collect()
}

fn counts(source: &Connection, tables: &[Table]) -> Result<Vec<MovedTable>, StoreError> {
    tables
        .iter()
        .map(|&Table { name, .. }| {
            let rows = source
                .query_row(&format!("SELECT count(*) FROM {name}"), [], |row| row.get::<_, i64>(0))
                .during("count what is moved")?;
            Ok(MovedTable { name, rows: rows.unsigned_abs() })
        })
        .collect()
}

fn copy(
    source: &Connection,
    target: &Connection,
    tables: &[Table],
    counts: &[MovedTable],
    report: &mut dyn FnMut(u64, u64),
) -> Result<(), MoveError> {
    // What a new database begins with.
    for table in tables.iter().rev() {
        target.execute(&format!("DELETE FROM {}", table.name), []).during("empty the tables")?;
    }
    let (mut done, all) = (0, counts.iter().map(|it| it.rows).sum());
    for table in tables {
        let mut sent = Context::new(&SHA256);
        table.read(source, &mut |rows| {
            note(&mut sent, rows);
            table.write(target, rows)?;
            done += rows.len() as u64;
            report(done, all);
            Ok(())
        })?;
        table.go_on_counting(target)?;
        if sent.finish().as_ref() != table.digest(target)?.as_ref() {
            return Err(MoveError::Differs { table: table.name });
        }
    }
    Ok(())
}

type Row = Vec<Value>;

impl Table {
    /// Reads all rows in the order of the key, some at a time.
    fn read(
        &self,
        from: &Connection,
        take: &mut dyn FnMut(&[Row]) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let columns = self.columns.join(", ");
        let key: Vec<&str> = self.key.iter().map(|place| self.columns[*place].as_str()).collect();
        let key = key.join(", ");
        let places: Vec<String> = (1..=self.key.len()).map(|it| format!("?{it}")).collect();
        let first =
            format!("SELECT {columns} FROM {} ORDER BY {key} LIMIT {ROWS_AT_ONCE}", self.name);
        let next = format!(
            "SELECT {columns} FROM {} WHERE ({key}) > ({}) ORDER BY {key} LIMIT {ROWS_AT_ONCE}",
            self.name,
            places.join(", ")
        );
        let mut last: Option<Row> = None;
        loop {
            let after: Vec<&dyn ToSql> = last.iter().flatten().map(|it| it as &dyn ToSql).collect();
            let sql = if last.is_some() { &next } else { &first };
            let mut select = from.prepare_cached(sql).during("read what is moved")?;
            let row = |row: &super::sql::Row<'_>| {
                (0..self.columns.len()).map(|place| row.get(place)).collect()
            };
            let rows = select.query_map(after.as_slice(), row).during("read what is moved")?;
            let rows: Vec<Row> = rows.collect::<Result<_, _>>().during("read what is moved")?;
            drop(select);
            take(&rows)?;
            let Some(end) = rows.last().filter(|_| rows.len() == ROWS_AT_ONCE) else {
                return Ok(());
            };
            last = Some(self.key.iter().map(|place| end[*place].clone()).collect());
        }
    }

    fn write(&self, to: &Connection, rows: &[Row]) -> Result<(), StoreError> {
        let columns = self.columns.join(", ");
        let overriding = match (&self.numbered, to) {
            (Some(_), Connection::Postgres(_)) => "OVERRIDING SYSTEM VALUE ",
            _ => "",
        };
        for part in rows.chunks((PARAMETERS / self.columns.len()).max(1)) {
            let mut number = 0;
            let places: Vec<String> = part
                .iter()
                .map(|row| {
                    let places: Vec<String> = row
                        .iter()
                        .map(|_| {
                            number += 1;
                            format!("?{number}")
                        })
                        .collect();
                    format!("({})", places.join(", "))
                })
                .collect();
            let insert = format!(
                "INSERT INTO {} ({columns}) {overriding}VALUES {}",
                self.name,
                places.join(", ")
            );
            let values: Vec<&dyn ToSql> =
                part.iter().flatten().map(|it| it as &dyn ToSql).collect();
            to.prepare_cached(&insert)
                .and_then(|mut insert| insert.execute(values.as_slice()))
                .during("write what is moved")?;
        }
        Ok(())
    }

    /// Has the server number what comes next after what came.
    fn go_on_counting(&self, target: &Connection) -> Result<(), StoreError> {
        let (Some(column), Connection::Postgres(_)) = (&self.numbered, target) else {
            return Ok(());
        };
        let table = self.name;
        let set = format!(
            "SELECT setval(pg_get_serial_sequence('{table}', '{column}'),
                 (SELECT coalesce(max({column}), 0) + 1 FROM {table}), false)"
        );
        target.query_row(&set, [], |_| Ok(())).during("go on counting where it was")
    }

    fn digest(&self, of: &Connection) -> Result<Digest, StoreError> {
        let mut context = Context::new(&SHA256);
        self.read(of, &mut |rows| {
            note(&mut context, rows);
            Ok(())
        })?;
        Ok(context.finish())
    }
}

/// Adds rows to a digest, each value with its kind and length, so that no two lists of rows read alike.
fn note(digest: &mut Context, rows: &[Row]) {
    for value in rows.iter().flatten() {
        let number;
        let (kind, bytes): (u8, &[u8]) = match value {
            Value::Null => (0, &[]),
            Value::Integer(it) => {
                number = it.to_be_bytes();
                (1, &number)
            }
            Value::Real(it) => {
                number = it.to_be_bytes();
                (2, &number)
            }
            Value::Text(it) => (3, it.as_bytes()),
            Value::Blob(it) => (4, it),
        };
        digest.update(&[kind]);
        digest.update(&(bytes.len() as u64).to_be_bytes());
        digest.update(bytes);
    }
}
