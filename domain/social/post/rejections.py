"""Why a post command may be refused."""

from dataclasses import dataclass

from domain.shared.rejection import Conflict, Forbidden, NotFound


@dataclass(eq=False)
class PostUnknown(NotFound):
    """It never was, or is deleted."""

    title = "There is no such post"
    post_id: str


@dataclass(eq=False)
class NotTheAuthor(Forbidden):
    title = "Only its author may delete a post"
    post_id: str


@dataclass(eq=False)
class PostIdTaken(Conflict):
    """Two ids were made alike, and its maker tries again; or an import repeats itself."""

    title = "The post id is in use"
    post_id: str
