//! Preparation of batches in the background while the model computes.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::sync_channel;

use crate::{Error, Result};

/// Largest number of batches in the queue.
const QUEUE_LENGTH: usize = 2;

/// Iterates over the results of `make` for each list of indices, computed in a background thread. An
/// error or a panic is the last item. The thread ends with the iterator.
pub(super) fn prefetched<T: Send + 'static>(
    order: Vec<Vec<u32>>,
    make: impl Fn(&[u32]) -> Result<T> + Send + 'static,
) -> Result<impl Iterator<Item = Result<T>>> {
    let (made, batches) = sync_channel(QUEUE_LENGTH);
    let run = move || {
        for numbers in order {
            let batch = catch_unwind(AssertUnwindSafe(|| make(&numbers)));
            let batch = batch.unwrap_or_else(|_| {
                let panicked = std::io::Error::other("a panic while a batch was prepared");
                Err(Error::io("the image files")(panicked))
            });
            let is_last = batch.is_err();
            if made.send(batch).is_err() || is_last {
                return;
            }
        }
    };
    let thread = std::thread::Builder::new().name("prefetch".into()).spawn(run);
    thread.map_err(Error::io("a thread that reads ahead"))?;
    Ok(batches.into_iter())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc::channel;

    use candle_core::{Device, Tensor};

    use super::*;
    use crate::data::Batch;

    fn batch() -> Batch {
        let x = Tensor::zeros((1, 1), candle_core::DType::F32, &Device::Cpu).unwrap();
        Batch { x: x.clone(), y: x, weights: None }
    }

    #[test]
    fn batches_are_prefetched_up_to_the_queue_length() {
        static PREPARED: AtomicUsize = AtomicUsize::new(0);
        let (started_sender, started) = channel();
        let make = move |_: &[u32]| {
            PREPARED.fetch_add(1, Ordering::SeqCst);
            let _ = started_sender.send(());
            Ok(batch())
        };
        let mut batches = prefetched(vec![vec![0]; 10], make).unwrap();
        // Two batches wait in the queue while the third is prepared.
        (0..3).for_each(|_| started.recv().unwrap());
        assert!(PREPARED.load(Ordering::SeqCst) <= QUEUE_LENGTH + 1);
        assert!(batches.next().unwrap().is_ok());
        drop(batches);
        // The thread ends: its sender is dropped.
        while started.recv().is_ok() {}
        assert!(PREPARED.load(Ordering::SeqCst) <= QUEUE_LENGTH + 2);
    }

    #[test]
    fn error_and_panic_are_the_last_item() {
        for is_panic in [false, true] {
            let make = move |numbers: &[u32]| match numbers[0] {
                1 if is_panic => panic!("a decoder's fault"),
                1 => Err(Error::NotCompiled),
                _ => Ok(batch()),
            };
            let found: Vec<bool> = prefetched(vec![vec![0], vec![1], vec![2]], make)
                .unwrap()
                .map(|batch| batch.is_ok())
                .collect();
            assert_eq!(found, [true, false]);
        }
    }
}
