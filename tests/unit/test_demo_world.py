"""What the people of the demo say reads like what people write."""

from infra.command_line.demo_world import TRADES, make_world

VOWELS = "aeiou"


def test_trades_have_the_article_that_they_sound_with() -> None:
    world = make_world(1, "large")
    learning = [person for person in world.people if person.bio.startswith("Learning to be ")]
    assert {person.trade for person in learning} >= {"astronomer", "baker"}
    for person in learning:
        article = "an" if person.trade[0] in VOWELS else "a"
        assert person.bio == f"Learning to be {article} {person.trade}, one mistake at a time."


def test_nothing_is_left_to_fill_in() -> None:
    world = make_world(1, "small")
    texts = [*(said.content for said in world.said), *(person.bio for person in world.people)]
    assert not [text for text in texts if "{" in text or not text[0].isupper()]
    assert {person.trade for person in world.people} <= set(TRADES)
