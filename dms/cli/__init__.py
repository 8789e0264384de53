"""The dms command: parse, call the node over JSON-RPC, print.

::

    app            the top group; it knows every command's name and one line, and loads a command only when it is used
    commands/      one file per group of commands
    context        Io: home, output form, connection; how errors become one line and an exit code
    exit_codes     the table
    blocks, text   what to show, and showing it: plain, in colour on a terminal, or as JSON
    progress       for what takes longer than a second
    task_options   options that describe a task, shared by `run` and `ask`
    streaming      following a job to its end; interrupts: ctrl-C on the way
    node_process   starting `python -m dms.node`

Nothing here knows the network, the store or an actor; importing this package imports nothing.
"""

from __future__ import annotations


def main() -> None:
    """The console script."""
    from dms.early import leave_on_ctrl_c  # noqa: PLC0415 - so that importing the package costs nothing

    leave_on_ctrl_c()
    from dms.cli.app import cli  # noqa: PLC0415

    cli(prog_name="dms")
