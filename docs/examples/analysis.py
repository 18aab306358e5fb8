"""Growth, a funnel and retention, from nothing but an export.

    plaza export events --out events --typed
    python docs/examples/analysis.py events --plot retention.png

Each `# %%` begins a cell, for editors that run them one by one. It needs duckdb and matplotlib, and
nothing of Plaza.
"""

# %% What there is: one table of events, in the order in which they happened.
import argparse
from pathlib import Path
from typing import Any

import duckdb
from matplotlib.figure import Figure

EVENTS = """
CREATE VIEW events AS
SELECT position, type, recordedAt AS moment, data::JSON AS data
FROM read_parquet($files) ORDER BY position
"""

# %% How many follow whom: every follow adds one, every end of one takes one away.
FOLLOWERS = """
WITH steps AS (
    SELECT date_trunc('day', moment)::DATE AS day, data->>'followeeId' AS member,
           CASE type WHEN 'follow.started.v1' THEN 1 ELSE -1 END AS step
    FROM events WHERE type IN ('follow.started.v1', 'follow.ended.v1')),
days AS (SELECT day, member, sum(step)::BIGINT AS gained FROM steps GROUP BY ALL)
SELECT day, member, gained,
       sum(gained) OVER (PARTITION BY member ORDER BY day)::BIGINT AS followers
FROM days ORDER BY followers DESC, day, member
"""

# %% From a post to an order. Looking at a product changes nothing, so that the log has no event for
# it: the first thing that it knows of a reader who came by a post is what they put into their cart.
# Lines of carts and orders name the post by `sourcePostId`.
FUNNEL = """
WITH shown AS (
    SELECT data->>'postId' AS post, unnest((data->>'$.productIds[*]')) AS product
    FROM events WHERE type = 'post.published.v1'),
put AS (
    SELECT DISTINCT data->>'memberId' AS member, data->>'$.item.productId' AS product,
           data->>'$.item.sourcePostId' AS post
    FROM events WHERE type = 'cart.item_put.v1'),
lines AS (
    SELECT data->>'orderId' AS order_id, data->>'memberId' AS member,
           unnest(from_json(data->'lines', '[{"productId": "VARCHAR", "quantity": "BIGINT",
               "price": {"value": "BIGINT"}, "sourcePostId": "VARCHAR"}]')) AS line
    FROM events WHERE type = 'order.created.v2'),
bought AS (
    SELECT order_id, member, line.productId AS product, line.sourcePostId AS post,
           line.quantity * line.price.value AS value,
           order_id IN (SELECT data->>'orderId' FROM events WHERE type = 'order.confirmed.v1')
               AS confirmed
    FROM lines)
SELECT (SELECT count(DISTINCT post) FROM shown) AS posts_with_products,
       (SELECT count(*) FROM put SEMI JOIN shown USING (post, product)) AS put_into_carts,
       (SELECT count(DISTINCT order_id) FROM bought SEMI JOIN shown USING (post, product))
           AS orders,
       (SELECT count(DISTINCT order_id) FROM bought SEMI JOIN shown USING (post, product)
        WHERE confirmed) AS confirmed_orders,
       (SELECT coalesce(sum(value), 0)::BIGINT FROM bought SEMI JOIN shown USING (post, product)
        WHERE confirmed) AS minor_units,
       (SELECT count(DISTINCT order_id) FROM bought WHERE post IS NULL) AS orders_without_a_post
"""

# %% Who comes back: of those who joined in a week, how many did anything so many weeks later.
# A week that has not passed for all of them is left out.
RETENTION = """
WITH members AS (
    SELECT data->>'memberId' AS member, moment AS joined FROM events
    WHERE type = 'member.registered.v1'),
deeds AS (
    SELECT coalesce(data->>'followerId', data->>'memberId', data->>'authorId') AS member, moment
    FROM events WHERE type IN ('post.published.v1', 'like.added.v1', 'repost.added.v1',
        'follow.started.v1', 'session.started.v1', 'cart.item_put.v1')),
active AS (
    SELECT DISTINCT date_trunc('week', joined)::DATE AS cohort, member,
           floor(date_diff('second', joined, moment) / 604800)::BIGINT AS week
    FROM members JOIN deeds USING (member)),
sizes AS (
    SELECT date_trunc('week', joined)::DATE AS cohort, count(*) AS joined FROM members GROUP BY ALL)
SELECT cohort, week, joined, count(DISTINCT member) AS active
FROM active JOIN sizes USING (cohort)
WHERE week >= 0
  AND cohort + INTERVAL 7 DAY * (week + 2) <= (SELECT max(moment) FROM events)
GROUP BY ALL ORDER BY cohort, week
"""


# %% All of it.
def opened(folder: Path) -> duckdb.DuckDBPyConnection:
    database = duckdb.connect()
    database.execute("SET TimeZone = 'UTC'")
    files = str(folder / "events-*.parquet").replace("'", "''")
    database.execute(EVENTS.replace("$files", f"'{files}'"))
    return database


def rows(database: duckdb.DuckDBPyConnection, query: str) -> list[dict[str, Any]]:
    found = database.execute(query)
    names = [column[0] for column in found.description or ()]
    return [dict(zip(names, row, strict=True)) for row in found.fetchall()]


def by_day(row: dict[str, Any]) -> Any:
    return row["day"]


def draw(cohorts: list[dict[str, Any]], file: Path) -> None:
    """One line a cohort: the share of it that was there, week by week."""
    figure = Figure(figsize=(8, 4.5), layout="tight")
    axes = figure.subplots()
    for cohort in sorted({row["cohort"] for row in cohorts}):
        line = [row for row in cohorts if row["cohort"] == cohort]
        weeks = [row["week"] for row in line]
        shares = [100 * row["active"] / row["joined"] for row in line]
        label = f"joined in the week of {cohort} ({line[0]['joined']})"
        axes.plot(weeks, shares, marker="o", label=label)
    axes.set(xlabel="weeks after joining", ylabel="% that did anything", ylim=(0, 105))
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(alpha=0.3)
    if cohorts:
        axes.legend(fontsize="small")
    # Without the date, so that the same figures are the same picture.
    figure.savefig(file, dpi=110, metadata={"Software": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="of an export")
    parser.add_argument("--plot", type=Path, help="draw the retention into this file (PNG)")
    arguments = parser.parse_args()
    database = opened(arguments.folder)
    growth = rows(database, FOLLOWERS)
    most_followed = growth[0]["member"]
    print(f"followers of {most_followed}, who has had the most")
    for row in sorted((r for r in growth if r["member"] == most_followed), key=by_day)[-7:]:
        print(f"  {row['day']}  {row['followers']:>6,}  ({row['gained']:+,})")
    print("from a post to an order")
    for name, count in rows(database, FUNNEL)[0].items():
        print(f"  {name.replace('_', ' '):24} {count:>8,}")
    retention = rows(database, RETENTION)
    print("who came back")
    for row in retention:
        share = row["active"] / row["joined"]
        print(f"  {row['cohort']}, week {row['week']}: {share:.0%} of {row['joined']}")
    if arguments.plot:
        draw(retention, arguments.plot)


if __name__ == "__main__":
    main()
