//! Central state of the running cell, and the actions of Stop.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Child;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use headstart_frame::Answer;
use tokio::sync::mpsc::Sender;

use crate::engine::known::Known;
use crate::engine::output::{CellError, Event};
use crate::engine::phase::{Action, Phase, Request};
use crate::engine::question::Question;
use crate::platform::programs;

/// Longest time between Stop and the end of a cell's code before the cell is killed (5 s).
pub const STOP_TIMEOUT: Duration = Duration::from_secs(5);
/// Interval at which compilers are killed after Stop (50 ms): evcxr starts another when one fails.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// The process that runs the cells, and its state.
#[derive(Default)]
pub struct Cells {
    pub child: OnceLock<Arc<Mutex<Child>>>,
    pub known: Known,
    /// Process groups of programs that shell commands of cells have left in the background.
    shells: Mutex<Vec<i32>>,
    /// Id of the cells' process, which leads a process group; 0 before the first one.
    leader: AtomicI32,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// `None` while evcxr and the prelude are being loaded.
    phase: Option<Phase>,
    /// Changes with each cell, to distinguish one cell from the next.
    cell: u64,
    /// Cells that wait or run: their numbers, and the channels for their end.
    expected: Vec<(u64, Sender<Event>)>,
    /// Number of the last cell that was queued.
    next: u64,
    /// Number of times that Stop was pressed in this cell.
    presses: usize,
    /// Whether Stop was pressed after the cell's code had ended: no further part of the cell begins.
    is_late: bool,
    /// Time at which the running code was asked to stop.
    asked: Option<Instant>,
    question: Option<Question>,
    /// Whether a callback of a widget runs. A cell may be prepared meanwhile.
    is_calling_back: bool,
    /// Changes with each callback.
    callback: u64,
    /// Time at which the running callback was asked to stop.
    callback_asked: Option<Instant>,
    /// Whether the kernel ends and no more cells will run.
    is_stopping: bool,
}

impl State {
    fn phase(&self) -> Phase {
        match self.phase.unwrap_or(Phase::Loading) {
            Phase::Idle if self.is_calling_back => Phase::CallingBack,
            phase => phase,
        }
    }

    fn is_running(&self) -> bool {
        matches!(self.phase(), Phase::Running | Phase::Asking)
    }
}

impl Cells {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a cell and returns its number.
    pub fn expect(&self, events: Sender<Event>) -> u64 {
        let mut state = self.state();
        state.next += 1;
        let number = state.next;
        state.expected.push((number, events));
        number
    }

    /// Records that evcxr and the prelude have loaded, or failed to load.
    pub fn is_loaded(&self) {
        self.state().phase = Some(Phase::Idle);
    }

    /// Starts a cell; `false` if it was cancelled while it waited.
    pub fn begin(&self, number: u64) -> bool {
        let mut state = self.state();
        if !state.expected.iter().any(|(known, _)| *known == number) {
            return false;
        }
        state.cell += 1;
        (state.presses, state.asked, state.phase) = (0, None, Some(Phase::Preparing));
        state.is_late = false;
        true
    }

    /// Starts the next part of the running cell; `false` if Stop was pressed at the end of the part before.
    pub fn begin_part(&self) -> bool {
        let mut state = self.state();
        state.phase = Some(Phase::Preparing);
        !state.is_late
    }

    /// Records that the cell's code starts to run. The kernel's own code does not count as a cell.
    pub fn runs(&self) {
        let mut state = self.state();
        if state.phase() == Phase::Preparing {
            state.phase = Some(Phase::Running);
            if state.presses > 0 {
                // Stop was pressed too late to stop the compiler.
                state.asked = Some(Instant::now());
                self.signal(libc::SIGINT);
            }
        }
        self.changed.notify_all();
    }

    /// Records that a command of the cell replaces the cells' process and prepares the new one.
    pub fn restarts(&self) {
        self.state().phase = Some(Phase::Restarting);
    }

    /// Records that the new process is ready for code. Returns whether Stop was pressed meanwhile or before.
    pub fn has_restarted(&self) -> bool {
        let mut state = self.state();
        state.phase = Some(Phase::Preparing);
        state.presses > 0
    }

