"""The SQL of pages, over the read tables of the builds that the search path names.

A row holds from `since` (or its own `position`) up to, but not at, `until`.
"""
# ruff: noqa: S608 -- what is composed into these texts are constants of this module.

from infra.ports.log import OPEN

TIMELINE_MAX = 800
BEFORE_FOLLOW_MAX = 20
ENGAGED_MAX = 2000

# The newest entries of all accounts together need not all be read: the 20 newest of each account
# belong to the timeline whenever it was followed, so the 800th newest of those is a floor below
# which nothing can be among the newest 800 of all.
PULL = f"""
WITH followed AS MATERIALIZED (
    SELECT f.followee_id AS author_id, f.since,
           f.until = {OPEN} OR EXISTS (
               SELECT FROM follows n
               WHERE n.follower_id = f.follower_id AND n.followee_id = f.followee_id
                 AND n.until = {OPEN}) AS holds
    FROM follows f
    WHERE f.follower_id = %(member)s AND f.since <= %(at)s AND f.until > %(at)s
    UNION ALL
    SELECT %(member)s::bigint, 0, true
), newest AS (
    SELECT e.position
    FROM followed CROSS JOIN LATERAL (
        SELECT position FROM entries
        WHERE author_id = followed.author_id AND position <= %(at)s
        ORDER BY position DESC LIMIT {BEFORE_FOLLOW_MAX}) e
    ORDER BY e.position DESC LIMIT {TIMELINE_MAX}
), low AS MATERIALIZED (
    SELECT CASE WHEN count(*) = {TIMELINE_MAX} THEN min(position) ELSE 0 END AS position
    FROM newest
)
SELECT e.position, e.post_position, followed.author_id, e.is_repost, e.until, followed.holds
FROM low CROSS JOIN followed CROSS JOIN LATERAL (
    (SELECT position, post_position, is_repost, until FROM entries
     WHERE author_id = followed.author_id
       AND position <= %(at)s AND position > followed.since AND position >= low.position
     ORDER BY position DESC LIMIT {TIMELINE_MAX})
    UNION ALL
    (SELECT position, post_position, is_repost, until FROM (
        SELECT position, post_position, is_repost, until FROM entries
        WHERE author_id = followed.author_id AND position <= followed.since
          AND followed.since >= low.position
        ORDER BY position DESC LIMIT {BEFORE_FOLLOW_MAX}) before
     WHERE position >= low.position)) e
ORDER BY e.position DESC LIMIT {TIMELINE_MAX}
"""

_POST = """
SELECT p.position, p.post_id, p.author_id, p.created_at, p.content, p.media_urls, p.product_ids,
       p.reply_to, p.quote_of, p.until,
       coalesce(e.likes, 0), coalesce(e.reposts, 0), coalesce(c.replies, 0)
FROM posts p
LEFT JOIN engagement_counts e ON e.post_id = p.post_id
LEFT JOIN post_counts c ON c.post_id = p.post_id
"""
# A repost is shown as the post it reposts, which is fetched with it.
CARDS = (
    _POST
    + """
WHERE p.position IN (
    SELECT unnest(%(positions)s::bigint[])
    UNION SELECT position FROM posts WHERE post_id = ANY(%(post_ids)s)
    UNION SELECT post_position FROM entries WHERE position = ANY(%(entries)s))
"""
)

REPOSTS = """
SELECT position, author_id, post_position, until FROM entries WHERE position = ANY(%(entries)s)
"""

_MEMBER = """
SELECT m.member_id, m.username, m.display_name, m.bio, m.avatar_url, m.is_verified, m.erased
FROM members m
"""
MEMBERS_OF_CARDS = (
    _MEMBER
    + f"""
WHERE m.until = {OPEN} AND m.member_id IN (
    SELECT author_id FROM posts WHERE position = ANY(%(positions)s)
    UNION ALL SELECT author_id FROM posts WHERE post_id = ANY(%(post_ids)s)
    UNION ALL SELECT author_id FROM entries WHERE position = ANY(%(entries)s)
    UNION ALL SELECT post_author_id FROM entries WHERE position = ANY(%(entries)s)
    UNION ALL SELECT unnest(%(member_ids)s::bigint[]))
"""
)
MEMBERS_AT = (
    _MEMBER
    + """
WHERE m.member_id = ANY(%(member_ids)s) AND m.since <= %(at)s AND m.until > %(at)s
"""
)

