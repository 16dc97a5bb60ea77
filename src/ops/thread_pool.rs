//! Parallel loops on a thread pool whose workers stay awake between two loops.
//!
//! A forward pass of one image runs about fifty parallel loops of half a millisecond each. Between two
//! loops rayon's threads go to sleep, and waking one costs a tenth of a loop. In rayon the calling
//! thread sleeps too while others work. Here the caller works as well, and the workers (tasks on
//! rayon's threads) poll for the next loop before they return to rayon.
//!
//! All CPU operations of the library use these loops. A rayon loop between them would wake one thread
//! more than there are cores.

use std::any::Any;
use std::cell::RefCell;
use std::hint::spin_loop;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use super::output_ptr::OutputPtr;

/// How long an idle worker polls for the next loop before it returns to rayon (1 ms: about two loops).
const IDLE_TIMEOUT: Duration = Duration::from_millis(1);
/// Longest time a worker stays in this pool before it returns to rayon (1 s: rayon's other tasks must
/// not starve).
const MAX_WORKER_TIME: Duration = Duration::from_secs(1);
/// Polls before a waiting thread yields its core (64 polls of some tens of nanoseconds: a few µs).
const POLLS_PER_YIELD: usize = 64;
/// Yields before the caller blocks until the workers are done (256: about half a millisecond of polling).
const MAX_YIELDS: usize = 256;

thread_local! {
    /// Runs the loops that this thread starts; `None` while one of them runs.
    static POOL: RefCell<Option<Arc<ThreadPool>>> = RefCell::new(Some(Arc::new(ThreadPool::new())));
}

/// Calls `task` once with every index below `count`, in any order, on all threads.
pub(super) fn parallel_for(count: usize, task: impl Fn(usize) + Sync) {
    let workers = (rayon::current_num_threads() - 1).min(count.saturating_sub(1));
    if workers == 0 {
        return (0..count).for_each(task);
    }
    let Some(pool) = POOL.take() else { return (0..count).for_each(task) };
    let panic = pool.parallel_for(count, &task, workers);
    POOL.set(Some(pool));
    if let Some(panic) = panic {
        resume_unwind(panic);
    }
}

/// Calls `task` with every chunk of a slice and its index. The last chunk may be shorter.
pub(crate) fn parallel_chunks_mut<T: Send>(
    values: &mut [T],
    size: usize,
    task: impl Fn(usize, &mut [T]) + Sync,
) {
    let (size, count, first) = (size.max(1), values.len(), OutputPtr(values.as_mut_ptr()));
    parallel_for(count.div_ceil(size), |index| {
        let range = index * size..count.min((index + 1) * size);
        // SAFETY: chunks lie inside the slice, and each is visited once.
        let chunk = unsafe { std::slice::from_raw_parts_mut(first.at(range.start), range.len()) };
        task(index, chunk);
    });
}

/// Calls `task` with every item of a slice.
pub(super) fn parallel_for_each<T: Sync>(items: &[T], task: impl Fn(&T) + Sync) {
    parallel_for(items.len(), |index| task(&items[index]));
}

/// Collects `map(index)` for every index below `count`, in order.
pub(super) fn parallel_map<T: Send>(count: usize, map: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let mut results = Vec::with_capacity(count);
    parallel_chunks_mut(&mut results.spare_capacity_mut()[..count], 1, |index, slot| {
        _ = slot[0].write(map(index))
    });
    // SAFETY: every slot was written.
    unsafe { results.set_len(count) };
    results
}

type Panic = Box<dyn Any + Send>;

/// The pool of one calling thread.
struct ThreadPool {
    caller: ThreadId,
    /// The loop that runs, if any. Workers hold a read lock while they work on it.
    current: RwLock<Option<ParallelLoop>>,
    /// Number of loops started so far; workers compare it to detect a new loop.
    started: AtomicUsize,
    /// Number of workers in the pool, including those that rayon has not started yet.
    workers: AtomicUsize,
}

struct ParallelLoop {
    /// Borrowed from the caller, which removes the loop before the borrow ends.
    task: &'static (dyn Fn(usize) + Sync),
    /// For each thread's share of the indices: the next index and the end.
    shares: Vec<(AtomicUsize, usize)>,
    panic: Mutex<Option<Panic>>,
}

impl ThreadPool {
    fn new() -> ThreadPool {
        ThreadPool {
            caller: thread::current().id(),
            current: RwLock::new(None),
            started: AtomicUsize::new(0),
            workers: AtomicUsize::new(0),
        }
    }

