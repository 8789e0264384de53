"""Audit: what was agreed, run and owed for a job, or on a tab, in one file that anybody can check without a node.

::

    export   a node's events about a job or a tab, sealed with its key     ──▶ file
    file  ──▶ lines   what the file says, and where it is damaged
              chain   the events: each as it was written, none missing, none moved
              proofs  the signed frames in them: who said what to whom, when
              tabs    the running account they prove
              deals   the agreements they prove: terms, figures, order, completeness
          ──▶ verify  all of these together, as a `Report`
    a log ──▶ logs    whose it is, by what the file proves

No part of it opens a home, a store or a network. The form of the file is in docs/reference/audit-file.md.
"""
