//! The process that runs the cells: it loads the library that evcxr compiled, calls it, and notifies the
//! kernel.
//!
//! evcxr's commands arrive on standard input and its markers go to standard output. Both are moved to other
//! descriptors: a cell's standard input is empty, and its output goes into the kernel's
//! [`crate::platform::pipes`].

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::mpsc;

use headstart_frame::{
    ANSWERS_VARIABLE, CELL_IS_OVER, DESCRIBE_VARIABLES, DROP_VARIABLES, Frame, LIBRARY_VARIABLE,
    RECEIVE_COMM, RUN_CALLBACKS,
};

use crate::compile::evcxr_text::protocol::{COMPLETE, RUNTIME_VARIABLE, cell_to_run};
use crate::compile::variables::MARKER;
use crate::platform::environment;
use crate::platform::pipes::{self, BEGINS, CALLBACKS_BEGIN, CALLBACKS_END, END, IS_OVER};
use crate::platform::{programs, rustc_wrapper};

/// Whether a cell's code is running.
static IS_RUNNING: AtomicBool = AtomicBool::new(false);

/// Whether this process was forked from the process that runs the cells.
static IS_FORKED: AtomicBool = AtomicBool::new(false);
/// Pipes that a forked process closes.
static PIPES: [AtomicI32; 4] = [const { AtomicI32::new(-1) }; 4];

/// Longest time that destructors may take at the end of this process, in seconds: no kernel is left to kill it.
const EXIT_TIMEOUT_S: libc::c_uint = 5;

/// Error for a cell that was not run.
const OTHER_STORE: &str = "the cell was compiled for another variable store than the cells before it, so it was not run\n\
    hint: another program than the kernel's compiled it; take back what changed the compiler, such as \
    `:build_env RUSTC_WRAPPER=…`, or start again with `:restart`";

/// A compiled cell.
struct Cell {
    run: extern "C" fn(*mut libc::c_void) -> *mut libc::c_void,
    /// Whether the source was rewritten to use the prelude's variable store.
    has_preludes_store: bool,
}

/// If this process was started to run cells, runs them and does not return.
pub fn hook() {
    if std::env::var_os(RUNTIME_VARIABLE).is_some() {
        // SAFETY: no other thread runs yet.
        let run = unsafe {
            rustc_wrapper::forget();
            environment::take_over();
            // evcxr has set it for this process only.
            std::env::remove_var(RUNTIME_VARIABLE);
            run()
        };
        if let Err(error) = &run {
            eprintln!("the process of the cells cannot go on: {error}");
        }
        end_programs(libc::SIGTERM);
        // SAFETY: SIGALRM ends this process if a destructor does not return.
        unsafe { libc::alarm(EXIT_TIMEOUT_S) };
        std::process::exit(i32::from(run.is_err()));
    }
    // The rustc wrapper of evcxr.
    evcxr::runtime_hook();
}

/// Runs cells until evcxr closes the command pipe.
///
/// # Safety
/// Sets environment variables: no other thread may run.
unsafe fn run() -> io::Result<()> {
    programs::lead_group();
    // SAFETY: the caller's promise.
    let mut process = unsafe { Process::new() }?;
    for command in process.commands.iter() {
        match command {
            Command::Callbacks => process.run.callbacks()?,
            Command::End => {
                process.run.drop_variables();
                return Ok(());
            }
            Command::Cell(command) => match cell_to_run(&command) {
                Some((path, function)) => process.run.cell(path, function)?,
                None => eprintln!("the kernel sent an unknown command: {command}"),
            },
        }
    }
    Ok(())
}

/// Work for the thread that runs the cells.
enum Command {
    /// A line from evcxr.
    Cell(String),
    /// Callbacks of widgets wait.
    Callbacks,
    /// evcxr has closed the command pipe.
    End,
}

struct Process {
    commands: mpsc::Receiver<Command>,
    run: Run,
}

struct Run {
    /// Pipe that evcxr reads.
    evcxr: File,
    notes: File,
    replies: BufReader<File>,
    /// Store of the cells' variables; null before the first cell that has one.
    store: *mut libc::c_void,
    /// Whether the store is the prelude's, and not one that evcxr's own source created.
    is_preludes: bool,
}

