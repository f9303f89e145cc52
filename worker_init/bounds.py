"""How much of one client the relay holds, and for how long it waits for it. Bytes, messages and seconds.

docs/relay.md describes each.
"""

# All that a client may send until it has logged on.
LARGEST_BEFORE_LOGON = 64 * 1024
# A message that the relay answers itself: bookmarks or credentials at most.
LARGEST_ANSWERED = 1024 * 1024
# RUN or BEGIN, where the relay has to read it before it knows where it goes.
LARGEST_READ = 256 * 1024 * 1024
# What all clients of a host may have in such messages together, before all but the oldest of them are held back.
SPOOL = 64 * 1024 * 1024
# An answer of the server that the relay has to read: all but rows.
LARGEST_SUMMARY = 16 * 1024 * 1024
# What a client may have sent ahead while it waits, before it is no longer read from.
READ_AHEAD = 1024 * 1024
MOST_AHEAD = 1000
# What is handled before others have their turn: bytes looked at, messages, values of PackStream.
SLICE = 16 * 1024
MOST_MESSAGES = 500
MOST_VALUES = 10_000
READ_AT_ONCE = 32 * 1024
# What is written to a server at once of a message that was held.
WRITTEN_AT_ONCE = 256 * 1024

# A client that has stopped within a message.
STALL_SECONDS = 60.0
# A client that does not read what it asked for. Long: a task may work on one block of rows for minutes.
UNREAD_SECONDS = 900.0
# One that does not read the last that is said to it.
LINGER_SECONDS = 15.0
