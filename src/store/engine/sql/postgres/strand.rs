//! Several pieces of work within one transaction that go on in turns, so that what they wait for is asked for together.
//!
//! Each piece is a strand: it runs on a thread of its own, and that thread never has the connection. It hands each statement
//! to the one that has, which lets all strands go on until each needs an answer, and then asks for what all of them wait for
//! in one round trip. What they write is sent in the order of the strands, whichever of them came first.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;

use super::super::super::locked::locked;
use super::super::error::{Error, Result};
use super::super::params::Params;
use super::pipeline::RowChanges;
use super::prepared::{FoundRow, Prepared};
use super::session::{Session, cells};
use super::value::Cell;
use super::wanted::{Answer, Wanted};

/// Statements that were prepared, by their text.
type PreparedByText = Arc<Mutex<HashMap<Box<str>, Arc<Prepared>>>>;

/// The end of a strand that its work holds.
pub(crate) struct Strand {
    place: usize,
    requests: mpsc::Sender<(usize, Request)>,
    replies: mpsc::Receiver<Reply>,
    prepared: PreparedByText,
}

impl std::fmt::Debug for Strand {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Strand").finish_non_exhaustive()
    }
}

/// What a strand asks of the thread that has the connection.
enum Request {
    Prepare(String),
    Post(Posted),
    Ask(Arc<Prepared>, Vec<Cell>),
    Want(Wanted),
    /// To go on once all others have ended, and to be the only one from then on.
    Alone,
    /// Nothing more, ever.
    End,
}

/// A statement that writes and is not waited for.
struct Posted {
    prepared: Arc<Prepared>,
    values: Vec<Cell>,
    changes: RowChanges,
}

/// What it is told, after which it goes on.
enum Reply {
    GoOn,
    Prepared(Result<Arc<Prepared>>),
    Answer(Result<Answer>),
}

impl Drop for Strand {
    fn drop(&mut self) {
        // Be it by a panic. Nobody waits for it where nobody listens.
        drop(self.tell(Request::End));
    }
}

impl Strand {
    fn ask(&self, request: Request) -> Result<Reply> {
        self.tell(request)?;
        self.replies.recv().map_err(|_| Error::Abandoned)
    }

    fn want(&self, wanted: Wanted) -> Result<Answer> {
        match self.ask(Request::Want(wanted))? {
            Reply::Answer(answer) => answer,
            Reply::GoOn | Reply::Prepared(_) => Err(Error::Abandoned),
        }
    }

    fn tell(&self, request: Request) -> Result<()> {
        self.requests.send((self.place, request)).map_err(|_| Error::Abandoned)
    }

    /// Waits until all other strands have ended. From then on this one is the only one that runs.
    pub(crate) fn alone(&self) -> Result<()> {
        match self.ask(Request::Alone)? {
            Reply::GoOn => Ok(()),
            Reply::Prepared(_) | Reply::Answer(_) => Err(Error::Abandoned),
        }
    }

    /// Prepares a statement, or takes it as it was prepared before.
    pub(crate) fn prepare(&self, sql: &str) -> Result<Arc<Prepared>> {
        if let Some(known) = locked(&self.prepared).get(sql) {
            return Ok(Arc::clone(known));
        }
        match self.ask(Request::Prepare(sql.to_owned()))? {
            Reply::Prepared(prepared) => {
                let prepared = prepared?;
                locked(&self.prepared).insert(sql.into(), Arc::clone(&prepared));
                Ok(prepared)
            }
            Reply::GoOn | Reply::Answer(_) => Err(Error::Abandoned),
        }
    }

    /// Runs a statement; returns the rows that it finds.
    pub(crate) fn query(
        &self,
        prepared: &Arc<Prepared>,
        params: &impl Params,
    ) -> Result<Vec<FoundRow>> {
        let values = cells(params, &prepared.names)?;
        Ok(self.want(Wanted::rows(prepared, values))?.rows)
    }

    /// Runs a statement that returns a row for each of these; returns them in this order.
    pub(crate) fn query_each<P: Params>(
        &self,
        prepared: &Arc<Prepared>,
        all: &[P],
    ) -> Result<Vec<FoundRow>> {
        let each = |params: &P| self.query(prepared, params)?.pop().ok_or(Error::NoRow);
        all.iter().map(each).collect()
    }

