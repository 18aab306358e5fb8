"""What every page must show, computed from the log by a model that shares no code with Plaza."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

CAP = 800
BEFORE_FOLLOW = 20


@dataclass
class Square:
    """The state of the square after some events, kept in the plainest way there is."""

    author: dict[str, str] = field(default_factory=dict)
    parent: dict[str, str | None] = field(default_factory=dict)
    entries: dict[str, list[tuple[int, str]]] = field(default_factory=lambda: defaultdict(list))
    taken_back: set[tuple[str, int]] = field(default_factory=set)
    deleted: set[str] = field(default_factory=set)
    follows: dict[tuple[str, str], int] = field(default_factory=dict)
    blocks: set[tuple[str, str]] = field(default_factory=set)
    mutes: set[tuple[str, str]] = field(default_factory=set)
    likes: set[tuple[str, str]] = field(default_factory=set)
    reposts: dict[tuple[str, str], int] = field(default_factory=dict)

    def see(self, events: Iterable[dict[str, Any]]) -> "Square":
        for event in events:
            self._see(event["type"], event["data"], event["position"])
        return self

    def _see(self, kind: str, data: dict[str, Any], position: int) -> None:  # noqa: C901, PLR0912
        match kind.rpartition(".")[0]:
            case "post.published":
                post, author = data["postId"], data["authorId"]
                self.author[post] = author
                self.parent[post] = (data.get("replyTo") or {}).get("postId")
                if self.is_own_thread(post):
                    self.entries[author].append((position, post))
            case "post.deleted":
                self.deleted.add(data["postId"])
            case "repost.added":
                self.reposts[data["memberId"], data["postId"]] = position
                self.entries[data["memberId"]].append((position, data["postId"]))
            case "repost.removed":
                position = self.reposts.pop((data["memberId"], data["postId"]))
                self.taken_back.add((data["memberId"], position))
            case "like.added":
                self.likes.add((data["memberId"], data["postId"]))
            case "like.removed":
                self.likes.remove((data["memberId"], data["postId"]))
            case "follow.started":
                self.follows[data["followerId"], data["followeeId"]] = position
            case "follow.ended":
                del self.follows[data["followerId"], data["followeeId"]]
            case "block.started":
                self.blocks.add((data["blockerId"], data["blockedId"]))
            case "block.ended":
                self.blocks.remove((data["blockerId"], data["blockedId"]))
            case "mute.started":
                self.mutes.add((data["muterId"], data["mutedId"]))
            case "mute.ended":
                self.mutes.remove((data["muterId"], data["mutedId"]))

    def is_own_thread(self, post: str) -> bool:
        """A post that answers nobody, or whose parents were all written by its own author."""
        above = self.parent[post]
        return above is None or (
            self.author[above] == self.author[post] and self.is_own_thread(above)
        )

    def timeline(self, member: str) -> list[str]:
        """The ids of the member's home timeline, newest entry first."""
        candidates = [(position, post, member) for position, post in self.entries[member]]
        for (follower, followee), since in self.follows.items():
            if follower == member:
                old = [e for e in self.entries[followee] if e[0] <= since][-BEFORE_FOLLOW:]
                new = [e for e in self.entries[followee] if e[0] > since]
                candidates += [(position, post, followee) for position, post in old + new]
        newest = sorted(candidates, reverse=True)[:CAP]
        shown: dict[str, None] = {}
        for position, post, bringer in newest:
            gone = post in self.deleted or (bringer, position) in self.taken_back
            if not gone and not self.hides(member, bringer, self.author[post]):
                shown.setdefault(post)
        return list(shown)

    def hides(self, viewer: str, *others: str) -> bool:
        return any(
            (viewer, other) in self.blocks
            or (other, viewer) in self.blocks
            or (viewer, other) in self.mutes
            for other in others
        )

    def counts(self, post: str) -> dict[str, int]:
        replies = [p for p, above in self.parent.items() if above == post and p not in self.deleted]
        return {
            "likeCount": sum(liked == post for _, liked in self.likes),
            "repostCount": sum(reposted == post for _, reposted in self.reposts),
            "replyCount": len(replies),
        }

    def profile_counts(self, member: str) -> dict[str, int]:
        written = [p for p, author in self.author.items() if author == member]
        return {
            "followerCount": sum(followee == member for _, followee in self.follows),
            "followingCount": sum(follower == member for follower, _ in self.follows),
            "postCount": len([p for p in written if p not in self.deleted]),
        }