# A count as of a position is the number of rows that held there.
# What an erased member wrote is not answered, whichever moment is asked about.
POSTS_AT = """
SELECT p.position, p.post_id, p.author_id, p.created_at,
       CASE WHEN NOT EXISTS (
           SELECT FROM members WHERE member_id = p.author_id AND erased) THEN p.content END,
       p.media_urls, p.product_ids,
       p.reply_to, p.quote_of, p.until,
       (SELECT count(*) FROM likes l
        WHERE l.post_id = p.post_id AND l.since <= %(at)s AND l.until > %(at)s),
       (SELECT count(*) FROM reposts r
        WHERE r.post_id = p.post_id AND r.since <= %(at)s AND r.until > %(at)s),
       (SELECT count(*) FROM posts a
        WHERE a.reply_to = p.post_id AND a.position <= %(at)s AND a.until > %(at)s)
FROM posts p
WHERE p.position <= %(at)s
  AND (p.position = ANY(%(positions)s) OR p.post_id = ANY(%(post_ids)s))
"""

HIDDEN = """
SELECT target_id, kind FROM hides
WHERE viewer_id = %(member)s AND since <= %(at)s AND until > %(at)s
UNION ALL
SELECT viewer_id, 'block' FROM hides
WHERE target_id = %(member)s AND kind = 'block' AND since <= %(at)s AND until > %(at)s
"""
HIDDEN_NOW = HIDDEN.replace("since <= %(at)s AND until > %(at)s", f"until = {OPEN}")

HIDES_OF = f"SELECT target_id, kind FROM hides WHERE viewer_id = %(member)s AND until = {OPEN}"

# By their positions, which is what pages know posts by.
ENGAGED_NEWEST = f"""
SELECT p.position, e.is_repost FROM (
    (SELECT post_id, false AS is_repost FROM likes WHERE member_id = %(member)s AND until = {OPEN}
     ORDER BY since DESC LIMIT {ENGAGED_MAX})
    UNION ALL
    (SELECT post_id, true FROM reposts WHERE member_id = %(member)s AND until = {OPEN}
     ORDER BY since DESC LIMIT {ENGAGED_MAX})
) e JOIN posts p USING (post_id)
"""
ENGAGED = """
SELECT p.position, false FROM posts p JOIN likes l USING (post_id)
WHERE p.position = ANY(%(posts)s) AND l.member_id = %(member)s
  AND l.since <= %(at)s AND l.until > %(at)s
UNION ALL
SELECT p.position, true FROM posts p JOIN reposts r USING (post_id)
WHERE p.position = ANY(%(posts)s) AND r.member_id = %(member)s
  AND r.since <= %(at)s AND r.until > %(at)s
"""

COUNTS = """
SELECT w.member_id, coalesce(m.followers, 0), coalesce(m.following, 0), coalesce(a.posts, 0)
FROM unnest(%(member_ids)s::bigint[]) w(member_id)
LEFT JOIN member_counts m ON m.member_id = w.member_id
LEFT JOIN author_counts a ON a.author_id = w.member_id
"""
COUNTS_AT = """
SELECT %(member)s::bigint,
       (SELECT count(*) FROM follows
        WHERE followee_id = %(member)s AND since <= %(at)s AND until > %(at)s),
       (SELECT count(*) FROM follows
        WHERE follower_id = %(member)s AND since <= %(at)s AND until > %(at)s),
       (SELECT count(*) FROM posts
        WHERE author_id = %(member)s AND position <= %(at)s AND until > %(at)s)
"""

MEMBER_NAMED = """
SELECT member_id FROM members
WHERE username_key = %(key)s AND since <= %(at)s AND until > %(at)s AND NOT erased
"""

