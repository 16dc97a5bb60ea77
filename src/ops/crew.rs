//! The tasks of one loop after another, on threads that stay awake between two.
//!
//! A forward pass of one picture is fifty loops of half a millisecond. Between two of them rayon's
//! threads fall asleep, and to wake one takes a tenth of that; and the thread that begins a loop would
//! sleep while others do it. Here it works too, and the others, which are rayon's, look for the next
//! loop a while before they go. All loops of a network are such: a loop of rayon's between them would
//! wake one thread more than there are processors.

use std::any::Any;
use std::cell::RefCell;
use std::hint::spin_loop;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use super::slices::Shared;

/// So long a helper looks for the next loop.
const PATIENCE: Duration = Duration::from_millis(1);
/// So long a helper helps, before it looks what else rayon has to do.
const SHIFT: Duration = Duration::from_secs(1);
/// Looks, of some tens of nanoseconds each, before a waiting thread lets others by.
const LOOKS: usize = 64;
/// So often the owner lets others by before it sleeps until the helpers are done.
const TURNS: usize = 256;

thread_local! {
    /// For the loops that this thread begins; none while it is at one.
    static OWN: RefCell<Option<Arc<Crew>>> = RefCell::new(Some(Arc::new(Crew::new())));
}

/// Calls a function with every number below `count`, each once, in any order, on all threads.
pub(super) fn each(count: usize, task: impl Fn(usize) + Sync) {
    let helpers = (rayon::current_num_threads() - 1).min(count.saturating_sub(1));
    if helpers == 0 {
        return (0..count).for_each(task);
    }
    let Some(crew) = OWN.take() else { return (0..count).for_each(task) };
    let panic = crew.each(count, &task, helpers);
    OWN.set(Some(crew));
    if let Some(panic) = panic {
        resume_unwind(panic);
    }
}

/// The same with pieces of a slice: all of one size, but for the last.
pub(crate) fn each_piece<T: Send>(values: &mut [T], size: usize, task: impl Fn(usize, &mut [T]) + Sync) {
    let (size, count, first) = (size.max(1), values.len(), Shared(values.as_mut_ptr()));
    each(count.div_ceil(size), |at| {
        let range = at * size..count.min((at + 1) * size);
        // SAFETY: each piece is inside and comes once.
        let piece = unsafe { std::slice::from_raw_parts_mut(first.at(range.start), range.len()) };
        task(at, piece);
    });
}

/// The same with the items of a slice.
pub(super) fn each_of<T: Sync>(items: &[T], task: impl Fn(&T) + Sync) {
    each(items.len(), |at| task(&items[at]));
}

/// What a function makes of every number below `count`, in order.
pub(super) fn all<T: Send>(count: usize, of: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let mut made = Vec::with_capacity(count);
    each_piece(&mut made.spare_capacity_mut()[..count], 1, |at, place| _ = place[0].write(of(at)));
    // SAFETY: every place was written.
    unsafe { made.set_len(count) };
    made
}

type Panic = Box<dyn Any + Send>;

struct Crew {
    owner: ThreadId,
    /// The loop that is under way.
    now: RwLock<Option<Loop>>,
    /// How many loops have begun.
    begun: AtomicUsize,
    /// How many threads look for loops, or are about to.
    helpers: AtomicUsize,
}

struct Loop {
    /// The owner takes the loop away before what this refers to ends.
    task: &'static (dyn Fn(usize) + Sync),
    /// What is next of each thread's part, and where that ends.
    parts: Vec<(AtomicUsize, usize)>,
    panic: Mutex<Option<Panic>>,
}

impl Crew {
    fn new() -> Crew {
        Crew {
            owner: thread::current().id(),
            now: RwLock::new(None),
            begun: AtomicUsize::new(0),
            helpers: AtomicUsize::new(0),
        }
    }

