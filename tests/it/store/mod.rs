//! What every store does: each case runs on each engine.

mod accounts;
mod changes;
mod codes;
mod days;
pub(crate) mod engines;
mod keys;
mod ledger;
mod migrations;
mod model;
mod records;
mod settle;
mod usage;

use tollgate::money::Nanos;
use tollgate::store::{
    Account, AccountEdit, Billing, Id, Key, KeyTerms, Millis, NewAccount, NewKey, Owner, Page, Process, Row, RowTokens,
    SharedStore, Topup,
};

use engines::Fixture;

/// Makes a test of every case, for each engine.
macro_rules! cases {
    ($($file:ident: $($case:ident),+;)+) => {
        mod sqlite {
            $($(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    super::engines::on_sqlite(super::$file::$case).await;
                }
            )+)+
        }
        mod postgres {
            $($(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    super::engines::on_postgres(super::$file::$case).await;
                }
            )+)+
        }
    };
}

cases! {
    accounts: accounts_are_made_named_listed_and_edited, billing_never_drops_below_what_is_reserved,
        a_topup_of_the_same_name_is_made_once, an_adjustment_takes_only_what_is_free,
        topups_and_charges_at_once_lose_nothing;
    keys: keys_are_made_found_and_listed, terms_are_edited_by_revision, states_only_go_forward,
        a_rotated_key_overlaps, a_quota_covers_what_is_spent;
    changes: revisions_tell_what_changed, everything_is_loaded_in_parts, many_changes_come_in_parts;
    ledger: nodes_are_unique_and_processes_beat, those_that_serve_know_their_place, the_version_before_serves, a_process_takes_and_gives_back, asks_reach_who_holds,
        two_processes_never_hold_more_than_there_is, release_gives_back_and_expiry_releases, quotas_start_anew,
        a_quota_is_held_like_a_balance;
    settle: rows_settle_once, rows_sent_again_with_new_ones_settle_the_new_ones,
        what_a_released_process_owes_is_taken_from_what_is_free, postpaid_without_limit_owes_on,
        a_row_of_nobody_is_kept_and_charged_to_nobody, two_processes_settle_at_once, a_late_charge_of_an_old_period_passes;
    days: a_closed_day_keeps_the_sum, a_wrong_sum_closes_nothing, late_rows_count_in_the_first_open_day,
        closed_rows_are_pruned, sums_that_are_not_those_of_the_rows_are_found;
    usage: rows_are_filtered_and_paged, rows_read_back_as_written, a_row_that_cannot_be_read_is_named,
        requests_of_like_ids_are_told_apart, trends_sum_up, pages_follow_each_other_wherever_rows_lie;
    codes: a_code_is_redeemed_once_by_fifty_at_once, codes_that_ended_are_refused, codes_are_made_listed_and_revoked;
    records: notices_come_and_go, the_audit_tells_who;
    model: random_operations_keep_both_rules;
}

// === what the cases share ===

/// US cents.
fn cents(cents: i64) -> Nanos {
    Nanos::new(cents * 10_000_000)
}

async fn account(store: &SharedStore, name: &str, balance: Nanos) -> Account {
    let new = NewAccount {
        name: name.to_owned(),
        billing: Billing::Prepaid,
        groups: None,
    };
    let account = store.create_account(new).await.unwrap();
    if balance.is_zero() {
        return account;
    }
    store.topup(topup(account.id, balance)).await.unwrap();
    store.account(account.id).await.unwrap()
}

fn topup(account: Id, amount: Nanos) -> Topup {
    Topup {
        account,
        amount,
        bonus: Nanos::ZERO,
        source: "manual".to_owned(),
        external_ref: None,
        idempotency_key: None,
        note: None,
        by: "tests".to_owned(),
    }
}

fn terms(name: &str) -> KeyTerms {
    KeyTerms {
        name: name.to_owned(),
        group: "default".to_owned(),
        models: None,
        ips: Vec::new(),
        rpm: None,
        tpm: None,
        concurrency: None,
        quota: None,
        period: None,
        expires: None,
    }
}

/// A hash that the name decides.
fn hash(name: &str) -> [u8; 32] {
    let mut hash = [0; 32];
    for (i, byte) in name.bytes().enumerate() {
        hash[i % 32] ^= byte.rotate_left(u32::try_from(i / 32).unwrap());
    }
    hash
}

fn new_key(account: Id, terms: KeyTerms) -> NewKey {
    NewKey {
        account,
        hash: hash(&format!("{account}{}", terms.name)),
        terms,
        prefix: "sk-a".to_owned(),
        last4: "wxyz".to_owned(),
        sealed: None,
    }
}

async fn key(store: &SharedStore, account: Id, terms: KeyTerms) -> Key {
    store.create_key(new_key(account, terms)).await.unwrap()
}

async fn process(store: &SharedStore) -> Process {
    store.register(Millis(Millis::now().0 + 30_000)).await.unwrap()
}

/// Takes all there is of an account.
async fn take_all(store: &SharedStore, process: Id, account: Id) -> Nanos {
    let owner = Owner::Account(account);
    store
        .take(process, owner, Nanos::MAX, Millis::now())
        .await
        .unwrap()
        .amount
}

fn row(id: Id, account: Id, key: Id, charge: Nanos) -> Row {
    Row {
        id,
        time: Millis::now(),
        request_id: format!("req-{id}"),
        account,
        key,
        group: "default".to_owned(),
        endpoint: "chat_completions".to_owned(),
        model: "m".to_owned(),
        served: Some("m".to_owned()),
        attempts: Vec::new(),
        status: 200,
        reason: None,
        streamed: false,
        tokens: RowTokens::default(),
        bytes_in: 0,
        bytes_out: 0,
        first_ms: None,
        total_ms: 1,
        price: None,
        charge,
        written_off: Nanos::ZERO,
        period_start: None,
        cap_asked: None,
        cap_applied: None,
        estimated: false,
        disconnected: false,
        cut_short: false,
        from_cache: false,
        ip: None,
        tag: None,
        user: None,
        backend_request_id: None,
    }
}

/// The first page.
fn page(limit: u32) -> Page {
    Page { before: None, limit }
}

/// Balance = sum, from the last close and from the first entry.
async fn sums_up(store: &SharedStore, account: Id) {
    for full in [false, true] {
        let verified = store.verify(account, full).await.unwrap();
        assert_eq!(verified.balance, verified.sum, "full: {full}: {verified:?}");
        assert!(verified.allotted <= verified.balance || full, "{verified:?}");
    }
}

async fn disable(store: &SharedStore, account: Id, disabled: bool) -> Account {
    let edit = AccountEdit {
        disabled: Some(disabled),
        ..AccountEdit::default()
    };
    store.edit_account(account, edit).await.unwrap()
}
