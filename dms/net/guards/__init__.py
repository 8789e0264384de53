"""The isolation layer: what stands between libp2p 0.8.1 and everything else.

============================  =====================================================================================
file                          stock fault that it answers
============================  =====================================================================================
`lean`                        importing loads 90 MB for what needs half
`crashes`                     an exception in any stream handler or service task ends the process
`secure_wire`                 a cancelled or half-done write breaks the Noise nonce, hence the connection
`yamux`, `yamux_stream`       window not enforced, 5 s reader limit, frames torn by concurrent or cancelled writes
`swarm`                       inbound slots never given back, no ban by peer, handshakes hold slots
`transport`                   a busy port goes unnoticed, default security offers plaintext
`dialing`                     one address per peer, 250 ms wait, 60 s of negative cache
`services`                    one failing task of a service takes the service and then the process down
`pubsub`                      sequence numbers restart, subscriptions forgotten, small queues, slow reads
`router`                      every topic that a peer makes up is remembered, and most of what is said of peers that are gone
`shutdown`                    leaving the host closes no connection
============================  =====================================================================================

They touch private names of libp2p 0.8.1; `lean.install` refuses any other version, and tests/fault/net shows each fault and each remedy.
"""
