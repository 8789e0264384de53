"""The actor system: mailboxes, supervision, deadlines, and the actors themselves, on pykka."""
