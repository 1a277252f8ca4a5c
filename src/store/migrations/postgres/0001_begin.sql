-- One row: the revision of the newest change of an account or key, the last id that the store made (without its node),
-- and the node of the last process.
CREATE TABLE meta (
    single BIGINT PRIMARY KEY CHECK (single = 1),
    revision BIGINT NOT NULL,
    last_id BIGINT NOT NULL,
    last_node BIGINT NOT NULL
);
INSERT INTO meta VALUES (1, 0, 0, -1);

-- One row: the first day that is not closed. Whoever changes a balance shares it; the close of a day has it alone.
CREATE TABLE ledger (
    single BIGINT PRIMARY KEY CHECK (single = 1),
    open_day BIGINT NOT NULL
);
INSERT INTO ledger VALUES (1, -2147483648);

CREATE TABLE processes (
    id BIGINT PRIMARY KEY,
    node BIGINT NOT NULL,
    lease_end BIGINT NOT NULL
);
CREATE UNIQUE INDEX processes_node ON processes (node);

-- kind: 0 an account, 1 a key. period_start: 0 where the quota has no period.
CREATE TABLE allotments (
    owner BIGINT NOT NULL,
    process BIGINT NOT NULL,
    kind BIGINT NOT NULL,
    amount BIGINT NOT NULL CHECK (amount >= 0),
    period_start BIGINT NOT NULL,
    PRIMARY KEY (owner, process)
);
CREATE INDEX allotments_process ON allotments (process);

CREATE TABLE asks (
    owner BIGINT NOT NULL,
    process BIGINT NOT NULL,
    kind BIGINT NOT NULL,
    amount BIGINT NOT NULL,
    time BIGINT NOT NULL,
    PRIMARY KEY (owner, process)
);

-- closed_balance: the sum of the entries that the last close has seen; closed_day: the day of it.
CREATE TABLE accounts (
    id BIGINT PRIMARY KEY,
    name TEXT NOT NULL,
    postpaid BIGINT NOT NULL,
    credit_limit BIGINT,
    disabled BIGINT NOT NULL,
    groups TEXT,
    balance BIGINT NOT NULL,
    used BIGINT NOT NULL,
    created BIGINT NOT NULL,
    revision BIGINT NOT NULL,
    closed_balance BIGINT NOT NULL DEFAULT 0,
    closed_day BIGINT
);
CREATE UNIQUE INDEX accounts_name ON accounts (name);
CREATE INDEX accounts_revision ON accounts (revision);

-- period: 1 day, 2 week, 3 month. status: 0 enabled, 1 disabled, 2 revoked, 3 deleted.
CREATE TABLE keys (
    id BIGINT PRIMARY KEY,
    account BIGINT NOT NULL REFERENCES accounts (id),
    name TEXT NOT NULL,
    grp TEXT NOT NULL,
    models TEXT,
    ips TEXT NOT NULL,
    rpm BIGINT,
    tpm BIGINT,
    concurrency BIGINT,
    quota BIGINT,
    period BIGINT,
    expires BIGINT,
    hash BYTEA NOT NULL,
    prefix TEXT NOT NULL,
    last4 TEXT NOT NULL,
    old_hash BYTEA,
    old_until BIGINT,
    status BIGINT NOT NULL,
    used BIGINT NOT NULL,
    period_start BIGINT NOT NULL,
    spent BIGINT NOT NULL,
    sealed BYTEA,
    created BIGINT NOT NULL,
    last_used BIGINT,
    revision BIGINT NOT NULL
);
CREATE UNIQUE INDEX keys_hash ON keys (hash) WHERE status <> 3;
CREATE UNIQUE INDEX keys_name ON keys (name, account) WHERE status <> 3;
CREATE INDEX keys_old_hash ON keys (old_hash) WHERE old_hash IS NOT NULL;
CREATE INDEX keys_account ON keys (account, id);
CREATE INDEX keys_revision ON keys (revision);

