//! Parallel work with ordered results and bounded memory.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::mpsc;

use rayon::prelude::*;

use crate::context::Context;
use crate::error::Result;

/// Applies `f` to every item on the context's pool; the results come in the items' order.
///
/// # Errors
///
/// When the caller asked to stop.
pub fn map<T: Sync, R: Send>(cx: &Context, items: &[T], f: impl Fn(usize, &T) -> R + Sync) -> Result<Vec<R>> {
    let work = |(i, item)| cx.cancelled().map(|()| f(i, item));
    cx.pool().install(|| items.par_iter().enumerate().with_max_len(1).map(work).collect())
}

/// Applies `f` to every item on the context's pool and hands the results to `sink` in the items' order.
///
/// At most `window` items are under way or waiting for their turn, so memory is bounded by `window` results whatever
/// the number of items. `sink` runs on the calling thread.
///
/// # Errors
///
/// The first error of `sink`, or that the caller asked to stop.
pub fn stream<T: Send, R: Send>(
    cx: &Context,
    items: impl Iterator<Item = T>,
    window: usize,
    f: impl Fn(T) -> R + Sync,
    mut sink: impl FnMut(R) -> Result<()>,
) -> Result<()> {
    if cx.pool().current_thread_index().is_some() {
        // Waiting on a worker of the same pool could leave nobody to do the work.
        return items.map(f).try_for_each(|r| cx.cancelled().and_then(|()| sink(r)));
    }
    let (send, receive) = mpsc::channel();
    let mut items = items.enumerate();
    let (mut given, mut taken) = (0usize, 0usize);
    let mut waiting = BTreeMap::new();
    cx.pool().in_place_scope(|scope| {
        loop {
            cx.cancelled()?;
            while given.saturating_sub(taken) < window.max(1) {
                let Some((i, item)) = items.next() else { break };
                let (send, f) = (send.clone(), &f);
                // A send fails only when the sink has already stopped the work. A panic is carried to the caller, who
                // would otherwise wait for its result for ever.
                scope.spawn(move |_| drop(send.send((i, catch_unwind(AssertUnwindSafe(|| f(item)))))));
                given = given.saturating_add(1);
            }
            if given == taken {
                return Ok(());
            }
            let Ok((i, result)) = receive.recv() else { return Ok(()) };
            waiting.insert(i, result.unwrap_or_else(|panic| resume_unwind(panic)));
            while let Some(result) = waiting.remove(&taken) {
                taken = taken.saturating_add(1);
                sink(result)?;
            }
        }
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::Error;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn results_come_in_order_and_few_are_held() {
        let cx = Context::with_threads(4);
        let (live, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let mut seen = Vec::new();
        let work = |i: u64| {
            most.fetch_max(live.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            std::thread::sleep(std::time::Duration::from_micros(500 * (i % 3)));
            i * i
        };
        stream(&cx, 0..200u64, 7, work, |r| {
            live.fetch_sub(1, Ordering::SeqCst);
            seen.push(r);
            Ok(())
        })
        .unwrap();
        assert_eq!(seen, (0..200).map(|i| i * i).collect::<Vec<_>>());
        assert!(most.load(Ordering::SeqCst) <= 7);
    }

    #[test]
    fn the_sink_can_stop_the_work() {
        let cx = Context::with_threads(2);
        let stop = stream(&cx, 0.., 4, |i: u64| i, |r| if r < 10 { Ok(()) } else { Err(Error::Interrupted) });
        assert!(matches!(stop, Err(Error::Interrupted)));
        cx.cancel.store(true, Ordering::Relaxed);
        assert!(map(&cx, &[1, 2, 3], |_, x| *x).is_err());
    }
}
