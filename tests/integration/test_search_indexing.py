"""The search indices hold what the log says: on the embedded server, and on OpenSearch."""

from tests.searching import searching


async def test_an_index_is_the_fold_of_the_log(postgres_url: str, search_url: str) -> None:
    async with searching(postgres_url, search_url) as world:
        square = world.square
        await world.start("search_posts", "search_members")
        anna, ben = await square.member("Anna_Smith"), await square.member("ben")
        first = await square.post(anna, "Running in the rain #München @ben")
        await square.reply(ben, first, "me too")
        await square.like(ben, first)
        await square.follow(ben, anna)
        await world.apply()
        await world.settle()
        for name in world.indexing:
            assert await world.found(name) == await world.expected(name)
