-- Builds that wait to be gone on with, and those that were served before and may be served again.

-- `code` tells the code that a build is made by; `positions` how far a retired one was applied.
ALTER TABLE public.projection_builds
    ADD COLUMN code text NOT NULL DEFAULT '',
    ADD COLUMN retired_at timestamptz,
    ADD COLUMN positions jsonb NOT NULL DEFAULT '{}';

ALTER TABLE public.dead_letters ADD COLUMN settled_at timestamptz;