    /// The panic of a task, if one did.
    fn each(self: &Arc<Self>, count: usize, task: &(dyn Fn(usize) + Sync), helpers: usize) -> Option<Panic> {
        for _ in self.helpers.load(Ordering::Relaxed)..helpers {
            let (crew, at) = (self.clone(), self.helpers.fetch_add(1, Ordering::Relaxed) + 1);
            rayon::spawn(move || crew.help(at));
        }
        // SAFETY: only the lifetime changes. `taken` waits until nobody is at the loop, and nothing
        // before it unwinds.
        let task =
            unsafe { std::mem::transmute::<&(dyn Fn(usize) + Sync), &'static (dyn Fn(usize) + Sync)>(task) };
        let threads = helpers + 1;
        let parts =
            (0..threads).map(|at| (AtomicUsize::new(at * count / threads), (at + 1) * count / threads));
        let this = Loop { task, parts: parts.collect(), panic: Mutex::new(None) };
        *self.now.write().unwrap_or_else(PoisonError::into_inner) = Some(this);
        self.begun.fetch_add(1, Ordering::Release);
        if let Some(this) = &*self.now.read().unwrap_or_else(PoisonError::into_inner) {
            this.work(0);
        }
        self.taken()?.panic.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// The loop, when nobody is at it any more.
    fn taken(&self) -> Option<Loop> {
        for _ in 0..TURNS {
            for _ in 0..LOOKS {
                match self.now.try_write() {
                    Ok(mut now) => return now.take(),
                    Err(_) => spin_loop(),
                }
            }
            // It may be a helper who waits for this processor.
            thread::yield_now();
        }
        self.now.write().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Works at the owner's loops until there is none for a while.
    fn help(&self, at: usize) {
        let begin = Instant::now();
        let (mut seen, mut since) = (None, begin);
        // While it waits for others, the owner may come upon this itself.
        while thread::current().id() != self.owner && since.elapsed() < PATIENCE && begin.elapsed() < SHIFT {
            for _ in 0..LOOKS {
                let begun = Some(self.begun.load(Ordering::Acquire));
                if begun != seen {
                    seen = begun;
                    if let Ok(now) = self.now.try_read()
                        && let Some(this) = &*now
                    {
                        this.work(at);
                    }
                    since = Instant::now();
                }
                spin_loop();
            }
            rayon::yield_now();
            thread::yield_now();
        }
        self.helpers.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Loop {
    /// Does a thread's own part, which is near it since the loop before, and what is left of the others'.
    fn work(&self, at: usize) {
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            for part in at..at + self.parts.len() {
                let (next, end) = &self.parts[part % self.parts.len()];
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    if at >= *end {
                        break;
                    }
                    (self.task)(at);
                }
            }
        }));
        if let Err(panic) = outcome {
            self.parts.iter().for_each(|(next, end)| next.store(*end, Ordering::Relaxed));
            *self.panic.lock().unwrap_or_else(PoisonError::into_inner) = Some(panic);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use super::*;

    #[test]
    fn every_number_comes_once() {
        for count in [0, 1, 2, 3, 1000] {
            let found: Vec<AtomicU32> = (0..count).map(|_| AtomicU32::new(0)).collect();
            each(count, |at| _ = found[at].fetch_add(1, Ordering::Relaxed));
            assert!(found.iter().all(|times| times.load(Ordering::Relaxed) == 1));
        }
    }

    #[test]
    fn loops_of_many_threads_and_within_loops_end() {
        let sum = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        each(5, |_| {
                            each(3, |at| _ = sum.fetch_add(at, Ordering::Relaxed));
                        });
                    }
                });
            }
            rayon::scope(|scope| {
                for _ in 0..100 {
                    scope.spawn(|_| {
                        each(7, |_| {
                            let both = rayon::join(|| 1, || 2);
                            sum.fetch_add(both.0 + both.1, Ordering::Relaxed);
                        })
                    });
                }
            });
        });
        assert_eq!(sum.into_inner(), 4 * 200 * 5 * 3 + 100 * 7 * 3);
    }

    #[test]
    fn a_panic_is_the_callers_and_the_next_loop_works() {
        let panic = catch_unwind(|| each(100, |at| assert!(at != 40, "at forty")));
        assert_eq!(panic.unwrap_err().downcast_ref::<&str>(), Some(&"at forty"));
        every_number_comes_once();
    }
}