    /// Records that the cell's code has ended; evcxr may compile and run it once more.
    pub fn has_run(&self) {
        let mut state = self.state();
        if state.is_running() {
            state.phase = Some(Phase::Preparing);
        }
        state.question = None;
        self.changed.notify_all();
    }

    /// Records that callbacks start to run.
    pub fn callbacks_begin(&self) {
        let mut state = self.state();
        state.callback += 1;
        (state.is_calling_back, state.callback_asked) = (true, None);
    }

    /// Records that the callbacks have ended.
    pub fn callbacks_end(&self) {
        let mut state = self.state();
        (state.is_calling_back, state.callback_asked) = (false, None);
        self.changed.notify_all();
    }

    /// Handles a request for input from the cell's code.
    pub fn asks(&self, question: Question) {
        let mut state = self.state();
        let answer = match state.phase() {
            Phase::Running if state.presses == 0 => {
                state.phase = Some(Phase::Asking);
                state.question = Some(question);
                return;
            }
            Phase::Running => Answer::Interrupted,
            // A background thread asks while no cell is running.
            _ => Answer::NoInput,
        };
        drop(state);
        question.answer(&answer);
    }

    /// Records that the question was answered.
    pub fn was_answered(&self) {
        let mut state = self.state();
        if state.phase() == Phase::Asking {
            state.phase = Some(Phase::Running);
        }
        state.question = None;
    }

    /// Records that the user's code has ended. Stop does not affect what the kernel runs for the cell after
    /// that.
    pub fn finish(&self) {
        let mut state = self.state();
        state.cell += 1;
        (state.presses, state.asked, state.phase) = (0, None, Some(Phase::Finishing));
        self.changed.notify_all();
    }

    /// Ends the cell.
    pub fn end(&self, number: u64) {
        let mut state = self.state();
        state.cell += 1;
        state.phase = Some(Phase::Idle);
        state.expected.retain(|(known, _)| *known != number);
        let question = state.question.take();
        self.changed.notify_all();
        drop(state);
        if let Some(question) = question {
            question.withdraw();
        }
    }

    /// Whether a cell runs or waits.
    pub fn is_busy(&self) -> bool {
        !self.state().expected.is_empty()
    }

    /// Whether Stop was pressed in this cell.
    pub fn is_interrupted(&self) -> bool {
        self.state().presses > 0
    }

    /// Whether the kernel is ending.
    pub fn is_stopping(&self) -> bool {
        self.state().is_stopping
    }

    /// Handles a press of Stop.
    pub fn interrupt(self: &Arc<Cells>) {
        let mut state = self.state();
        let was_pressed = match state.phase() {
            Phase::CallingBack => state.callback_asked.is_some(),
            _ => state.presses > 0,
        };
        let request = if was_pressed { Request::StopAgain } else { Request::Stop };
        let action = state.phase().action(request);
        if action == Action::Nothing {
            state.is_late = true;
            return cancel(state, "before it began");
        }
        if action == Action::CancelWaiting {
            return cancel(state, "before it began, while the prelude was being loaded");
        }
        if state.is_calling_back {
            // A cell that is being prepared cannot begin before the callback ends. If its process is killed, the cell
            // goes on, and reports that.
            let is_killed = state.callback_asked.is_some();
            self.stop_callback(&mut state);
            if is_killed || state.phase() == Phase::CallingBack {
                return;
            }
        }
        state.presses += 1;
        if request == Request::Stop {
            let (cells, cell) = (self.clone(), state.cell);
            std::thread::spawn(move || cells.follow(cell));
        }
        match action {
            Action::StopPrograms => {
                drop(state);
                programs::kill_all();
            }
            Action::Postpone => {}
            Action::Interrupt | Action::InterruptQuestion => {
                state.asked = Some(Instant::now());
                self.signal(libc::SIGINT);
                let question = state.question.take();
                drop(state);
                if let Some(question) = question {
                    question.answer(&Answer::Interrupted);
                }
            }
            _ => self.kill(),
        }
    }

