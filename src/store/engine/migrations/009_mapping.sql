CREATE TABLE mappings (
    -- AWS's file of which legacy buyer is which account, as far as the buyers are not known yet
    customer_identifier TEXT PRIMARY KEY,
    account_id TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX mappings_by_account ON mappings (account_id);
