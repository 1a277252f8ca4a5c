//! One gateway with an account, and a key that may do one request at a time.

use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tollgate::backend::Running;
use tollgate::directory::{Directory, Holder, Member, Numbers};
use tollgate::failpoint::{Failpoints, Point};
use tollgate::ledger::{Durability, KeyFunds, Ledger, Settings};
use tollgate::money::Nanos;
use tollgate::serve::{self, Books, Sockets};
use tollgate::store;
use tollgate::wiring;

use super::case::{Case, chat};
use crate::support::books::{Charging, with_store};
use crate::support::client::Client;
use crate::support::gateway::{self, Setup, scripted};
use crate::support::within;

/// The key of every request. Its own limit is one request at a time, as are its group's and each model's.
pub(super) const KEY: &str = "one";

/// What a whole answer costs: nine tokens at a dollar a million, five at ten.
pub(super) const ANSWER: Nanos = Nanos::new(9 * 1_000 + 5 * 10_000);

const CREDIT: i64 = 1_000_000_000;
/// What is added for the store to be asked.
const MORE: i64 = 1_000;
/// What the request costs that must succeed afterwards, whatever it uses.
const PROBE: Nanos = Nanos::new(1_000_000);

/// How long the gateway waits for backends, for clients and for the journal.
const PATIENCE: &str = "1s";
const MAX_WAIT: Duration = Duration::from_secs(1);

pub(super) const BACKENDS: [&str; 3] = ["main", "mute", "patient"];

/// A gateway whose requests are broken.
pub(super) struct Scene {
    pub(super) charging: Charging,
    pub(super) backend: Running,
    /// Another process, which holds some of the account's credit.
    other: Option<(Ledger, TempDir)>,
    /// Rows so far, and what they come to.
    rows: usize,
    charged: Nanos,
    /// What the account was given.
    pub(super) granted: Nanos,
    pub(super) drains: usize,
}

fn setup(backend: &Running) -> Setup {
    let limits = format!(
        "timeout = {{ connect = \"{PATIENCE}\", first_byte = \"{PATIENCE}\", idle = \"{PATIENCE}\", total = \"{PATIENCE}\" }}"
    );
    let price = "price = { input = 1, output = 10 }";
    let tokens = format!("{price}\nlimit = {{ concurrency = 1 }}");
    let address = backend.local_addr();
    Setup::default()
        .server(&format!("client_timeout = \"{PATIENCE}\"\ndrain = \"300ms\""))
        .backend("main", address, &limits)
        .backend("mute", address, &format!("{limits}\nstream_usage = \"none\""))
        .backend("patient", address, &format!("{limits}\non_disconnect = \"drain\""))
        .model("scripted", &format!("route = [{{ backend = \"main\" }}]\n{tokens}"))
        .model(
            "mute",
            &format!("route = [{{ backend = \"mute\", model = \"gpt-4o\" }}]\n{tokens}"),
        )
        .model("patient", &format!("route = [{{ backend = \"patient\" }}]\n{tokens}"))
        .model(
            "cached",
            &format!("route = [{{ backend = \"main\" }}]\ncache = {{ ttl = \"10m\" }}\n{price}"),
        )
        .model("probe", "route = [{ backend = \"main\" }]\nprice = { request = 0.001 }")
        .group("narrow", "models = [\"*\"]\nconcurrency = 1")
        .group("default", "models = [\"*\"]")
        .key(
            KEY,
            "account = \"acme\"\ngroup = \"narrow\"\nconcurrency = 1\nquota = 5000000",
        )
}

impl Scene {
    pub(super) async fn open() -> Self {
        let backend = scripted().await;
        let folder = TempDir::new().unwrap();
        let config = with_store(setup(&backend), &folder).config();
        let path = folder.path();
        let store = store::open(&format!("sqlite://{}/tollgate.db", path.display()))
            .await
            .unwrap();
        let ledger = Ledger::start(Arc::clone(&store), settings(path)).await.unwrap();
        let numbers = Arc::<Numbers>::default();
        let directory = Directory::open(Arc::clone(&store), ledger.clone(), &config, Arc::clone(&numbers));
        ledger.open().await.unwrap();
        let books = Books {
            share: wiring::share(ledger.position()),
            directory: directory.await.unwrap(),
            store: Arc::clone(&store),
            ledger,
            numbers,
        };
        let gateway = gateway::started(|telemetry| {
            serve::Gateway::start_on(config, telemetry, Some(books.clone()), Sockets::default()).unwrap()
        });
        let charging = Charging { gateway, books, folder };
        charging.topup(CREDIT).await;
        let mut scene = Self {
            charging,
            backend,
            other: None,
            rows: 0,
            charged: Nanos::ZERO,
            granted: Nanos::new(CREDIT),
            drains: 0,
        };
        scene.drains = scene.free_drains();
        // From here on there is credit at hand, unless a case wants it otherwise.
        within(scene.draws(Nanos::new(CREDIT))).await;
        scene
    }