    /// Runs a statement; returns the number of rows that it changed.
    pub(crate) fn execute(&self, prepared: &Arc<Prepared>, params: &impl Params) -> Result<usize> {
        let values = cells(params, &prepared.names)?;
        let count = self.want(Wanted::count(prepared, values))?.count;
        Ok(usize::try_from(count).unwrap_or(usize::MAX))
    }

    /// Has a statement that writes sent before the next that any strand waits for.
    pub(crate) fn post(
        &self,
        prepared: &Arc<Prepared>,
        params: &impl Params,
        changes: RowChanges,
    ) -> Result<()> {
        let values = cells(params, &prepared.names)?;
        // Of several strands two may add to the same row, such as a sum of all customers.
        let changes = if prepared.upserts() { RowChanges::Any } else { changes };
        self.tell(Request::Post(Posted { prepared: Arc::clone(prepared), values, changes }))
    }

    /// Asks ahead for what is going to be read.
    pub(crate) fn ask_ahead(&self, prepared: &Arc<Prepared>, params: &impl Params) -> Result<()> {
        let values = cells(params, &prepared.names)?;
        self.tell(Request::Ask(Arc::clone(prepared), values))
    }
}

/// The other end of a strand.
struct Running {
    replies: mpsc::Sender<Reply>,
    state: State,
    /// What it posted since the last round trip.
    posted: VecDeque<Posted>,
}

/// Where a strand is.
enum State {
    /// It goes on with this.
    Ready(Reply),
    Waits(Wanted),
    WaitsToBeAlone,
    Ended,
}

