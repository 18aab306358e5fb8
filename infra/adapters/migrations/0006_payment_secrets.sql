-- What a buyer entrusts to us for the payment provider only: sealed, and deleted once it is decided.

CREATE TABLE vault.payment_secrets (
    checkout_id text NOT NULL,
    name text NOT NULL,
    sealed bytea NOT NULL,
    stored_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (checkout_id, name)
);
CREATE INDEX payment_secrets_age ON vault.payment_secrets (stored_at);
