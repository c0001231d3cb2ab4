//! `ringway top`: a live view of this node: cores, latencies, upstreams' nodes, the version that is served and its way there.
//!
//! A thread of its own asks the planes, so that keys are heard also while one of them hangs. What is shown is what they told; when they
//! stop telling, that is shown and the old figures are not. `--once` and `--json` write the same for scripts, without a terminal.

use std::io::IsTerminal as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::crossterm::terminal::size;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use self::reading::Reading;
use self::sample::Sample;
use self::screen::{Sort, View};
use crate::failure::{Doing as _, Failure};
use crate::socket::Sockets;
use crate::terminal::say;

mod reading;
mod sample;
mod screen;
mod table;

/// Between two looks at the keys.
const KEYS_EVERY: Duration = Duration::from_millis(50);
/// Readings that the spark line is made of.
const HISTORY_MAX: usize = 240;
/// Without a terminal.
const WIDTH_DEFAULT: u16 = 100;
/// Lines that PgUp and PgDn go.
const PAGE_LINES: usize = 10;

/// What to show and how often.
#[derive(Debug, clap::Args)]
pub(crate) struct TopArgs {
    #[command(flatten)]
    sockets: Sockets,
    /// Seconds between two looks, from 0.2 to 60
    #[arg(short, long, default_value = "1", value_name = "SECONDS", value_parser = seconds)]
    interval: Duration,
    /// One look (two, an interval apart, for the rates), as text
    #[arg(long)]
    once: bool,
    /// JSON, one document a line and interval; with --once a single one
    #[arg(long)]
    json: bool,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let number = text.parse::<f64>().ok().filter(|number| (0.2..=60.0).contains(number));
    number.map(Duration::from_secs_f64).ok_or_else(|| "expected seconds from 0.2 to 60".to_owned())
}

/// Shows it until it is told to end. The exit code is that of `ringway status` for the last reading with `--once`, else 0.
pub(crate) fn run(args: &TopArgs) -> Result<u8, Failure> {
    if args.once || args.json {
        return Ok(written(args));
    }
    if !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal() {
        return Err(Failure::new("there is no terminal to draw on: give --once for text, or --json"));
    }
    let asked_to_end = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGHUP, SIGINT] {
        signal_hook::flag::register(signal, Arc::clone(&asked_to_end))
            .doing(|| "watch for signals".to_owned())?;
    }
    let samples = sampler(args);
    let mut terminal = ratatui::try_init().doing(|| "take the terminal".to_owned())?;
    let ended = App::new().show(&mut terminal, &samples, &asked_to_end);
    // Also where it failed: whoever is at the terminal wants it back.
    let restored = ratatui::try_restore();
    ended.and(restored).doing(|| "draw on the terminal".to_owned())?;
    Ok(0)
}

fn written(args: &TopArgs) -> u8 {
    let mut before = Sample::take(&args.sockets);
    loop {
        std::thread::sleep(args.interval);
        let now = Sample::take(&args.sockets);
        let reading = Reading::of(Some(&before), &now);
        if args.json {
            say(&reading.json().to_string());
        } else {
            let width = if std::io::stdout().is_terminal() {
                size().map_or(WIDTH_DEFAULT, |(width, _)| width)
            } else {
                WIDTH_DEFAULT
            };
            let view = View { reading: &reading, history: &[], sort: Sort::Name, paused: false, scroll: 0 };
            screen::text(&view, usize::from(width)).iter().for_each(|line| say(line));
        }
        if args.once {
            return now.report.verdict().exit_code();
        }
        before = now;
    }
}

/// Samples, one each interval, until nobody takes them.
fn sampler(args: &TopArgs) -> Receiver<Sample> {
    let (give, take): (Sender<Sample>, Receiver<Sample>) = mpsc::channel();
    let (sockets, interval) = (args.sockets.clone(), args.interval);
    // It ends with the process: nothing is lost with it.
    std::thread::spawn(move || {
        let mut next = Instant::now();
        while give.send(Sample::take(&sockets)).is_ok() {
            next += interval;
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
            next = next.max(Instant::now().checked_sub(interval).unwrap_or(next));
        }
    });
    take
}

