-- who changed what by the API, the command line or the console: a row a request, in the transaction of its first change
CREATE TABLE activity (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    request TEXT NOT NULL UNIQUE,
    at_ms INTEGER NOT NULL,
    actor TEXT NOT NULL,                -- the name of the token
    door TEXT NOT NULL,                 -- api, cli or console
    operation TEXT NOT NULL,            -- the operationId of the API's description
    path TEXT NOT NULL
) STRICT;
