"""The store: what a node remembers, on disk.

=================  ==========================================================================================
file               concept
=================  ==========================================================================================
events             `EventStore`, the `EventLog` port on SQLite
group, writer      group commit; numbering, chaining and writing of transactions
reader, tail       reading by stream, in chunks, by filter; following along
chain, verify      the hash chain, and walking it
durability         which kinds of event survive a power cut
connection, lock   SQLite connections and their settings; one process per file
guard, head        what is checked before a file is opened for writing
migrations         schema versions; schema.sql is the newest
upcast             old event bodies brought up to date when read
projections        read models that follow the events and can be rebuilt; tables: their declarations
blobs              `BlobStore`, files by the digest of their content
errors             what SQLite reports, as `MachineError`
=================  ==========================================================================================

Only this package imports aiosqlite. The classes live on the event loop; what is called from any thread, or runs on a connection's, says so.
"""
