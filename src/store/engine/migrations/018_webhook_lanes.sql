-- The webhook posts in two lanes, each with a place of its own: what somebody waits for, and what comes by the thousand.
CREATE TABLE webhook_lanes (
    lane TEXT PRIMARY KEY,              -- prompt or bulk
    seq INTEGER NOT NULL                -- up to where every event of the lane was posted; cursors.seq is the least of them
) STRICT, WITHOUT ROWID;

INSERT INTO webhook_lanes (lane, seq)
SELECT lane.column1, seq FROM cursors, (VALUES ('prompt'), ('bulk')) AS lane WHERE reader = 'webhook';

CREATE TABLE webhook_ahead (
    -- events beyond their lane's place that the application has taken already
    lane TEXT NOT NULL,
    seq INTEGER NOT NULL,
    PRIMARY KEY (lane, seq)
) STRICT, WITHOUT ROWID;

INSERT INTO webhook_ahead (lane, seq)
SELECT CASE WHEN e.type IN ('metering.accepted', 'metering.resolved') THEN 'bulk' ELSE 'prompt' END, p.seq
FROM webhook_posted p CROSS JOIN events e ON e.seq = p.seq;

DROP TABLE webhook_posted;

-- The lane of all that is not of these types; they have the bulk lane, and the index that follows.
CREATE INDEX events_prompt ON events (seq) WHERE type NOT IN ('metering.accepted', 'metering.resolved');

CREATE INDEX events_by_type ON events (type, seq);
