-- How far the relay has sent the log to Kafka: one row. `links` holds, per partition, the last
-- position its frames cover, so that the next frame can name the one before it.
CREATE TABLE public.relay (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    position bigint NOT NULL,
    links jsonb NOT NULL,
    moved_at timestamptz NOT NULL DEFAULT now()
);
