"""Job documents: read, checked, resolved into tasks and content-addressed inputs.

::

    bytes of a file ──source──▶ Located values (each knows its line) ──check──▶ JobDocument ──resolve──▶ JobSpec
                                                                                              └ inputs read and digested

    source    YAML or JSON text -> values that remember their line; no anchors, tags, duplicate keys or deep nesting
    document  JobDocument: the fields, their units, defaults and descriptions
    check     Located values -> JobDocument, or a BadJob naming every field, line and rule
    schema    the JSON Schema, generated from the types
    resolve   JobDocument and a directory -> JobSpec
    spec      JobSpec: what `job.submit` takes; paths only as places to read content from

Nothing here speaks to a node: a malformed job is refused before anything is sent.
"""

from __future__ import annotations
