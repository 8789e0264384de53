"""What each event changes in the node's read models, by the part the node played: requester, provider, peer among peers."""