impl Process {
    unsafe fn new() -> io::Result<Process> {
        let missing =
            || io::Error::other(format!("{} is not set: only a kernel starts this", pipes::VARIABLE));
        let variable = std::env::var(pipes::VARIABLE).map_err(|_| missing())?;
        let [out, err, notes, replies, answers, comms] = pipes::inherited(&variable).ok_or_else(missing)?;
        for descriptor in [&notes, &replies, &answers, &comms] {
            // SAFETY: it is open. Programs that a cell starts do not inherit it.
            unsafe { libc::fcntl(descriptor.as_raw_fd(), libc::F_SETFD, libc::FD_CLOEXEC) };
        }
        // SAFETY: the caller's promise. The descriptor stays open for the prelude, which opens it by its number.
        unsafe {
            std::env::remove_var(pipes::VARIABLE);
            std::env::set_var(ANSWERS_VARIABLE, std::os::fd::IntoRawFd::into_raw_fd(answers).to_string());
        }
        let commands = replace(libc::STDIN_FILENO, &File::open("/dev/null")?.into())?;
        let evcxr = replace(libc::STDOUT_FILENO, &out)?;
        replace(libc::STDERR_FILENO, &err)?;
        close_in_forked([commands.as_raw_fd(), evcxr.as_raw_fd(), notes.as_raw_fd(), replies.as_raw_fd()]);
        let run = Run {
            evcxr,
            notes: notes.into(),
            replies: BufReader::new(replies.into()),
            store: std::ptr::null_mut(),
            is_preludes: false,
        };
        let (sender, receiver) = mpsc::channel();
        receive_comms(comms.into(), sender.clone())?;
        read(commands, sender)?;
        Ok(Process { commands: receiver, run })
    }
}

/// Replaces a standard descriptor by another, and returns the old one.
fn replace(standard: RawFd, other: &OwnedFd) -> io::Result<File> {
    // SAFETY: both are open, and nothing has used the standard one yet.
    unsafe {
        let saved = libc::fcntl(standard, libc::F_DUPFD_CLOEXEC, 3);
        if saved < 0 || libc::dup2(other.as_raw_fd(), standard) < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(File::from_raw_fd(saved))
    }
}

/// Reads the lines of the command pipe. At its end, the kernel has gone, so a running cell is ended too.
fn read(commands: File, sender: mpsc::Sender<Command>) -> io::Result<()> {
    std::thread::Builder::new().name("commands".into()).spawn(move || {
        for line in BufReader::new(commands).lines().map_while(Result::ok) {
            if sender.send(Command::Cell(line)).is_err() {
                return;
            }
        }
        if IS_RUNNING.load(Ordering::SeqCst) {
            end_programs(libc::SIGKILL);
            // SAFETY: ends the process without destructors, which could conflict with the cell's threads.
            unsafe { libc::_exit(0) }
        }
        let _ = sender.send(Command::End);
    })?;
    Ok(())
}

/// Makes a process that a cell forks close its copies of these pipes: the kernel detects the end of this process by
/// the end of its pipe.
fn close_in_forked(pipes: [RawFd; 4]) {
    extern "C" fn close() {
        IS_FORKED.store(true, Ordering::SeqCst);
        for pipe in &PIPES {
            // SAFETY: the forked process never uses them, because it ends with the cell.
            unsafe { libc::close(pipe.load(Ordering::SeqCst)) };
        }
    }
    for (saved, pipe) in PIPES.iter().zip(pipes) {
        saved.store(pipe, Ordering::SeqCst);
    }
    // SAFETY: the function uses only atomics and `close`, as a forked process may.
    unsafe { libc::pthread_atfork(None, None, Some(close)) };
}

/// Ends this process if a cell has forked it: only the original process belongs to the kernel.
fn end_if_forked() {
    if IS_FORKED.load(Ordering::SeqCst) {
        let _ = io::stdout().flush();
        // SAFETY: ends the process without destructors, which belong to the original process.
        unsafe { libc::_exit(0) }
    }
}

/// Sends a signal to the programs that the cells have started. SIGKILL ends this process, too.
fn end_programs(signal: libc::c_int) {
    if programs::leads_group() {
        // SAFETY: signals the group of this process.
        unsafe {
            libc::signal(libc::SIGTERM, libc::SIG_IGN);
            libc::kill(0, signal);
        }
    }
}

/// Passes the client's messages to the prelude's comms, also while a cell runs. Callbacks run after the cell,
/// in its thread.
fn receive_comms(comms: File, sender: mpsc::Sender<Command>) -> io::Result<()> {
    let receive = move || {
        for line in BufReader::new(comms).lines().map_while(Result::ok) {
            let (Some(function), Ok(line)) = (prelude_function(RECEIVE_COMM), CString::new(line)) else {
                continue;
            };
            // SAFETY: the symbol is a function of this type.
            let receive = unsafe {
                std::mem::transmute::<*mut libc::c_void, extern "C" fn(*const libc::c_char) -> bool>(function)
            };
            if receive(line.as_ptr()) && sender.send(Command::Callbacks).is_err() {
                return;
            }
        }
    };
    std::thread::Builder::new().name("comms".into()).spawn(receive)?;
    Ok(())
}

impl Run {
    /// Runs the callbacks that wait, if a previous command has not run them.
    fn callbacks(&mut self) -> io::Result<()> {
        let Some(function) = prelude_function(RUN_CALLBACKS) else { return Ok(()) };
        IS_RUNNING.store(true, Ordering::SeqCst);
        writeln!(self.notes, "{CALLBACKS_BEGIN}")?;
        // Discards an interrupt that arrived too late for the previous cell.
        notify_prelude();
        // SAFETY: the symbol is a function of this type.
        unsafe { std::mem::transmute::<*mut libc::c_void, extern "C" fn()>(function)() };
        end_if_forked();
        notify_prelude();
        writeln!(self.notes, "{CALLBACKS_END}")?;
        IS_RUNNING.store(false, Ordering::SeqCst);
        Ok(())
    }

