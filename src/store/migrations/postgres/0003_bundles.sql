-- Rows lie in bundles, one row of this table each: rows of one account, key, group, model and price, of one day that they
-- count in and of one second that their ids were made in. id: that of the first of them. time: the earliest of theirs.
-- lookup: the hour of that time (hours since 1970) above bits of the ids of their requests. lines: each as a versioned JSON
-- array, a line each.
ALTER TABLE usage RENAME TO single_rows;
ALTER INDEX usage_pkey RENAME TO single_rows_pkey;
DROP INDEX usage_account;
DROP INDEX usage_key;
DROP INDEX usage_lookup;
CREATE TABLE usage (
    id BIGINT PRIMARY KEY,
    count BIGINT NOT NULL,
    day BIGINT NOT NULL,
    lookup BIGINT NOT NULL,
    time BIGINT NOT NULL,
    account BIGINT NOT NULL,
    key BIGINT NOT NULL,
    model TEXT NOT NULL,
    grp TEXT NOT NULL,
    price TEXT,
    lines TEXT NOT NULL
);
INSERT INTO usage SELECT id, 1, day, lookup >> 15, time, account, key, model, grp, NULL,
    '[2,' || id || ',' || time || ',' || charge || substr(rest, 3) FROM single_rows;
DROP TABLE single_rows;
CREATE INDEX usage_account ON usage (account, id);
CREATE INDEX usage_key ON usage (key, id);
CREATE INDEX usage_lookup ON usage (lookup);

-- settled: the last id of the rows of this process that are here. Its rows come in the order of their ids, so later ones
-- are new.
ALTER TABLE processes ADD COLUMN settled BIGINT NOT NULL DEFAULT 0;
