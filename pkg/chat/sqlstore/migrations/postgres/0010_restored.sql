-- Whoever knows a list as it was before a backup was put back begins again.

ALTER TABLE users ADD COLUMN list_kept_after bigint NOT NULL DEFAULT 0; -- revisions up to this one are not kept
