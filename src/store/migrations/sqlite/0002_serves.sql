-- Whether the process takes requests: those that do share the limits. The version before does not say, and does.
ALTER TABLE processes ADD COLUMN serves INTEGER NOT NULL DEFAULT 1;
