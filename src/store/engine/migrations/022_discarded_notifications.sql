-- What a person decided about a message in quarantine, once: who, when and why.
ALTER TABLE notifications ADD COLUMN discarded_at_ms INTEGER;
ALTER TABLE notifications ADD COLUMN discarded_by TEXT;
ALTER TABLE notifications ADD COLUMN discard_note TEXT;

CREATE TRIGGER notifications_keep_discard
    BEFORE UPDATE OF discarded_at_ms, discarded_by, discard_note ON notifications
    WHEN OLD.discarded_at_ms IS NOT NULL
BEGIN SELECT RAISE(ABORT, 'the note of a discarded notification is never overwritten'); END;
