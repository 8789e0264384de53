"""What the code names and does not describe one by one. gen_docs.py --check fails when an entry is missing."""

from __future__ import annotations

from dms_proto.messages import CommitRefusal
from dms_proto.work import EndReason

END_REASONS: dict[EndReason, str] = {
    EndReason.COMPLETED: "The program exited with 0; for a request: every allocation did.",
    EndReason.CHECKPOINTED: "The program exited with 85 and left its `checkpoint`, from which it goes on. Of an allocation only: a job goes on.",
    EndReason.EXIT_NONZERO: "The program exited with another code, which is the exit code of `dms run`.",
    EndReason.KILLED_BY_SIGNAL: "A signal ended the program, and nobody here sent it.",
    EndReason.OUT_OF_MEMORY: "It used more memory than it had reserved.",
    EndReason.OUT_OF_FUEL: "A WebAssembly module used up `limits.fuel`.",
    EndReason.WALL_TIME: "It ran longer than `timeouts.run`.",
    EndReason.OUTPUT_LIMIT: "Standard output and error together grew past `limits.log`.",
    EndReason.DISK_LIMIT: "Its directory grew past `resources.disk`, or it left more than may be taken.",
    EndReason.BAD_PROGRAM: "There is no such program, it may not be executed, or the module is not one.",
    EndReason.CANCELLED: "Its owner stopped it.",
    EndReason.INPUT_UNAVAILABLE: "What the work reads could be fetched of nobody who was asked, or had another digest; "
    "what three attempts in a row cannot get at ends the job so.",
    EndReason.NOT_INVOKED: "Capacity was committed, and no invocation came within 10 s.",
    EndReason.REQUESTER_LOST: "The requester could not be reached for 15 minutes; nobody would have taken the result.",
    EndReason.IMPOSSIBLE: "No known node could ever run it as written; `dms job explain` says what to change.",
    EndReason.DEADLINE: "The job's `deadline` passed.",
    EndReason.PRICE_TOO_LOW: "Nodes could run it, none of them for its `max_price`.",
    EndReason.BUDGET_SPENT: "What is left of the job's `budget` pays for no further attempt.",
    EndReason.NO_BIDS: "Nodes that could run it stayed busy or silent for as long as the job would wait (`timeouts.queue`, `wait_for_nodes`).",
    EndReason.NO_PEERS: "No other node can be reached, and this one cannot run it.",
    EndReason.PROVIDER_LOST: "The provider went away and did not come back in time, or its results could not be fetched.",
    EndReason.PROVIDER_FAULT: "Something at the provider failed: the sandbox, the disk, or a restart that the run did not survive.",
    EndReason.PROVIDER_STOPPED: "The provider's owner stopped it.",
    EndReason.RETRIES_EXHAUSTED: "Node faults came one after the other, `retry.node_faults` of them; the detail names the last.",
    EndReason.REFUSED_BY_POLICY: "Every node that answered refuses it by a condition that its owner set.",
    EndReason.EVICTED: "It gave way for too long at its provider: to the owner, or to work that somebody waits for. It is tried elsewhere.",
    EndReason.UNDECIDED: "Its results were to be checked (`verify`), and not enough nodes gave the same one; the detail counts.",
    EndReason.REQUESTER_FAULT: "The work was done, and this node could not keep what it gave: its own disk is full, or failed. Nothing is tried "
    "elsewhere; what was used is owed.",
}

COMMIT_REFUSALS: dict[CommitRefusal, str] = {
    CommitRefusal.UNKNOWN_BID: "This node made no such bid.",
    CommitRefusal.EXPIRED: "The bid's validity is over, and the second of grace after it.",
    CommitRefusal.ALREADY_COMMITTED: "The bid was taken with other slots or terms.",
    CommitRefusal.TOO_MANY_SLOTS: "More slots than the bid offered.",
    CommitRefusal.NOT_YOURS: "The bid was made to another node, or for another request.",
    CommitRefusal.NEEDS_CHANGED: "The task asks for more than the bid was made for.",
    CommitRefusal.TERMS_DIFFER: "What the requester agrees on is not what this node agrees on: request, bid, price, limits or validity differ.",
    CommitRefusal.STOPPING: "The node is stopping.",
    CommitRefusal.NOT_GRANTED: "A right is missing that was there when the bid was made; the detail says which.",
    CommitRefusal.NOT_CLOSED: "The bid was sealed, and its list was never shown to the provider.",
    CommitRefusal.PRICE_UNPROVEN: "The price does not follow from the list of sealed bids. The detail says what is wrong with it.",
}

UNREAD_SETTINGS: set[str] = set()
"""Settings that are read and checked, and that nothing obeys yet. Their entry says so; a test compares this with the code."""
