-- One row: the revision of the newest change of an account or key, the last id that the store made (without its node),
-- and the node of the last process.
CREATE TABLE meta (
    single INTEGER PRIMARY KEY CHECK (single = 1),
    revision INTEGER NOT NULL,
    last_id INTEGER NOT NULL,
    last_node INTEGER NOT NULL
) STRICT;
INSERT INTO meta VALUES (1, 0, 0, -1);

-- One row: the first day that is not closed. Whoever changes a balance shares it; the close of a day has it alone.
CREATE TABLE ledger (
    single INTEGER PRIMARY KEY CHECK (single = 1),
    open_day INTEGER NOT NULL
) STRICT;
INSERT INTO ledger VALUES (1, -2147483648);

CREATE TABLE processes (
    id INTEGER PRIMARY KEY,
    node INTEGER NOT NULL,
    lease_end INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX processes_node ON processes (node);

-- kind: 0 an account, 1 a key. period_start: 0 where the quota has no period.
CREATE TABLE allotments (
    owner INTEGER NOT NULL,
    process INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    amount INTEGER NOT NULL CHECK (amount >= 0),
    period_start INTEGER NOT NULL,
    PRIMARY KEY (owner, process)
) STRICT, WITHOUT ROWID;
CREATE INDEX allotments_process ON allotments (process);

CREATE TABLE asks (
    owner INTEGER NOT NULL,
    process INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    amount INTEGER NOT NULL,
    time INTEGER NOT NULL,
    PRIMARY KEY (owner, process)
) STRICT, WITHOUT ROWID;

-- closed_balance: the sum of the entries that the last close has seen; closed_day: the day of it.
CREATE TABLE accounts (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    postpaid INTEGER NOT NULL,
    credit_limit INTEGER,
    disabled INTEGER NOT NULL,
    groups TEXT,
    balance INTEGER NOT NULL,
    used INTEGER NOT NULL,
    created INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    closed_balance INTEGER NOT NULL DEFAULT 0,
    closed_day INTEGER
) STRICT;
CREATE UNIQUE INDEX accounts_name ON accounts (name);
CREATE INDEX accounts_revision ON accounts (revision);

-- period: 1 day, 2 week, 3 month. status: 0 enabled, 1 disabled, 2 revoked, 3 deleted.
CREATE TABLE keys (
    id INTEGER PRIMARY KEY,
    account INTEGER NOT NULL REFERENCES accounts (id),
    name TEXT NOT NULL,
    grp TEXT NOT NULL,
    models TEXT,
    ips TEXT NOT NULL,
    rpm INTEGER,
    tpm INTEGER,
    concurrency INTEGER,
    quota INTEGER,
    period INTEGER,
    expires INTEGER,
    hash BLOB NOT NULL,
    prefix TEXT NOT NULL,
    last4 TEXT NOT NULL,
    old_hash BLOB,
    old_until INTEGER,
    status INTEGER NOT NULL,
    used INTEGER NOT NULL,
    period_start INTEGER NOT NULL,
    spent INTEGER NOT NULL,
    sealed BLOB,
    created INTEGER NOT NULL,
    last_used INTEGER,
    revision INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX keys_hash ON keys (hash) WHERE status <> 3;
CREATE UNIQUE INDEX keys_name ON keys (name, account) WHERE status <> 3;
CREATE INDEX keys_old_hash ON keys (old_hash) WHERE old_hash IS NOT NULL;
CREATE INDEX keys_account ON keys (account, id);
CREATE INDEX keys_revision ON keys (revision);

-- subject: the top-up of a bonus, the code of a redemption, the key of charges. closed: 1 once a close has seen it.
CREATE TABLE entries (
    id INTEGER PRIMARY KEY,
    account INTEGER NOT NULL REFERENCES accounts (id),
    kind TEXT NOT NULL,
    amount INTEGER NOT NULL,
    time INTEGER NOT NULL,
    author TEXT NOT NULL,
    note TEXT,
    source TEXT,
    external_ref TEXT,
    idempotency_key TEXT,
    subject INTEGER,
    day INTEGER,
    count INTEGER,
    closed INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX entries_external_ref ON entries (external_ref);
CREATE UNIQUE INDEX entries_idempotency_key ON entries (account, idempotency_key);
CREATE INDEX entries_account ON entries (account, id);
CREATE INDEX entries_open ON entries (account) WHERE closed = 0;

CREATE TABLE closed_days (
    day INTEGER PRIMARY KEY,
    time INTEGER NOT NULL,
    entries INTEGER NOT NULL,
    charge INTEGER NOT NULL
) STRICT;

-- day: that the charge counts in. lookup: the hour of its time (hours since 1970) above bits of its request id, which is
-- in rest. rest: all that is not searched, ordered or summed, as a versioned JSON array.
CREATE TABLE usage (
    id INTEGER PRIMARY KEY,
    day INTEGER NOT NULL,
    lookup INTEGER NOT NULL,
    time INTEGER NOT NULL,
    account INTEGER NOT NULL,
    key INTEGER NOT NULL,
    charge INTEGER NOT NULL,
    model TEXT NOT NULL,
    grp TEXT NOT NULL,
    rest TEXT NOT NULL
) STRICT;
CREATE INDEX usage_account ON usage (account, id);
CREATE INDEX usage_key ON usage (key, id);
CREATE INDEX usage_lookup ON usage (lookup);

-- The charges of open days: how many rows are charged, how much, and the smallest id of them.
CREATE TABLE charges (
    day INTEGER NOT NULL,
    account INTEGER NOT NULL,
    key INTEGER NOT NULL,
    count INTEGER NOT NULL,
    amount INTEGER NOT NULL,
    first INTEGER NOT NULL,
    PRIMARY KEY (day, account, key)
) STRICT, WITHOUT ROWID;

-- hour: hours since 1970.
CREATE TABLE rollups (
    key INTEGER NOT NULL,
    hour INTEGER NOT NULL,
    model TEXT NOT NULL,
    grp TEXT NOT NULL,
    account INTEGER NOT NULL,
    requests INTEGER NOT NULL,
    failed INTEGER NOT NULL,
    prompt INTEGER NOT NULL,
    cached INTEGER NOT NULL,
    cache_write INTEGER NOT NULL,
    completion INTEGER NOT NULL,
    reasoning INTEGER NOT NULL,
    audio_input INTEGER NOT NULL,
    audio_output INTEGER NOT NULL,
    charge INTEGER NOT NULL,
    written_off INTEGER NOT NULL,
    PRIMARY KEY (key, hour, model, grp)
) STRICT, WITHOUT ROWID;
CREATE INDEX rollups_account ON rollups (account, hour);
CREATE INDEX rollups_hour ON rollups (hour);

CREATE TABLE codes (
    id INTEGER PRIMARY KEY,
    batch INTEGER NOT NULL,
    hash BLOB NOT NULL,
    prefix TEXT NOT NULL,
    amount INTEGER NOT NULL,
    expires INTEGER,
    note TEXT,
    revoked INTEGER NOT NULL,
    redeemed_by INTEGER,
    redeemed_at INTEGER,
    created INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX codes_hash ON codes (hash);
CREATE INDEX codes_batch ON codes (batch, id);

CREATE TABLE notices (
    id INTEGER PRIMARY KEY,
    text TEXT NOT NULL,
    created INTEGER NOT NULL
) STRICT;

CREATE TABLE audit (
    id INTEGER PRIMARY KEY,
    time INTEGER NOT NULL,
    author TEXT NOT NULL,
    action TEXT NOT NULL,
    target INTEGER,
    was TEXT,
    became TEXT
) STRICT;
CREATE INDEX audit_target ON audit (target, id);
