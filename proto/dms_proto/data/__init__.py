"""Data: what contents are made of, and how they get from the nodes that hold them to the one that needs them. Decisions only, no I/O.

============  =======================================================================================
`chunks`      a content in chunks of one size, and the list of their digests
`transfer`    which chunks are missing, and which holder is asked for which
`manifest`    datasets: a tree of files under one name
`marks`       what a request tells of the data that its work reads
`holders`     what a requester knows of who has its data
`readers`     who may read what others brought here
`keeping`     which blobs go when there are too many
============  =======================================================================================

A content is named by the digest of all its bytes. A list of the digests of its chunks is a content too, and named the same way: who knows both
names can take the chunks from anybody, in any order, and knows at each one whether it is right.
"""