    /// Asks the running callback to stop. At the second time, or when it does not stop in time, its process is killed.
    fn stop_callback(self: &Arc<Cells>, state: &mut State) {
        if state.callback_asked.is_some() {
            return self.kill();
        }
        state.callback_asked = Some(Instant::now());
        self.signal(libc::SIGINT);
        let (cells, callback) = (self.clone(), state.callback);
        std::thread::spawn(move || cells.follow_callback(callback));
    }

    /// Kills the process of a callback that does not stop in time.
    fn follow_callback(&self, callback: u64) {
        let end = Instant::now() + STOP_TIMEOUT;
        let mut state = self.state();
        while state.is_calling_back && state.callback == callback {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return self.kill();
            }
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Kills each compiler that starts after Stop, and code that does not stop, until the cell ends.
    fn follow(&self, cell: u64) {
        let mut state = self.state();
        while state.cell == cell {
            match state.phase() {
                Phase::Preparing => {
                    drop(state);
                    programs::kill_all();
                    state = self.state();
                }
                _ if state.asked.is_some_and(|asked| asked.elapsed() > STOP_TIMEOUT) => {
                    self.kill();
                    return;
                }
                _ => {}
            }
            if state.cell == cell {
                let waited = self.changed.wait_timeout(state, POLL_INTERVAL);
                state = waited.unwrap_or_else(PoisonError::into_inner).0;
            }
        }
    }

    /// Shuts down without waiting for running work.
    pub fn shut_down(&self) {
        let mut state = self.state();
        state.is_stopping = true;
        let action = state.phase().action(Request::Shutdown);
        cancel(state, "because the kernel ends");
        if action == Action::KillAll {
            programs::kill_all();
            self.kill();
        }
    }

    /// Kills the cells' process; evcxr starts another.
    pub fn kill(&self) {
        self.signal(libc::SIGKILL);
    }

    /// Signals the cells' process and the programs that it has started.
    fn signal(&self, signal: i32) {
        if let Some(Ok(child)) = self.child.get().map(|child| child.lock()) {
            programs::signal_group(child.id() as i32, signal);
        }
    }

    /// Current folder of the cells' process, where the system tells.
    pub fn folder(&self) -> Option<PathBuf> {
        let child = self.child.get()?.lock().ok()?.id();
        std::fs::read_link(format!("/proc/{child}/cwd")).ok().filter(|folder| folder.is_dir())
    }

    /// Records the cells' process. If evcxr has replaced it, kills the programs that the previous one has started.
    pub fn process_has_changed(&self) {
        let child = self.child.get().and_then(|child| child.lock().ok().map(|child| child.id() as i32));
        let Some(child) = child else { return };
        let previous = self.leader.swap(child, Ordering::SeqCst);
        if previous != child && previous != 0 {
            programs::kill_rest_of_group(previous);
        }
    }

    /// Records the process group of a shell command that has ended, if programs in the background remain.
    pub fn has_left(&self, shell: i32) {
        if !programs::has_group(shell) {
            return;
        }
        self.shells.lock().unwrap_or_else(PoisonError::into_inner).push(shell);
    }

    /// Kills the programs that the cells have started, after the end of their process.
    pub fn end_programs(&self) {
        for shell in std::mem::take(&mut *self.shells.lock().unwrap_or_else(PoisonError::into_inner)) {
            programs::kill_rest_of_group(shell);
        }
        let leader = self.leader.swap(0, Ordering::SeqCst);
        if leader != 0 {
            programs::kill_rest_of_group(leader);
        }
    }
}

/// Cancels the waiting cells, but not the running one.
fn cancel(mut state: MutexGuard<'_, State>, when: &str) {
    let is_at_work = !matches!(state.phase(), Phase::Loading | Phase::Idle | Phase::CallingBack);
    let kept = usize::from(is_at_work).min(state.expected.len());
    let waiting: Vec<_> = state.expected.drain(kept..).collect();
    drop(state);
    for (_, events) in waiting {
        // A waiting cell has produced no output, so its channel has capacity.
        let _ = events.try_send(Event::Done(Err(CellError::interrupted(when, &BTreeSet::new()))));
    }
}
