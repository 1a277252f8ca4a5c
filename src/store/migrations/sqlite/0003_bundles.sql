-- Rows lie in bundles, one row of this table each: rows of one account, key, group, model and price, of one day that they
-- count in and of one second that their ids were made in. id: that of the first of them. time: the earliest of theirs.
-- lookup: the hour of that time (hours since 1970) above bits of the ids of their requests. lines: each as a versioned JSON
-- array, a line each.
ALTER TABLE usage RENAME TO single_rows;
DROP INDEX usage_account;
DROP INDEX usage_key;
DROP INDEX usage_lookup;
CREATE TABLE usage (
    id INTEGER PRIMARY KEY,
    count INTEGER NOT NULL,
    day INTEGER NOT NULL,
    lookup INTEGER NOT NULL,
    time INTEGER NOT NULL,
    account INTEGER NOT NULL,
    key INTEGER NOT NULL,
    model TEXT NOT NULL,
    grp TEXT NOT NULL,
    price TEXT,
    lines TEXT NOT NULL
) STRICT;
INSERT INTO usage SELECT id, 1, day, lookup >> 15, time, account, key, model, grp, NULL,
    '[2,' || id || ',' || time || ',' || charge || substr(rest, 3) FROM single_rows;
DROP TABLE single_rows;
CREATE INDEX usage_account ON usage (account, id);
CREATE INDEX usage_key ON usage (key, id);
CREATE INDEX usage_lookup ON usage (lookup);

-- settled: the last id of the rows of this process that are here. Its rows come in the order of their ids, so later ones
-- are new.
ALTER TABLE processes ADD COLUMN settled INTEGER NOT NULL DEFAULT 0;