    /// Brings the account into the state that the case begins with.
    pub(super) async fn prepare(&mut self, case: &Case) {
        if !case.undrawn {
            return;
        }
        self.granted = Nanos::new(self.granted.get() + MORE);
        if case.shared {
            let folder = TempDir::new().unwrap();
            let other = Ledger::start(Arc::clone(self.charging.store()), settings(folder.path()))
                .await
                .unwrap();
            // Who comes first has it.
            self.charging.store().topup(self.topup().await).await.unwrap();
            let account = self.charging.account().await;
            let key = self
                .charging
                .store()
                .keys_named(Some(account.id), KEY)
                .await
                .unwrap()
                .remove(0);
            let funds = other.funds(&account);
            within(async {
                while funds.draw(&funds.key(&key)).await <= Some(Nanos::ZERO) {
                    other.changed(&account, std::slice::from_ref(&key));
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            })
            .await;
            self.other = Some((other, folder));
            self.charging.books.directory.refresh().await.unwrap();
        } else {
            self.charging.topup(MORE).await;
        }
    }

    /// The other process has ended, and given back what it held.
    pub(super) async fn alone(&mut self) {
        if let Some((other, _folder)) = self.other.take() {
            other.stop().await;
        }
    }

    async fn topup(&self) -> store::Topup {
        store::Topup {
            account: self.charging.account().await.id,
            amount: Nanos::new(MORE),
            bonus: Nanos::ZERO,
            source: "test".to_owned(),
            external_ref: None,
            idempotency_key: None,
            note: None,
            by: "test".to_owned(),
        }
    }

    pub(super) fn failpoints(&self) -> &Failpoints {
        self.charging.books.ledger.failpoints()
    }

    pub(super) fn ledger(&self) -> &Ledger {
        &self.charging.books.ledger
    }

    /// Whether somebody has met with what is armed there.
    pub(super) async fn struck(&self, point: Point) -> bool {
        tokio::time::timeout(Duration::from_secs(10), self.failpoints().struck(point))
            .await
            .is_ok()
    }

    pub(super) fn in_flight(&self) -> usize {
        self.charging.gateway.inner.lifecycle().in_flight()
    }

    pub(super) async fn client(&self) -> Client {
        self.charging.gateway.client().await
    }

    pub(super) async fn backend_has_it(&self) {
        within(async {
            while self.backend.stats().now().in_flight == 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
    }

    /// What the requests since the last look were charged, of which there are so many with a row.
    pub(super) async fn charge_of_one(&mut self, new: usize, what: &str) -> Nanos {
        let rows = self.charging.rows(self.rows + new).await;
        assert_eq!(rows.len(), self.rows + new, "{what}: rows: {:#?}", rows.first());
        self.rows = rows.len();
        let all = rows.iter().map(|row| row.charge.get()).sum::<i64>();
        let charge = Nanos::new(all - self.charged.get());
        self.charged = Nanos::new(all);
        assert!(charge >= Nanos::ZERO, "{what}");
        charge
    }

    /// With exactly what must be left, a request succeeds that needs all that is not set aside for it.
    pub(super) async fn next_succeeds(&mut self, case: &Case, what: &str) {
        let (holder, key) = self.funds();
        let account = self.charging.account().await;
        let mut free = within(holder.funds.draw(&key)).await;
        if case.undrawn {
            // What the case kept from being taken is still in the store, or on its way.
            within(self.draws(account.balance)).await;
            free = Some(account.balance);
        }
        assert_eq!(free, Some(account.balance), "{what}: what is free is what there is");
        let rest = Nanos::new(account.balance.get() - PROBE.get());
        let held = holder.funds.try_reserve(&key, rest).unwrap();
        assert_eq!(holder.funds.free(&key), Some(PROBE), "{what}");
        let (head, body) = self.client().await.call(&chat("probe", false, "", KEY)).await;
        assert_eq!(head.status, 200, "{what}: the next request: {body:?}");
        held.release();
        self.is_clean(what).await;
        assert_eq!(self.charge_of_one(1, what).await, PROBE, "{what}");
    }

    /// Takes from the store until there is so much at hand. On a busy machine it may not answer in time, and then it is not
    /// asked again by itself until something changes.
    async fn draws(&self, wanted: Nanos) {
        let (holder, key) = self.funds();
        while holder.funds.draw(&key).await != Some(wanted) {
            let account = self.charging.account().await;
            let keys = self.charging.store().keys_named(Some(account.id), KEY).await.unwrap();
            self.ledger().changed(&account, &keys);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// The account's funds and the key's part of them, as requests see them.
    fn funds(&self) -> (Arc<Holder>, KeyFunds) {
        use sha2::{Digest as _, Sha256};

        let hash: [u8; 32] = Sha256::digest(gateway::secret(KEY)).into();
        let principal = self.charging.books.directory.get(&hash).unwrap();
        match &principal.member {
            Member::Stored { holder, funds, .. } => (Arc::clone(holder), *funds),
            Member::Fixed { .. } => panic!("there is a store"),
        }
    }

    /// What must be left of what the account was given.
    pub(super) fn balance(&self) -> Nanos {
        Nanos::new(self.granted.get() - self.charged.get())
    }
}

/// Impatient, so that a journal that hangs is an answer that fails.
pub(super) fn settings(folder: &std::path::Path) -> Settings {
    Settings {
        durability: Durability::Process,
        folder: folder.to_owned(),
        lease: Duration::from_mins(1),
        max_journal: 1 << 30,
        max_wait: MAX_WAIT,
        retention: None,
    }
}
