"""How much data the relay holds for one client, and how long it waits for the client. Bytes, messages and seconds.

docs/relay.md describes each bound.
"""

# What a client may send in all before it has logged on.
LARGEST_BEFORE_LOGON = 64 * 1024
# A message that the relay answers itself. It holds bookmarks or credentials at most.
LARGEST_ANSWERED = 1024 * 1024
# A RUN or BEGIN that the relay must read before it can tell where the message goes.
LARGEST_READ = 256 * 1024 * 1024
# What all clients of a host may hold in such messages together. Above this, all but the oldest client are held back.
SPOOL = 64 * 1024 * 1024
# An answer of the server that the relay must read: any except a row.
LARGEST_SUMMARY = 16 * 1024 * 1024
# What a client may send ahead while it waits, before the relay stops reading from it.
READ_AHEAD = 1024 * 1024
MOST_AHEAD = 1000
# What is handled for one client before the others have their turn: bytes scanned, messages, PackStream values.
SLICE = 16 * 1024
MOST_MESSAGES = 500
MOST_VALUES = 10_000
READ_AT_ONCE = 32 * 1024
# How much of a held message is written to a server at once.
WRITTEN_AT_ONCE = 256 * 1024

# A client that stopped in the middle of a message.
STALL_SECONDS = 60.0
# A client that does not read its results. The time is long: a task may work on one block of rows for minutes.
UNREAD_SECONDS = 900.0
# A client that does not read the last message that is sent to it.
LINGER_SECONDS = 15.0
