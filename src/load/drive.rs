//! When each request is sent.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use super::LoadArgs;
use super::report::Tally;
use super::request::Sender;

/// Connections of a closed loop when the arguments name none.
const CONNECTIONS: u16 = 8;

/// Sends until the time or the count is up, or until interrupted, then waits for the answers still due.
///
/// Returns the time from the first request to the last answer.
pub(super) async fn drive(args: &LoadArgs, sender: &Arc<Sender>, tally: &Arc<Tally>) -> Duration {
    let began = Instant::now();
    let mut tasks = JoinSet::new();
    tokio::select! {
        () = send(args, sender, tally, &mut tasks) => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    // Every request has its own time-out, so this ends.
    while tasks.join_next().await.is_some() {}
    began.elapsed()
}

async fn send(args: &LoadArgs, sender: &Arc<Sender>, tally: &Arc<Tally>, tasks: &mut JoinSet<()>) {
    match args.rate {
        Some(rate) => open(args, rate, sender, tally, tasks).await,
        None => closed(args, sender, tally, tasks).await,
    }
}

async fn closed(args: &LoadArgs, sender: &Arc<Sender>, tally: &Arc<Tally>, tasks: &mut JoinSet<()>) {
    let until = Instant::now() + args.duration;
    let left = Arc::new(AtomicU64::new(args.requests));
    for _ in 0..args.connections.unwrap_or(CONNECTIONS) {
        let (sender, tally, left) = (Arc::clone(sender), Arc::clone(tally), Arc::clone(&left));
        tasks.spawn(async move {
            let mut own = sender.connection();
            while Instant::now() < until && take_one(&left) {
                sender.send(Instant::now(), &tally, Some(&mut own)).await;
            }
        });
    }
    while tasks.join_next().await.is_some() {}
}

fn take_one(left: &AtomicU64) -> bool {
    left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
        .is_ok()
}

async fn open(args: &LoadArgs, rate: f64, sender: &Arc<Sender>, tally: &Arc<Tally>, tasks: &mut JoinSet<()>) {
    let room = Arc::new(Semaphore::new(args.max_in_flight as usize));
    let mut due = clock(rate, args.duration, args.requests);
    loop {
        let at = tokio::select! {
            at = due.recv() => at,
            Some(_) = tasks.join_next() => continue,
        };
        let Some(at) = at else { return };
        let Ok(permit) = Arc::clone(&room).try_acquire_owned() else {
            tally.skip();
            continue;
        };
        let (sender, tally) = (Arc::clone(sender), Arc::clone(tally));
        tasks.spawn(async move {
            sender.send(at, &tally, None).await;
            drop(permit);
        });
    }
}

/// The times at which requests are due, from a thread of its own: tokio's timers have a resolution of a millisecond,
/// which at thousands of requests a second would send them in bursts.
fn clock(rate: f64, duration: Duration, most: u64) -> mpsc::Receiver<Instant> {
    let (sender, receiver) = mpsc::channel(1024);
    std::thread::spawn(move || {
        let began = Instant::now();
        for offset in offsets(rate, duration, most) {
            let at = began + offset;
            std::thread::sleep(at.saturating_duration_since(Instant::now()));
            if sender.blocking_send(at).is_err() {
                return;
            }
        }
    });
    receiver
}

fn offsets(rate: f64, duration: Duration, most: u64) -> impl Iterator<Item = Duration> {
    #[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^52")]
    let offset = move |count: u64| Duration::from_secs_f64(count as f64 / rate);
    (0..most).map(offset).take_while(move |offset| *offset < duration)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_due_evenly_up_to_the_time_or_the_count() {
        let times: Vec<_> = offsets(4.0, Duration::from_secs(1), 100).collect();
        assert_eq!(times, [0, 250, 500, 750].map(Duration::from_millis));
        assert_eq!(offsets(4.0, Duration::from_secs(100), 3).count(), 3);
    }
}