    /// Runs a loop to its end. Returns the panic of a task, if one panicked.
    fn parallel_for(
        self: &Arc<Self>,
        count: usize,
        task: &(dyn Fn(usize) + Sync),
        workers: usize,
    ) -> Option<Panic> {
        for _ in self.workers.load(Ordering::Relaxed)..workers {
            let (pool, thread_index) = (self.clone(), self.workers.fetch_add(1, Ordering::Relaxed) + 1);
            rayon::spawn(move || pool.run_worker(thread_index));
        }
        // SAFETY: only the lifetime changes. `take_finished` waits until no thread works on the loop,
        // and nothing before it unwinds.
        let task =
            unsafe { std::mem::transmute::<&(dyn Fn(usize) + Sync), &'static (dyn Fn(usize) + Sync)>(task) };
        let threads = workers + 1;
        let shares = (0..threads)
            .map(|index| (AtomicUsize::new(index * count / threads), (index + 1) * count / threads));
        let parallel_loop = ParallelLoop { task, shares: shares.collect(), panic: Mutex::new(None) };
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Some(parallel_loop);
        self.started.fetch_add(1, Ordering::Release);
        if let Some(parallel_loop) = &*self.current.read().unwrap_or_else(PoisonError::into_inner) {
            parallel_loop.work(0);
        }
        self.take_finished()?.panic.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until no worker holds the loop, then removes it.
    fn take_finished(&self) -> Option<ParallelLoop> {
        for _ in 0..MAX_YIELDS {
            for _ in 0..POLLS_PER_YIELD {
                match self.current.try_write() {
                    Ok(mut current) => return current.take(),
                    Err(_) => spin_loop(),
                }
            }
            // A worker may be waiting for this core.
            thread::yield_now();
        }
        self.current.write().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Works on the caller's loops until none starts within [`IDLE_TIMEOUT`].
    fn run_worker(&self, thread_index: usize) {
        let start = Instant::now();
        let (mut last_seen, mut last_work) = (None, start);
        // rayon may run this task on the calling thread itself, which must not wait for its own loops.
        while thread::current().id() != self.caller
            && last_work.elapsed() < IDLE_TIMEOUT
            && start.elapsed() < MAX_WORKER_TIME
        {
            for _ in 0..POLLS_PER_YIELD {
                let started = Some(self.started.load(Ordering::Acquire));
                if started != last_seen {
                    last_seen = started;
                    if let Ok(current) = self.current.try_read()
                        && let Some(parallel_loop) = &*current
                    {
                        parallel_loop.work(thread_index);
                    }
                    last_work = Instant::now();
                }
                spin_loop();
            }
            rayon::yield_now();
            thread::yield_now();
        }
        self.workers.fetch_sub(1, Ordering::Relaxed);
    }
}

impl ParallelLoop {
    /// Works through one thread's share, then steals from the shares of the others.
    ///
    /// Loops over the same data give a thread the same share, which is still in its cache.
    fn work(&self, thread_index: usize) {
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            for share in thread_index..thread_index + self.shares.len() {
                let (next, end) = &self.shares[share % self.shares.len()];
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= *end {
                        break;
                    }
                    (self.task)(index);
                }
            }
        }));
        if let Err(panic) = outcome {
            self.shares.iter().for_each(|(next, end)| next.store(*end, Ordering::Relaxed));
            *self.panic.lock().unwrap_or_else(PoisonError::into_inner) = Some(panic);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use super::*;

    #[test]
    fn every_index_is_visited_once() {
        for count in [0, 1, 2, 3, 1000] {
            let found: Vec<AtomicU32> = (0..count).map(|_| AtomicU32::new(0)).collect();
            parallel_for(count, |index| _ = found[index].fetch_add(1, Ordering::Relaxed));
            assert!(found.iter().all(|times| times.load(Ordering::Relaxed) == 1));
        }
    }

    #[test]
    fn concurrent_and_nested_loops_finish() {
        let sum = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        parallel_for(5, |_| {
                            parallel_for(3, |index| _ = sum.fetch_add(index, Ordering::Relaxed));
                        });
                    }
                });
            }
            rayon::scope(|scope| {
                for _ in 0..100 {
                    scope.spawn(|_| {
                        parallel_for(7, |_| {
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
    fn a_panic_reaches_the_caller_and_the_next_loop_works() {
        let panic = catch_unwind(|| parallel_for(100, |index| assert!(index != 40, "at forty")));
        assert_eq!(panic.unwrap_err().downcast_ref::<&str>(), Some(&"at forty"));
        every_index_is_visited_once();
    }
}
