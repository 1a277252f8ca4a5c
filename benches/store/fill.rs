//! Fills a SQLite store with a year of rows by SQL: through the store it would take as long as a year's settling.

use sqlx::{AssertSqlSafe, Connection as _, SqliteConnection};
use tollgate::store::{Day, Id, Millis};

use super::Done;

/// What each row is charged.
const CHARGE: u32 = 654_000;

/// So many rows, evenly over the last year and over all keys, with their roll-ups and what they did to balances.
pub(crate) async fn year(url: &str, keys: &[(Id, Id)], rows: u64) -> Done<()> {
    let mut connection = SqliteConnection::connect(url).await?;
    let end = Day(Millis::now().day().0).start().0;
    let start = end - 365 * Day::MILLIS;
    let step = u64::try_from(end - start)? / rows;
    let picked: Vec<_> = (0..)
        .zip(keys)
        .map(|(n, (account, key))| format!("({n}, {}, {})", account.get(), key.get()))
        .collect();
    let (picked, count) = (picked.join(", "), keys.len());
    let script = format!(
        "PRAGMA synchronous = OFF; PRAGMA cache_size = -400000; PRAGMA temp_store = MEMORY;
        CREATE TEMP TABLE picked (n INTEGER PRIMARY KEY, account INTEGER, key INTEGER);
        INSERT INTO picked VALUES {picked};
        BEGIN;
        DROP INDEX usage_lookup; DROP INDEX usage_key; DROP INDEX usage_account;
        INSERT INTO usage (id, count, day, lookup, time, account, key, model, grp, price, lines)
        WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < {rows})
        SELECT ({start} + i * {step}) << 21 | 1, 1, ({start} + i * {step}) / 86400000,
            ({start} + i * {step}) / 3600000 << 28 | i * 2654435761 % 268435456, {start} + i * {step}, account, key,
            CASE i / {count} % 3 WHEN 0 THEN 'gpt-4o' ELSE 'deepseek-chat' END, 'default',
            '{{\"input\":0.27,\"output\":1.1}}',
            printf('[2,%d,%d,{CHARGE},\"%016x\",\"chat_completions\",200,1,4800,60000,4200,null,1200,300,true,[[\"deepseek\",200,812]]]',
                ({start} + i * {step}) << 21 | 1, {start} + i * {step}, i)
        FROM n JOIN picked ON picked.n = i % {count};
        INSERT INTO rollups SELECT key, time / 3600000, model, grp, account, COUNT(*), 0, COUNT(*) * 1200, 0, 0,
            COUNT(*) * 300, 0, 0, 0, COUNT(*) * {CHARGE}, 0 FROM usage WHERE time < {end} GROUP BY 1, 2, 3, 4;
        INSERT INTO charges SELECT day, account, key, COUNT(*), COUNT(*) * {CHARGE}, MIN(id) FROM usage WHERE time < {end}
            GROUP BY 1, 2, 3;
        UPDATE accounts SET balance = balance - u.charge, used = used + u.charge
            FROM (SELECT account, COUNT(*) * {CHARGE} AS charge FROM usage WHERE time < {end} GROUP BY account) AS u
            WHERE accounts.id = u.account;
        UPDATE allotments SET amount = (SELECT balance FROM accounts WHERE id = owner) WHERE kind = 0;
        CREATE INDEX usage_account ON usage (account, id);
        CREATE INDEX usage_key ON usage (key, id);
        CREATE INDEX usage_lookup ON usage (lookup);
        COMMIT; PRAGMA wal_checkpoint (TRUNCATE);"
    );
    sqlx::raw_sql(AssertSqlSafe(script)).execute(&mut connection).await?;
    connection.close().await?;
    Ok(())
}
