//! Names of backends, resolved without blocking and remembered.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use pingora_core::upstreams::peer::HttpPeer;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use super::upstream::UpstreamError;

/// How long an answer of the resolver is used before it is asked again, behind the requests' backs.
const TTL: Duration = Duration::from_secs(30);

/// How long an old answer is used on when a new one cannot be had.
const RETRY: Duration = Duration::from_secs(5);

/// Turns an address into the peer that Pingora's pool is keyed by.
type MakePeer = Box<dyn Fn(SocketAddr) -> HttpPeer + Send + Sync>;

/// One backend's name, and the peers behind it.
pub(super) struct Resolver {
    host: String,
    port: u16,
    make: MakePeer,
    known: ArcSwapOption<Known>,
    next: AtomicUsize,
    refreshing: AtomicBool,
    /// Held by whoever makes the first look-up; what it failed with, and when, is for those who waited meanwhile.
    first: Mutex<Option<(Instant, UpstreamError)>>,
}

struct Known {
    peers: Vec<Candidate>,
    /// None for an address that was given as such: it never changes.
    until: Option<Instant>,
}

/// One address of a name.
#[derive(Clone)]
pub(super) struct Candidate {
    pub(super) peer: Arc<HttpPeer>,
    failed: Arc<AtomicBool>,
}

impl Candidate {
    fn new(peer: HttpPeer) -> Self {
        Self {
            peer: Arc::new(peer),
            failed: Arc::default(),
        }
    }

    /// Passes the address over for the others, or no more.
    pub(super) fn set_failed(&self, failed: bool) {
        if self.failed.load(Ordering::Relaxed) != failed {
            self.failed.store(failed, Ordering::Relaxed);
        }
    }
}

impl Resolver {
    pub(super) fn new(host: &str, port: u16, make: MakePeer) -> Self {
        // An IPv6 literal stands in brackets in a URL.
        let literal = host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .parse::<IpAddr>()
            .ok();
        let known = literal.map(|ip| {
            Arc::new(Known {
                peers: vec![Candidate::new(make(SocketAddr::new(ip, port)))],
                until: None,
            })
        });
        Self {
            host: host.to_owned(),
            port,
            make,
            known: ArcSwapOption::new(known),
            next: AtomicUsize::new(0),
            refreshing: AtomicBool::new(false),
            first: Mutex::new(None),
        }
    }

    /// A peer to try: each in turn, but for those that failed when last tried, as long as there are others.
    pub(super) async fn peer(self: &Arc<Self>, limit: Duration) -> Result<Candidate, UpstreamError> {
        {
            let known = self.known.load();
            if let Some(known) = known.as_deref() {
                if known.until.is_some_and(|until| until < Instant::now()) {
                    self.refresh_behind(limit);
                }
                return Ok(self.pick(known));
            }
        }
        let known = self.look_up_first(limit).await?;
        Ok(self.pick(&known))
    }

    /// One look-up, however many requests wait for it.
    async fn look_up_first(&self, limit: Duration) -> Result<Arc<Known>, UpstreamError> {
        let asked = Instant::now();
        let mut failed = self.first.lock().await;
        if let Some(known) = self.known.load_full() {
            return Ok(known);
        }
        if let Some((at, error)) = &*failed
            && *at > asked
        {
            return Err(error.clone());
        }
        let result = self.look_up(limit).await;
        *failed = result.as_ref().err().map(|error| (Instant::now(), error.clone()));
        result
    }

    fn pick(&self, known: &Known) -> Candidate {
        let count = known.peers.len();
        if count == 1 {
            return known.peers[0].clone();
        }
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        let mut in_turn = (0..count).map(|n| &known.peers[turn.wrapping_add(n) % count]);
        let good = in_turn.find(|candidate| !candidate.failed.load(Ordering::Relaxed));
        good.unwrap_or(&known.peers[turn % count]).clone()
    }

    /// An old answer serves until a new one is there: a resolver that is down must not take the backend down.
    fn refresh_behind(self: &Arc<Self>, limit: Duration) {
        if self.refreshing.swap(true, Ordering::AcqRel) {
            return;
        }
        let this = Arc::clone(self);
        tokio::spawn(async move {
            if let Err(error) = this.look_up(limit).await {
                tracing::warn!(host = this.host, %error, "resolving a backend's name failed; the old addresses serve on");
                this.keep();
            }
            this.refreshing.store(false, Ordering::Release);
        });
    }

