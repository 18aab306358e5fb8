-- What is kept outside the log, and can be forgotten: keys, password hashes, the services' secrets.

CREATE SCHEMA vault;

CREATE TABLE vault.person_keys (
    person_id text PRIMARY KEY,
    key bytea NOT NULL CHECK (octet_length(key) = 32)
);

CREATE TABLE vault.credentials (
    member_id text PRIMARY KEY,
    password_hash text NOT NULL
);

CREATE TABLE vault.secrets (
    name text PRIMARY KEY,
    value bytea NOT NULL
);
