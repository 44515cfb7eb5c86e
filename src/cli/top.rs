//! `sls2siem top`: the figures of the status page in a terminal, live, or once as plain text.
//!
//! Why: who is on the machine by ssh has no browser at hand, and scripts want a table.
//! Invariants: 1. the terminal is as it was when this ends, by a key, a signal, an error or a panic. 2. a page that
//! does not answer is said and asked again; what is shown then is told to be old. 3. a slow page never makes keys wait.
//! Bounds: one question a second, one answer waiting. Driven by: `main`.
//! Spec: commands in README.md; the page's `/status.json`.

mod model;
mod plain;
mod screen;
#[cfg(test)]
mod tests;

use std::io::{self, IsTerminal as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, SyncSender};
use std::thread;
use std::time::Duration;

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use self::model::{Direction, Model, Sort};
use super::TopArgs;
use super::page::{Page, Unanswered, say};
use crate::config::Environment;
use crate::metrics::{FORMAT, Status};
use crate::report::Exit;

/// Shows the figures until a key says otherwise.
pub fn execute(args: &TopArgs, env: Environment) -> Exit {
    let coloured = env.get("NO_COLOR").is_none_or(String::is_empty);
    let dumb = env.get("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
    let page = match Page::find(args.admin.as_deref(), &args.settings, env) {
        Ok(page) => page,
        Err(why) => return say(&why),
    };
    let first = match read(&page) {
        Ok(status) => status,
        Err(why) => return say(&why),
    };
    if args.once || dumb || !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        return match io::stdout().lock().write_all(plain::text(&first).as_bytes()) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Exit::Failed,
            _ => Exit::Done,
        };
    }
    let mut model = Model::new(page.address.clone(), coloured);
    model.take(Ok(first));
    match watch(&page, &mut model) {
        Ok(()) => Exit::Done,
        Err(error) => say(&Unanswered { exit: Exit::Failed, text: format!("the terminal: {error}") }),
    }
}

/// Asks once.
fn read(page: &Page) -> Result<Status, Unanswered> {
    let failed = |what: String| Unanswered {
        exit: Exit::Failed,
        text: format!("{what} - nothing is lost - is it the admin page of sls2siem, of this version?"),
    };
    let (status, text) = page.text("/status.json")?;
    if status != 200 {
        return Err(failed(format!("{} answers HTTP {status} to /status.json", page.address)));
    }
    let status: Status = serde_json::from_str(&text)
        .map_err(|error| failed(format!("{} answers what is no status ({error})", page.address)))?;
    if status.format != FORMAT {
        return Err(failed(format!("{} writes format {}, not {FORMAT}", page.address, status.format)));
    }
    Ok(status)
}

fn watch(page: &Page, model: &mut Model) -> io::Result<()> {
    let ended = Arc::new(AtomicBool::new(false));
    // The terminal is gone, and reading from one that is gone never ends: not even where SIGHUP was to be ignored.
    signal_hook::flag::register_conditional_shutdown(SIGHUP, HUNG_UP, Arc::new(AtomicBool::new(true)))?;
    for signal in [SIGTERM, SIGINT] {
        signal_hook::flag::register(signal, Arc::clone(&ended))?;
    }
    let (sender, news) = mpsc::sync_channel(1);
    let (stop, stopped) = mpsc::channel();
    let asked = page.clone();
    let asking =
        thread::Builder::new().name("top-asks".into()).spawn(move || ask(&asked, &sender, &stopped))?;
    let mut terminal = ratatui::try_init()?;
    let shown = show(&mut terminal, model, &news, &ended);
    ratatui::restore();
    drop::<Sender<()>>(stop);
    // An answer that is waited for must not keep the prompt away.
    drop((asking, news));
    shown
}

/// The asking thread.
fn ask(page: &Page, sender: &SyncSender<Result<Status, String>>, stopped: &Receiver<()>) {
    while stopped.recv_timeout(ASK_EVERY) == Err(RecvTimeoutError::Timeout) {
        if sender.send(read(page).map_err(|why| why.text)).is_err() {
            return;
        }
    }
}

fn show(
    terminal: &mut DefaultTerminal,
    model: &mut Model,
    news: &Receiver<Result<Status, String>>,
    ended: &AtomicBool,
) -> io::Result<()> {
    let mut is_new = true;
    while !ended.load(Ordering::Relaxed) {
        if is_new {
            terminal.draw(|frame| screen::draw(frame, model))?;
        }
        is_new = event::poll(LOOK_EVERY)?;
        if is_new && handle(model, &event::read()?) {
            return Ok(());
        }
        while let Ok(answer) = news.try_recv() {
            is_new |= model.take(answer);
        }
    }
    Ok(())
}

/// True where it is over.
fn handle(model: &mut Model, event: &Event) -> bool {
    let Event::Key(KeyEvent { code, modifiers, kind, .. }) = event else { return false };
    if *kind == KeyEventKind::Release {
        return false;
    }
    let control = modifiers.contains(KeyModifiers::CONTROL);
    match code {
        KeyCode::Char('c' | 'd') if control => return true,
        KeyCode::Char('q') | KeyCode::Esc => return true,
        KeyCode::Char('p' | ' ') => model.pause(),
        KeyCode::Char('l') => model.sort_by(Sort::Lag),
        KeyCode::Char('w') => model.sort_by(Sort::Waiting),
        KeyCode::Char('s') => model.sort_by(Sort::Shard),
        KeyCode::Char('c') => model.sort_by(Sort::Core),
        KeyCode::Up | KeyCode::Char('k') => model.scroll(Direction::Up, 1),
        KeyCode::Down | KeyCode::Char('j') => model.scroll(Direction::Down, 1),
        KeyCode::PageUp => model.scroll(Direction::Up, model.page_rows()),
        KeyCode::PageDown => model.scroll(Direction::Down, model.page_rows()),
        KeyCode::Home => model.scroll(Direction::Up, usize::MAX),
        KeyCode::End => model.scroll(Direction::Down, usize::MAX),
        KeyCode::Tab => model.select(Direction::Down),
        KeyCode::BackTab => model.select(Direction::Up),
        _ => {}
    }
    false
}

const ASK_EVERY: Duration = Duration::from_secs(1);
/// As a shell tells of a process that SIGHUP has ended.
const HUNG_UP: i32 = 128 + SIGHUP;
/// How long news may wait for the screen.
const LOOK_EVERY: Duration = Duration::from_millis(100);