-- subject: the top-up of a bonus, the code of a redemption, the key of charges. closed: 1 once a close has seen it.
CREATE TABLE entries (
    id BIGINT PRIMARY KEY,
    account BIGINT NOT NULL REFERENCES accounts (id),
    kind TEXT NOT NULL,
    amount BIGINT NOT NULL,
    time BIGINT NOT NULL,
    author TEXT NOT NULL,
    note TEXT,
    source TEXT,
    external_ref TEXT,
    idempotency_key TEXT,
    subject BIGINT,
    day BIGINT,
    count BIGINT,
    closed BIGINT NOT NULL
);
CREATE UNIQUE INDEX entries_external_ref ON entries (external_ref);
CREATE UNIQUE INDEX entries_idempotency_key ON entries (account, idempotency_key);
CREATE INDEX entries_account ON entries (account, id);
CREATE INDEX entries_open ON entries (account) WHERE closed = 0;

CREATE TABLE closed_days (
    day BIGINT PRIMARY KEY,
    time BIGINT NOT NULL,
    entries BIGINT NOT NULL,
    charge BIGINT NOT NULL
);

-- day: that the charge counts in. lookup: the hour of its time (hours since 1970) above bits of its request id, which is
-- in rest. rest: all that is not searched, ordered or summed, as a versioned JSON array.
CREATE TABLE usage (
    id BIGINT PRIMARY KEY,
    day BIGINT NOT NULL,
    lookup BIGINT NOT NULL,
    time BIGINT NOT NULL,
    account BIGINT NOT NULL,
    key BIGINT NOT NULL,
    charge BIGINT NOT NULL,
    model TEXT NOT NULL,
    grp TEXT NOT NULL,
    rest TEXT NOT NULL
);
CREATE INDEX usage_account ON usage (account, id);
CREATE INDEX usage_key ON usage (key, id);
CREATE INDEX usage_lookup ON usage (lookup);

-- The charges of open days: how many rows are charged, how much, and the smallest id of them.
CREATE TABLE charges (
    day BIGINT NOT NULL,
    account BIGINT NOT NULL,
    key BIGINT NOT NULL,
    count BIGINT NOT NULL,
    amount BIGINT NOT NULL,
    first BIGINT NOT NULL,
    PRIMARY KEY (day, account, key)
);

-- hour: hours since 1970.
CREATE TABLE rollups (
    key BIGINT NOT NULL,
    hour BIGINT NOT NULL,
    model TEXT NOT NULL,
    grp TEXT NOT NULL,
    account BIGINT NOT NULL,
    requests BIGINT NOT NULL,
    failed BIGINT NOT NULL,
    prompt BIGINT NOT NULL,
    cached BIGINT NOT NULL,
    cache_write BIGINT NOT NULL,
    completion BIGINT NOT NULL,
    reasoning BIGINT NOT NULL,
    audio_input BIGINT NOT NULL,
    audio_output BIGINT NOT NULL,
    charge BIGINT NOT NULL,
    written_off BIGINT NOT NULL,
    PRIMARY KEY (key, hour, model, grp)
);
CREATE INDEX rollups_account ON rollups (account, hour);
CREATE INDEX rollups_hour ON rollups (hour);

CREATE TABLE codes (
    id BIGINT PRIMARY KEY,
    batch BIGINT NOT NULL,
    hash BYTEA NOT NULL,
    prefix TEXT NOT NULL,
    amount BIGINT NOT NULL,
    expires BIGINT,
    note TEXT,
    revoked BIGINT NOT NULL,
    redeemed_by BIGINT,
    redeemed_at BIGINT,
    created BIGINT NOT NULL
);
CREATE UNIQUE INDEX codes_hash ON codes (hash);
CREATE INDEX codes_batch ON codes (batch, id);

CREATE TABLE notices (
    id BIGINT PRIMARY KEY,
    text TEXT NOT NULL,
    created BIGINT NOT NULL
);

CREATE TABLE audit (
    id BIGINT PRIMARY KEY,
    time BIGINT NOT NULL,
    author TEXT NOT NULL,
    action TEXT NOT NULL,
    target BIGINT,
    was TEXT,
    became TEXT
);
CREATE INDEX audit_target ON audit (target, id);
