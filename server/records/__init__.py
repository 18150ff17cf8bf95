"""What the server must still know after it was killed: keys, what they spent, requests, waiting
jobs, measured speeds. Kept in SQLite, or in PostgreSQL by setting.

Belongs here: tables, their migrations, and the few calls that read and write them. Knows nothing of
HTTP, of the event loop, of pictures or of torch. All calls block, may come from any thread, and
raise RecordsFault where the database cannot do its part; several processes share one database.
Times are whole milliseconds since 1970 (UTC), money is in millionths of a dollar.
"""
