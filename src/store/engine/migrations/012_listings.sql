CREATE TABLE agreement_listings (
    -- how far the listings of a product's agreements have got; without a row all are listed next
    product_id TEXT PRIMARY KEY REFERENCES products (id),
    changed_until_ms INTEGER,           -- the newest change that was seen and taken over, by AWS's time
    whole_at_ms INTEGER,                -- when the last whole listing began, by ours
    refused_at_ms INTEGER               -- when AWS refused to list by changes
) STRICT, WITHOUT ROWID;

CREATE TABLE hidden_licenses (
    -- licences of which AWS lists nothing, as of a channel partner's sale: asked about ever more seldom
    license_arn TEXT PRIMARY KEY,
    times INTEGER NOT NULL,             -- how often in a row
    rests_until_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX hidden_licenses_by_rest ON hidden_licenses (rests_until_ms);

-- Those that no word tells to be in force, nor that they are over.
CREATE INDEX licenses_unsettled ON licenses (product_code)
    WHERE (change IS NULL AND observed IS NULL) OR observed IN ('SCHEDULED', 'PENDING');
