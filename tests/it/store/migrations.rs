//! Files that others have made, or broken.

use sqlx::{Connection as _, SqliteConnection};
use tollgate::money::Nanos;
use tollgate::store::{self, Error, Millis, UsageFilter};

use super::{account, cents, page, sums_up};

/// The store as the first version has made it; later migrations must open it with what is in it.
const FIRST: &str = include_str!("../../../src/store/migrations/sqlite/0001_begin.sql");

async fn file(path: &std::path::Path) -> SqliteConnection {
    let options = sqlx::sqlite::SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true);
    SqliteConnection::connect_with(&options).await.unwrap()
}

#[tokio::test]
async fn a_file_of_the_first_version_opens_with_what_is_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("old.db");
    let mut old = file(&path).await;
    sqlx::raw_sql(FIRST).execute(&mut old).await.unwrap();
    let filled = "CREATE TABLE migrations (version BIGINT PRIMARY KEY, time BIGINT NOT NULL);
        INSERT INTO migrations VALUES (1, 0);
        INSERT INTO accounts (id, name, postpaid, disabled, balance, used, created, revision)
            VALUES (77, 'acme', 0, 0, 0, 10000000, 0, 1);
        INSERT INTO entries (id, account, kind, amount, time, author, source, closed)
            VALUES (78, 77, 'topup', 10000000, 0, 'ops', 'manual', 0);
        INSERT INTO usage VALUES (1 << 60, 0, (1 << 28 | 18652621) << 15 | 21, 3600000, 77, 5, 10000000, 'm', 'default',
            '[1,\"r-1\",\"chat.completions\",200,0,3,4,5,null,0,0,true,[],null,\"{ input = 1 }\"]');
        INSERT INTO rollups VALUES (5, 1, 'm', 'default', 77, 1, 0, 0, 0, 0, 0, 0, 0, 0, 10000000, 0);
        INSERT INTO charges VALUES (0, 77, 5, 1, 10000000, 1 << 60);
        UPDATE meta SET revision = 1;";
    sqlx::raw_sql(filled).execute(&mut old).await.unwrap();
    old.close().await.unwrap();

    let store = store::open(&format!("sqlite://{}", path.display())).await.unwrap();
    let acme = store.account_named("acme").await.unwrap();
    assert_eq!((acme.id.get(), acme.balance), (77, Nanos::ZERO));
    sums_up(&store, acme.id).await;
    assert!(account(&store, "new", Nanos::ZERO).await.revision > 1);
    // Rows lay alone, and with their price among the rest.
    let wanted = UsageFilter {
        request_id: Some("r-1".to_owned()),
        ..UsageFilter::default()
    };
    let rows = store.rows(&wanted, page(9)).await.unwrap();
    let row = &rows[0];
    assert_eq!((rows.len(), row.id.get(), row.time), (1, 1 << 60, Millis(3_600_000)));
    assert_eq!((row.account, row.key.get(), row.charge), (acme.id, 5, cents(1)));
    assert_eq!(
        (row.model.as_str(), row.group.as_str(), row.status),
        ("m", "default", 200)
    );
    assert_eq!((row.price.as_deref(), row.bytes_in), (Some("{ input = 1 }"), 3));
}

#[tokio::test]
async fn a_file_of_a_newer_version_opens() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new.db");
    let url = format!("sqlite://{}", path.display());
    let acme = account(&store::open(&url).await.unwrap(), "acme", cents(5)).await;
    let mut newer = file(&path).await;
    let added =
        "INSERT INTO migrations VALUES (1000, 0); ALTER TABLE accounts ADD COLUMN hue TEXT; CREATE TABLE novel (id)";
    sqlx::raw_sql(added).execute(&mut newer).await.unwrap();
    let store = store::open(&url).await.unwrap();
    assert_eq!(store.account(acme.id).await.unwrap(), acme);
    account(&store, "other", cents(5)).await;
}

#[tokio::test]
async fn many_open_a_new_file_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("new.db").display());
    let opened = futures_util::future::join_all((0..8).map(|_| store::open(&url))).await;
    for (i, store) in opened.into_iter().enumerate() {
        account(&store.unwrap(), &format!("a{i}"), cents(1)).await;
    }
}

#[tokio::test]
async fn a_store_in_memory_works() {
    let store = store::open("sqlite::memory:").await.unwrap();
    let acme = account(&store, "acme", cents(5)).await;
    assert_eq!(store.account(acme.id).await.unwrap(), acme);
    sums_up(&store, acme.id).await;
}

#[tokio::test]
async fn what_cannot_be_opened_says_why_and_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let garbage = folder.path().join("garbage.db");
    std::fs::write(
        &garbage,
        "this is no database, and long enough to be read as one".repeat(40),
    )
    .unwrap();
    let cases = [
        (
            format!("sqlite://{}/none/store.db", folder.path().display()),
            "unavailable",
        ),
        (format!("sqlite://{}", garbage.display()), "corrupt"),
        ("mysql://root:s3cret@localhost/db".to_owned(), "refused"),
        ("sqlite://".to_owned(), "refused"),
        ("postgres://root:s3cret@127.0.0.1:1/db".to_owned(), "unavailable"),
        ("postgres://root:s3cret@[::bad/db".to_owned(), "refused"),
    ];
    for (url, kind) in cases {
        let error = store::open(&url).await.unwrap_err();
        let told = match &error {
            Error::Unavailable(_) => "unavailable",
            Error::Corrupt(_) => "corrupt",
            Error::Refused(_) => "refused",
            _ => "other",
        };
        assert_eq!(told, kind, "{url}: {error:?}");
        let text = format!("{error} {error:?}");
        let secret = ["s3cret", "127.0.0.1", &folder.path().display().to_string()];
        assert!(!secret.iter().any(|secret| text.contains(secret)), "{text}");
    }
}

/// Whoever restarts the server ends every connection; the next call makes a new one.
#[tokio::test]
async fn ended_connections_are_made_anew() {
    let Ok(server) = std::env::var("TOLLGATE_TEST_POSTGRES_URL") else {
        eprintln!("skipped: TOLLGATE_TEST_POSTGRES_URL is not set");
        return;
    };
    super::engines::on_postgres(async move |f| {
        let mark = if f.url.contains('?') { '&' } else { '?' };
        let name = format!("tollgate-{}", std::process::id());
        let store = store::open(&format!("{}{mark}application_name={name}", f.url))
            .await
            .unwrap();
        let acme = account(&store, "acme", cents(5)).await;
        let mut server = sqlx::PgConnection::connect(&server).await.unwrap();
        let end = "SELECT COUNT(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = $1";
        let ended: i64 = sqlx::query_scalar(end)
            .bind(&name)
            .fetch_one(&mut server)
            .await
            .unwrap();
        assert!(ended > 0);
        assert_eq!(store.account(acme.id).await.unwrap(), acme);
        account(&store, "other", cents(5)).await;
    })
    .await;
}