    /// Else every request would ask again.
    fn keep(&self) {
        if let Some(known) = self.known.load_full() {
            self.known.store(Some(Arc::new(Known {
                peers: known.peers.clone(),
                until: Some(Instant::now() + RETRY),
            })));
        }
    }

    async fn look_up(&self, limit: Duration) -> Result<Arc<Known>, UpstreamError> {
        let addresses = timeout(limit, tokio::net::lookup_host((self.host.as_str(), self.port)))
            .await
            .map_err(|_| UpstreamError::connect_timeout("resolving the backend's name"))?
            .map_err(|error| UpstreamError::resolve(&error))?;
        let peers: Vec<_> = addresses.map(|address| Candidate::new((self.make)(address))).collect();
        if peers.is_empty() {
            return Err(UpstreamError::resolve(&"no address"));
        }
        let known = Arc::new(Known {
            peers,
            until: Some(Instant::now() + TTL),
        });
        self.known.store(Some(Arc::clone(&known)));
        Ok(known)
    }
}

#[cfg(test)]
mod tests {
    use std::task::Poll;

    use super::*;

    fn resolver(addresses: &[&str]) -> (Resolver, Known) {
        let make: MakePeer = Box::new(|address| HttpPeer::new(address, false, String::new()));
        let peers = addresses
            .iter()
            .map(|address| Candidate::new(make(address.parse().expect("an address"))))
            .collect();
        let known = Known { peers, until: None };
        (Resolver::new("name.test", 80, make), known)
    }

    fn first(resolver: &Resolver, known: &Known) -> String {
        resolver.pick(known).peer._address.to_string()
    }

    #[test]
    fn each_address_has_its_turn_until_it_fails() {
        let (resolver, known) = resolver(&["127.0.0.1:80", "127.0.0.2:80"]);
        let turns = || [first(&resolver, &known), first(&resolver, &known)];
        assert_eq!(turns(), ["127.0.0.1:80", "127.0.0.2:80"]);
        known.peers[0].set_failed(true);
        assert_eq!(turns(), ["127.0.0.2:80", "127.0.0.2:80"]);
        known.peers[1].set_failed(true);
        assert_eq!(turns(), ["127.0.0.1:80", "127.0.0.2:80"]);
        // Passed over, and not forgotten: a new look at the name clears it, and so does an attempt that succeeds.
        known.peers[0].set_failed(false);
        assert_eq!(turns(), ["127.0.0.1:80", "127.0.0.1:80"]);
    }

    /// A name that is never found (RFC 6761, section 6.4).
    fn nowhere() -> Arc<Resolver> {
        let make: MakePeer = Box::new(|address| HttpPeer::new(address, false, String::new()));
        Arc::new(Resolver::new("nowhere.invalid", 80, make))
    }

    #[tokio::test]
    async fn those_who_waited_for_the_first_look_up_share_what_came_of_it() {
        let resolver = nowhere();
        let leader = resolver.first.lock().await;
        let waiting = resolver.look_up_first(Duration::from_secs(1));
        tokio::pin!(waiting);
        assert!(std::future::poll_fn(|cx| Poll::Ready(waiting.as_mut().poll(cx).is_pending())).await);
        let mut leader = leader;
        *leader = Some((Instant::now(), UpstreamError::resolve(&"as the leader saw it")));
        drop(leader);
        let error = waiting.await.err().expect("the leader's failure");
        assert!(error.to_string().ends_with("as the leader saw it"), "{error}");
    }

    #[tokio::test]
    async fn an_old_answer_is_kept_for_a_while_when_a_new_one_cannot_be_had() {
        let resolver = nowhere();
        let peer = Candidate::new((resolver.make)("127.0.0.1:80".parse().expect("an address")));
        resolver.known.store(Some(Arc::new(Known {
            peers: vec![peer],
            until: Some(Instant::now()),
        })));
        resolver.keep();
        let until = resolver.known.load_full().and_then(|known| known.until);
        assert!(until.is_some_and(|until| until > Instant::now()));
        resolver.peer(Duration::from_secs(1)).await.expect("the old answer");
        assert!(!resolver.refreshing.load(Ordering::Acquire), "asked again at once");
    }
}
