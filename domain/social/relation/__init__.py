"""What two members are to each other: who follows, blocks or mutes whom, decided in one stream."""