    /// Sends descriptions of the variables in the prelude's store.
    fn describe_variables(&self) {
        if let (true, Some(function)) = (self.is_preludes, prelude_function(DESCRIBE_VARIABLES)) {
            // SAFETY: the symbol is a function of this type, and no cell uses the store now.
            unsafe {
                std::mem::transmute::<*mut libc::c_void, extern "C" fn(*mut libc::c_void)>(function)(
                    self.store,
                );
            }
        }
    }

    /// Drops the variables in the prelude's store, as a program does at its end.
    fn drop_variables(&self) {
        if let (true, Some(function)) = (self.is_preludes, prelude_function(DROP_VARIABLES)) {
            // SAFETY: the symbol is a function of this type, and no cell uses the store now.
            unsafe { std::mem::transmute::<*mut libc::c_void, extern "C" fn()>(function)() };
        }
    }

    fn cell(&mut self, path: &str, function: &str) -> io::Result<()> {
        IS_RUNNING.store(true, Ordering::SeqCst);
        // Discards an interrupt that arrived too late for the previous cell.
        notify_prelude();
        match load(path, function) {
            // The two stores have different layouts: neither cell may see the other's.
            Ok(cell) if !self.store.is_null() && cell.has_preludes_store != self.is_preludes => {
                let message = OTHER_STORE.to_owned();
                println!("{}", Frame::Failed { message, file: String::new(), line: 0 }.encode());
            }
            Ok(cell) => {
                writeln!(self.notes, "{BEGINS}")?;
                self.is_preludes = cell.has_preludes_store;
                self.store = (cell.run)(self.store);
                end_if_forked();
                self.describe_variables();
            }
            Err(problem) => {
                let message = format!("the compiled cell cannot be loaded: {problem}");
                println!("{}", Frame::Failed { message, file: String::new(), line: 0 }.encode());
            }
        }
        // The kernel continues to read meanwhile, so a thread that prints does not block this.
        notify_prelude();
        let _ = io::stdout().flush();
        // C has its own output buffer, for example for `puts`.
        // SAFETY: flushes all output streams of C.
        unsafe { libc::fflush(std::ptr::null_mut()) };
        writeln!(self.notes, "{IS_OVER}")?;
        let mut lines = String::new();
        let end = format!("{END}\n");
        while !lines.ends_with(&end) {
            if self.replies.read_line(&mut lines)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        IS_RUNNING.store(false, Ordering::SeqCst);
        let markers = &lines[..lines.len() - end.len()];
        self.evcxr.write_all(format!("{markers}{COMPLETE}\n").as_bytes())
    }
}

/// Loads a compiled cell. Its library is never unloaded, because variables and threads may point into it.
fn load(path: &str, function: &str) -> Result<Cell, String> {
    let name = |text: &str| CString::new(text).map_err(|error| error.to_string());
    let (path, function) = (name(path)?, name(function)?);
    // SAFETY: evcxr compiled the library for this process, with a function of this type.
    unsafe {
        let library = libc::dlopen(path.as_ptr(), libc::RTLD_LAZY | libc::RTLD_LOCAL);
        let symbol = match library.is_null() {
            true => std::ptr::null_mut(),
            false => libc::dlsym(library, function.as_ptr()),
        };
        match symbol.is_null() {
            true => Err(CStr::from_ptr(libc::dlerror()).to_string_lossy().into_owned()),
            false => Ok(Cell {
                run: std::mem::transmute::<
                    *mut libc::c_void,
                    extern "C" fn(*mut libc::c_void) -> *mut libc::c_void,
                >(symbol),
                has_preludes_store: !libc::dlsym(library, MARKER.as_ptr()).is_null(),
            }),
        }
    }
}

/// Calls the prelude's function for the beginning and the end of a cell, if the prelude is loaded.
fn notify_prelude() {
    if let Some(function) = prelude_function(CELL_IS_OVER) {
        // SAFETY: the symbol is a function of this type.
        unsafe { std::mem::transmute::<*mut libc::c_void, extern "C" fn()>(function)() };
    }
}

/// A function of the prelude, if the prelude is loaded.
fn prelude_function(name: &CStr) -> Option<*mut libc::c_void> {
    let library = CString::new(std::env::var(LIBRARY_VARIABLE).ok()?).ok()?;
    // SAFETY: loads no new library.
    unsafe {
        let handle = libc::dlopen(library.as_ptr(), libc::RTLD_NOLOAD | libc::RTLD_LAZY);
        let function = if handle.is_null() { handle } else { libc::dlsym(handle, name.as_ptr()) };
        (!function.is_null()).then_some(function)
    }
}