/// Runs pieces of work as strands, each with what it is about; returns what each came to, in their order. Where a statement
/// fails, all are abandoned, and the error is told to one that waited for an answer, whoever's statement it was. Of these
/// pieces only those in front are run for which the machine has threads, which may be none.
pub(crate) fn interleave<I: Sync, T: Send, E: Send>(
    session: &Session,
    all: &[I],
    work: &(impl Fn(Strand, &I) -> std::result::Result<T, E> + Sync),
) -> std::result::Result<Vec<T>, E> {
    let prepared = PreparedByText::default();
    let outcomes = thread::scope(|scope| {
        let mut threads = Vec::with_capacity(all.len());
        let mut strands = Vec::with_capacity(all.len());
        let (requests, to_run) = mpsc::channel();
        for (place, about) in all.iter().enumerate() {
            let (replies, told) = mpsc::channel();
            let (requests, prepared) = (requests.clone(), Arc::clone(&prepared));
            let strand = Strand { place, requests, replies: told, prepared };
            let run = move || {
                // It begins when it is told to; without a word nothing is done, and nobody asks for the outcome.
                let begins = strand.replies.recv().is_ok();
                begins.then(|| work(strand, about))
            };
            let Ok(thread) = thread::Builder::new().spawn_scoped(scope, run) else { break };
            threads.push(thread);
            let state = State::Ready(Reply::GoOn);
            strands.push(Running { replies, state, posted: VecDeque::new() });
        }
        let failed = Scheduler { session, strands, requests: to_run, failed: None }.run();
        let outcomes = threads.into_iter().map(|it| match it.join() {
            Ok(outcome) => outcome,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        (failed, outcomes.collect::<Vec<_>>())
    });
    let (failed, mut outcomes) = outcomes;
    if let Some(place) = failed {
        // Nothing is committed, even if nobody minds.
        session.fail(Error::Abandoned);
        if matches!(outcomes.get(place), Some(Some(Err(_)))) {
            outcomes.swap(0, place);
        }
    }
    outcomes.into_iter().flatten().collect()
}

/// Has strands go on in turns.
struct Scheduler<'s> {
    session: &'s Session,
    strands: Vec<Running>,
    requests: mpsc::Receiver<(usize, Request)>,
    /// The first of which a statement failed: nothing more is done for any.
    failed: Option<usize>,
}

impl Scheduler<'_> {
    /// Runs them until all have ended; returns the one of which a statement failed, if any did.
    fn run(mut self) -> Option<usize> {
        loop {
            self.go_on();
            if !self.ask_together() && !self.let_one_be_alone() {
                return self.failed;
            }
        }
    }

    /// Lets all go on that can, until each waits for something or has ended.
    fn go_on(&mut self) {
        let mut running = 0;
        for strand in &mut self.strands {
            if let State::Ready(_) = &strand.state
                && let State::Ready(reply) = std::mem::replace(&mut strand.state, State::Ended)
            {
                // One that is gone has said so, or will.
                drop(strand.replies.send(reply));
                running += 1;
            }
        }
        while running > 0 {
            let Ok((place, request)) = self.requests.recv() else { return };
            // One for which there was no thread has ended before it began.
            let Some(strand) = self.strands.get_mut(place) else { continue };
            let goes_on = match request {
                Request::Want(_) | Request::Alone if self.failed.is_some() => {
                    Some(Reply::Answer(Err(Error::Abandoned)))
                }
                Request::Want(wanted) => {
                    // What it has posted itself may have made an answer old.
                    let is_sure = strand.posted.is_empty();
                    let known = if is_sure { self.session.known(&wanted) } else { None };
                    if known.is_none() {
                        strand.state = State::Waits(wanted);
                        running -= 1;
                    }
                    known.map(|answer| Reply::Answer(Ok(answer)))
                }
                Request::Alone => {
                    strand.state = State::WaitsToBeAlone;
                    running -= 1;
                    None
                }
                Request::Prepare(sql) => Some(Reply::Prepared(self.session.prepare(&sql))),
                Request::Post(posted) => {
                    strand.posted.push_back(posted);
                    None
                }
                Request::Ask(prepared, values) => {
                    // Whatever keeps it from being noted keeps it from being asked for later too.
                    drop(self.session.ask_cells(&prepared, values));
                    None
                }
                Request::End => {
                    running -= 1;
                    None
                }
            };
            if let Some(reply) = goes_on {
                drop(strand.replies.send(reply));
            }
        }
    }

    /// Sends what strands have posted: of each the first, then of each the second, and what is of one statement together.
    fn send_posted(&mut self) -> Result<()> {
        loop {
            let next = self.strands.iter_mut().filter_map(|strand| strand.posted.pop_front());
            let mut layer: Vec<Posted> = next.collect();
            if layer.is_empty() {
                return Ok(());
            }
            layer.sort_by(|a, b| a.prepared.text().cmp(b.prepared.text()));
            for Posted { prepared, values, changes } in layer {
                self.session.post_cells(&prepared, values, changes)?;
            }
        }
    }

    /// Asks for what strands wait for, all at once; returns whether any waited.
    fn ask_together(&mut self) -> bool {
        let sent = self.send_posted();
        let (mut places, mut all) = (Vec::new(), Vec::new());
        for (place, strand) in self.strands.iter_mut().enumerate() {
            if let State::Waits(_) = &strand.state
                && let State::Waits(wanted) = std::mem::replace(&mut strand.state, State::Ended)
            {
                places.push(place);
                all.push(wanted);
            }
        }
        if places.is_empty() {
            if let Err(error) = sent {
                self.session.fail(error);
            }
            return false;
        }
        let answers = if self.failed.is_some() {
            Err(Error::Abandoned)
        } else {
            sent.and_then(|()| self.session.want_all(all))
        };
        match answers {
            Ok(answers) => {
                for (place, answer) in places.into_iter().zip(answers) {
                    self.strands[place].state = State::Ready(Reply::Answer(Ok(answer)));
                }
            }
            Err(error) => {
                let mut error = Some(error);
                for place in places {
                    self.failed.get_or_insert(place);
                    let error = error.take().unwrap_or(Error::Abandoned);
                    self.strands[place].state = State::Ready(Reply::Answer(Err(error)));
                }
            }
        }
        true
    }

    /// Lets the first go on that waits to be alone, where no other runs; returns whether there is one.
    fn let_one_be_alone(&mut self) -> bool {
        let waits = |strand: &&mut Running| matches!(strand.state, State::WaitsToBeAlone);
        let first = self.strands.iter_mut().find(waits);
        let found = first.is_some();
        if let Some(strand) = first {
            strand.state = State::Ready(Reply::GoOn);
        }
        found
    }
}