FOLLOWING_AMONG = """
SELECT followee_id, since FROM follows
WHERE follower_id = %(member)s AND followee_id = ANY(%(member_ids)s)
  AND since <= %(at)s AND until > %(at)s
"""

POSTS_OF = f"""
SELECT position FROM posts
WHERE author_id = %(member)s AND position < %(before)s AND until = {OPEN}
ORDER BY position DESC LIMIT %(limit)s
"""

# Below the first post of a conversation everything names it as its root; below any other post
# what answers it has to be followed down.
REPLIES_UNDER = f"""
WITH RECURSIVE below AS (
    SELECT position, post_id, until FROM posts
    WHERE reply_to = %(post)s
      AND EXISTS (SELECT FROM posts WHERE post_id = %(post)s AND root IS NOT NULL)
    UNION ALL
    SELECT p.position, p.post_id, p.until FROM posts p JOIN below ON p.reply_to = below.post_id
)
SELECT position FROM (
    SELECT position, until FROM below
    UNION ALL
    SELECT position, until FROM posts WHERE root = %(post)s AND position > %(after)s
) thread
WHERE position > %(after)s AND until = {OPEN}
ORDER BY position LIMIT %(limit)s
"""


def edges(listed: str, of: str) -> str:
    """One end of the follows whose other end is a member, newest first."""
    # Somebody who followed again since the first page keeps the place that the first page knew.
    return f"""
SELECT f.{listed}, f.since FROM follows f
WHERE f.{of} = %(member)s AND f.since <= %(at)s AND f.until > %(at)s
  AND f.since < %(before)s
  AND (f.until = {OPEN} OR EXISTS (
      SELECT FROM follows n WHERE n.follower_id = f.follower_id
        AND n.followee_id = f.followee_id AND n.until = {OPEN}))
ORDER BY f.since DESC LIMIT %(limit)s
"""


FOLLOWERS = edges("follower_id", of="followee_id")
FOLLOWEES = edges("followee_id", of="follower_id")

BROUGHT = f"""
SELECT e.post_position, max(e.position) FROM entries e
WHERE e.post_id = ANY(%(post_ids)s) AND e.until = {OPEN}
  AND (e.author_id = %(member)s OR EXISTS (
      SELECT FROM follows WHERE follower_id = %(member)s AND followee_id = e.author_id
        AND until = {OPEN}))
  AND NOT EXISTS (
      SELECT FROM hides WHERE until = {OPEN}
        AND (viewer_id = %(member)s AND target_id = e.author_id
          OR kind = 'block' AND viewer_id = e.author_id AND target_id = %(member)s))
GROUP BY e.post_position
"""

WAYS = """
WITH brought AS (
    SELECT e.position, e.author_id, e.is_repost, e.until
    FROM posts p JOIN entries e ON e.author_id = p.author_id AND e.position = p.position
    WHERE p.post_id = %(post)s
    UNION ALL
    SELECT e.position, e.author_id, e.is_repost, e.until
    FROM reposts r JOIN entries e ON e.author_id = r.member_id AND e.position = r.since
    WHERE r.post_id = %(post)s
)
SELECT b.position, b.author_id, b.is_repost, b.until, coalesce(f.since, 0)
FROM brought b
LEFT JOIN follows f ON f.follower_id = %(member)s AND f.followee_id = b.author_id
     AND f.since <= %(at)s AND f.until > %(at)s
WHERE b.position <= %(at)s AND (f.since IS NOT NULL OR b.author_id = %(member)s)
ORDER BY b.position DESC
"""

CHECKPOINTS = """
SELECT c.projection, c.partition, c.position
FROM checkpoints c JOIN projection_builds b ON b.name = c.projection AND b.build = c.build
WHERE b.status = 'live' AND c.projection = ANY(%(projections)s)
"""

ENDED_SESSIONS = """
SELECT session_id, extract(epoch FROM expires_at)::bigint, position FROM ended_sessions
WHERE position > %(after)s AND expires_at > now()
"""
ERASED_MEMBERS = f"SELECT member_id FROM members WHERE erased AND until = {OPEN}"

HEAD = "SELECT coalesce(max(notification_id), 0) FROM log.events"
