"""A made-up square full of people: whom they follow and what they say, all of it from one seed."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

GIVEN_NAMES = (
    "ada",
    "amir",
    "anouk",
    "bela",
    "caspar",
    "chiara",
    "daria",
    "dov",
    "edda",
    "elias",
    "emeka",
    "fatou",
    "femi",
    "finn",
    "greta",
    "hamza",
    "hana",
    "ida",
    "ilya",
    "imani",
    "ines",
    "jonas",
    "juno",
    "kaya",
    "kenji",
    "lale",
    "lars",
    "leila",
    "lior",
    "luca",
    "maeve",
    "malik",
    "marta",
    "mira",
    "naim",
    "nora",
    "olga",
    "omar",
    "paulo",
    "petra",
    "quinn",
    "rania",
    "rosa",
    "sami",
    "sofia",
    "tariq",
    "tove",
    "ugo",
    "uma",
    "vera",
    "viktor",
    "wanda",
    "wim",
    "yara",
    "yusuf",
    "zoe",
)

# What somebody does for a living, and the hashtags they cannot leave alone.
TRADES = {
    "baker": ("sourdough", "breakfast", "smallbusiness"),
    "gardener": ("balcony", "tomatoes", "slowliving"),
    "cyclist": ("gravel", "commute", "bikelife"),
    "potter": ("ceramics", "handmade", "kiln"),
    "sailor": ("harbour", "wind", "knots"),
    "printer": ("letterpress", "paper", "typography"),
    "weaver": ("loom", "wool", "handmade"),
    "climber": ("boulder", "mountains", "rope"),
    "cook": ("soup", "marketday", "fermentation"),
    "luthier": ("guitars", "wood", "slowliving"),
    "keeper": ("bees", "honey", "balcony"),
    "astronomer": ("nightsky", "telescope", "cloudsagain"),
    "tailor": ("mending", "linen", "smallbusiness"),
    "librarian": ("reading", "oldmaps", "quiet"),
    "mechanic": ("engines", "rust", "bikelife"),
    "painter": ("watercolour", "light", "sketchbook"),
}

OPENINGS = (
    "Finally got round to the {thing}",
    "Nobody told me how much {thing} would teach me about patience",
    "Third attempt at the {thing} today",
    "Up before the sun for the {thing}",
    "Small victory: the {thing} held",
    "Unpopular opinion: I like the {thing} better in the rain",
    "Lost an hour to the {thing} and do not regret it",
    "Nothing finishes itself, they say, least of all the {thing}. They are right",
    "Somebody at the market asked about my {thing}",
    "Found my grandmother's notes on the {thing}",
    "A whole week with the {thing}, and my hands know it",
    "If you are in town on Saturday, come and see the {thing}",
)
ENDINGS = (
    "",
    "Photos when the light is better.",
    "Tea first, though.",
    "Worth every minute.",
    "Ask me anything.",
    "Tomorrow, again.",
    "What did I miss?",
    "The neighbours have opinions.",
    "Twelve out of ten.",
    "I may have overdone it.",
)
THINGS = {
    "baker": ("rye starter", "second oven", "cinnamon knots", "new flour"),
    "gardener": ("tomato frame", "compost", "window boxes", "seed swap"),
    "cyclist": ("rear wheel", "coastal route", "new saddle", "winter tyres"),
    "potter": ("ash glaze", "big bowl", "kiln shelf", "tea set"),
    "sailor": ("mainsail", "rudder", "night watch", "old chart"),
    "printer": ("wood type", "poster run", "ink mixing", "proof press"),
    "weaver": ("wide loom", "indigo vat", "blanket", "selvedge"),
    "climber": ("north face", "new rope", "training wall", "scree path"),
    "cook": ("onion soup", "pickle shelf", "stock pot", "market basket"),
    "luthier": ("spruce top", "neck joint", "varnish", "restoration"),
    "keeper": ("second hive", "lavender honey", "smoker", "wax"),
    "astronomer": ("mirror", "comet", "lunar map", "dew heater"),
    "tailor": ("buttonholes", "wedding coat", "linen shirt", "pattern"),
    "librarian": ("map drawer", "reading room", "card index", "binding"),
    "mechanic": ("gearbox", "carburettor", "rusty van", "torque wrench"),
    "painter": ("harbour study", "sky wash", "portrait", "sketchbook"),
}
REPLIES = (
    "This made my morning.",
    "How long did that take you?",
    "I tried the same last year. Patience is the whole trick.",
    "Save me one!",
    "Now I want to start over with mine.",
    "How hard is it with the {thing}, honestly?",
    "Bring it on Saturday?",
    "You always say that, and then it turns out beautifully.",
    "Agreed, apart from the rain.",
    "My {trade} heart is jealous.",
)
ANSWERS = (
    "Longer than I admit.",
    "Only if you bring the coffee.",
    "It gets easier. Slightly.",
    "Come by, I will show you.",
    "Thank you! It nearly fell over.",
    "Yes. And worth it.",
)
QUOTES = (
    "Everybody should read this.",
    "See? I am not the only one.",
    "This, exactly.",
    "My whole week in one post.",
    "Saving this for the next time somebody asks.",
)
BIOS = (
    "{trade} by day, reader by night.",
    "Mostly {trade} things, sometimes soup.",
    "Learning to be {one}, one mistake at a time.",
    "{trade}. Opinions are my cat's.",
    "I make things. The {trade} down the road.",
)
SUFFIXES = ("", "_too", "_jr", "_sr", "_north", "_south", "_east", "_west")

# Members, posts a member, follows a member.
SIZES = {"small": (24, 6, 6), "medium": (120, 10, 14), "large": (900, 12, 30)}

REPLY_SHARE = 0.28
QUOTE_SHARE = 0.05
ANSWER_SHARE = 0.35
HASHTAG_SHARE = 0.7
LIKES_A_POST = 4
REPOSTS_A_POST = 0.6
POPULARITY_EXPONENT = 1.1


@dataclass(frozen=True)
class Person:
    username: str
    display_name: str
    bio: str
    trade: str


@dataclass(frozen=True)
class Said:
    """A post. `reply_to` and `quote_of` are the indexes of earlier ones."""

    author: int
    content: str
    reply_to: int | None = None
    quote_of: int | None = None


@dataclass(frozen=True)
class World:
    """`follows`, `likes` and `reposts` pair a person with a person, or with a post."""

    people: Sequence[Person]
    follows: Sequence[tuple[int, int]]
    said: Sequence[Said]
    likes: Sequence[tuple[int, int]]
    reposts: Sequence[tuple[int, int]]


def make_world(seed: int, size: str) -> World:
    """The same world for the same seed and size."""
    chance = random.Random(f"{seed}/{size}")
    members, posts_each, follows_each = SIZES[size]
    people = make_people(chance, members, seed)
    # A few are known to all, most to some: the followers of rank r go with 1 / r^1.1.
    popularity = [1 / (rank + 1) ** POPULARITY_EXPONENT for rank in range(members)]
    follows = make_follows(chance, people, popularity, follows_each)
    said = make_posts(chance, people, popularity, members * posts_each)
    likes = pairs(chance, popularity, said, len(said) * LIKES_A_POST)
    reposts = pairs(chance, popularity, said, int(len(said) * REPOSTS_A_POST))
    return World(people, follows, said, likes, reposts)


def make_people(chance: random.Random, count: int, seed: int) -> list[Person]:
    trades = list(TRADES)
    names = [
        (given, trade, suffix) for suffix in SUFFIXES for given in GIVEN_NAMES for trade in trades
    ]
    every = len(GIVEN_NAMES) * len(trades)
    # Names without a suffix first, in an order that the seed decides.
    chosen = [
        name
        for start in range(0, len(names), every)
        for name in chance.sample(names[start : start + every], every)
    ][:count]
    mark = "" if seed == 1 else str(seed)
    return [
        Person(
            username=f"{given}_{trade}{suffix}{mark}",
            display_name=f"{given.capitalize()} {trade.capitalize()}",
            bio=sentence(chance.choice(BIOS).format(trade=trade, one=with_article(trade))),
            trade=trade,
        )
        for given, trade, suffix in chosen
    ]


def make_follows(
    chance: random.Random, people: Sequence[Person], popularity: Sequence[float], mean: int
) -> list[tuple[int, int]]:
    everybody = range(len(people))
    limits = list(accumulate(popularity))
    by_trade: dict[str, list[int]] = {}
    for index, person in enumerate(people):
        by_trade.setdefault(person.trade, []).append(index)
    found: dict[tuple[int, int], None] = {}
    for follower in everybody:
        # Some follow three people, some follow hundreds.
        wanted = min(len(people) - 1, max(3, int(chance.lognormvariate(0, 0.7) * mean)))
        chosen = set(chance.choices(everybody, cum_weights=limits, k=wanted))
        colleagues = by_trade[people[follower].trade]
        chosen.update(chance.sample(colleagues, min(len(colleagues), max(1, wanted // 5))))
        chosen.discard(follower)
        found.update(dict.fromkeys((follower, followee) for followee in sorted(chosen)))
    return list(found)


def make_posts(
    chance: random.Random, people: Sequence[Person], popularity: Sequence[float], count: int
) -> list[Said]:
    everybody = range(len(people))
    # Those who are much followed also talk more, but not in the same measure.
    talk = list(accumulate(weight**0.4 for weight in popularity))
    said: list[Said] = []
    while len(said) < count:
        author = chance.choices(everybody, cum_weights=talk)[0]
        person = people[author]
        draw = chance.random()
        if said and draw < REPLY_SHARE:
            said.append(reply(chance, said, author, people))
        elif said and draw < REPLY_SHARE + QUOTE_SHARE:
            quoted = recent(chance, said)
            said.append(Said(author, chance.choice(QUOTES), quote_of=quoted))
        else:
            said.append(Said(author, fresh(chance, person)))
    return said


def fresh(chance: random.Random, person: Person) -> str:
    text = chance.choice(OPENINGS).format(thing=chance.choice(THINGS[person.trade])) + "."
    ending = chance.choice(ENDINGS)
    words = [text, ending] if ending else [text]
    if chance.random() < HASHTAG_SHARE:
        tags = chance.sample(TRADES[person.trade], chance.choice((1, 1, 2)))
        words += [f"#{tag}" for tag in tags]
    return " ".join(words)


def reply(
    chance: random.Random, said: Sequence[Said], author: int, people: Sequence[Person]
) -> Said:
    parent = recent(chance, said)
    above = said[parent]
    if above.reply_to is not None and chance.random() < ANSWER_SHARE:
        # Whoever was asked answers, and so a conversation goes on.
        return Said(said[above.reply_to].author, chance.choice(ANSWERS), reply_to=parent)
    trade = people[above.author].trade
    thing = chance.choice(THINGS[trade])
    text = chance.choice(REPLIES).format(thing=thing, trade=people[author].trade)
    return Said(author, text, reply_to=parent)


def recent(chance: random.Random, said: Sequence[Said]) -> int:
    """One of the newer posts: people answer what they have just seen."""
    return max(0, len(said) - 1 - int(chance.expovariate(1 / 12)))


def pairs(
    chance: random.Random, popularity: Sequence[float], said: Sequence[Said], count: int
) -> list[tuple[int, int]]:
    """Who likes or reposts what: posts of well-known people gather most; nobody their own."""
    everybody = range(len(popularity))
    weights = [
        popularity[post.author] ** 0.6 * (0.4 if post.reply_to is not None else 1) for post in said
    ]
    limits = list(accumulate(weights))
    found: dict[tuple[int, int], None] = {}
    for _ in range(count):
        member = chance.choice(everybody)
        post = chance.choices(range(len(said)), cum_weights=limits)[0]
        if said[post].author != member:
            found[member, post] = None
    return list(found)


def with_article(trade: str) -> str:
    return f"an {trade}" if trade[0] in "aeiou" else f"a {trade}"


def sentence(text: str) -> str:
    return text[0].upper() + text[1:]