/// Whether nobody holds the other end of the terminal any more.
fn has_hung_up() -> bool {
    let input = std::io::stdin();
    let mut waiting = [PollFd::new(&input, PollFlags::IN)];
    poll(&mut waiting, Some(&Timespec::default())).is_ok()
        && waiting.iter().any(|input| input.revents().intersects(PollFlags::HUP | PollFlags::ERR))
}

/// What the keys have set, and what is shown.
#[derive(Debug, Default)]
struct App {
    reading: Option<Reading>,
    before: Option<Sample>,
    history: Vec<f64>,
    sort: Sort,
    paused: bool,
    scroll: usize,
    scroll_max: usize,
}

impl App {
    fn new() -> App {
        App::default()
    }

    fn show(
        &mut self,
        terminal: &mut DefaultTerminal,
        samples: &Receiver<Sample>,
        asked_to_end: &AtomicBool,
    ) -> std::io::Result<()> {
        while !asked_to_end.load(Relaxed) && !has_hung_up() {
            let mut changed = match samples.recv_timeout(KEYS_EVERY) {
                Ok(sample) => self.take(sample),
                Err(RecvTimeoutError::Timeout) => false,
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(std::io::Error::other("the thread that asks the planes has ended"));
                }
            };
            // crossterm reads on for ever where the terminal has gone: a kill -9 of who held it is no signal to this process.
            while !has_hung_up() && event::poll(Duration::ZERO)? {
                match event::read()? {
                    Event::Key(key) if key.kind != KeyEventKind::Release => {
                        if !self.key(key) {
                            return Ok(());
                        }
                        changed = true;
                    }
                    Event::Resize(..) => changed = true,
                    _ => {}
                }
            }
            if changed {
                terminal.draw(|frame| self.draw(frame))?;
            }
        }
        Ok(())
    }

    /// A new sample; false while nothing new is shown.
    fn take(&mut self, sample: Sample) -> bool {
        let reading = Reading::of(self.before.as_ref(), &sample);
        self.before = Some(sample);
        if let Some(rate) = reading.rates.requests {
            self.history.push(rate);
            let over = self.history.len().saturating_sub(HISTORY_MAX);
            self.history.drain(..over);
        }
        if self.paused && self.reading.is_some() {
            return false;
        }
        self.reading = Some(reading);
        true
    }

    fn draw(&mut self, frame: &mut ratatui::Frame<'_>) {
        let Some(reading) = &self.reading else { return };
        let view = View {
            reading,
            history: &self.history,
            sort: self.sort,
            paused: self.paused,
            scroll: self.scroll,
        };
        self.scroll_max = screen::draw(frame, &view);
        self.scroll = self.scroll.min(self.scroll_max);
    }

    /// False: to end.
    fn key(&mut self, key: KeyEvent) -> bool {
        let scrolled = |app: &mut App, to: usize| app.scroll = to.min(app.scroll_max);
        match key.code {
            KeyCode::Char('q') | KeyCode::Esc => return false,
            KeyCode::Char('c' | 'd') if key.modifiers.contains(KeyModifiers::CONTROL) => return false,
            KeyCode::Char('p' | ' ') => self.paused = !self.paused,
            KeyCode::Char('s') => self.sort = self.sort.next(),
            KeyCode::Down | KeyCode::Char('j') => scrolled(self, self.scroll.saturating_add(1)),
            KeyCode::Up | KeyCode::Char('k') => scrolled(self, self.scroll.saturating_sub(1)),
            KeyCode::PageDown => scrolled(self, self.scroll.saturating_add(PAGE_LINES)),
            KeyCode::PageUp => scrolled(self, self.scroll.saturating_sub(PAGE_LINES)),
            KeyCode::Home | KeyCode::Char('g') => scrolled(self, 0),
            KeyCode::End | KeyCode::Char('G') => scrolled(self, usize::MAX),
            _ => {}
        }
        true
    }
}

#[cfg(test)]
mod tests;
