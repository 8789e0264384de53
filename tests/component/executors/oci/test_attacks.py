"""The attacks on the sandbox, in a container: each test names what one of them may see.

`programs/attacks.py` is the table. What a container may see besides stands in `OTHERWISE`: none of it reaches beyond the container.
"""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest

from .conftest import Ground

pytestmark = pytest.mark.slow

PROGRAMS = Path(__file__).parents[1] / "programs"
ATTACKS = runpy.run_path(str(PROGRAMS / "attacks.py"))["ATTACKS"]
OTHERWISE: Final[dict[str, tuple[str, ...]]] = {
    "become_root": ("EPERM",),
    # The first process is the engine's own and has the job's variables, MARKER among them.
    "environment_of_the_launcher": ("the node's",),
    "environment_of_the_node": (
        "HOME HOSTNAME LANG MARKER NODE NVIDIA_VISIBLE_DEVICES PATH PORT",
        "HOME HOSTNAME LANG MARKER NODE NVIDIA_VISIBLE_DEVICES PATH PORT TERM container",
    ),
    "other_processes": ("1",),
    # The call is newer than the engine's list of names; it shows the container's own mounts, as /proc does.
    "list_mounts": ("EFAULT",),
    "list_sys": ("done",),
    "find_cgroup_files": ("{'sysfs', 'cgroup'}", "{'cgroup', 'sysfs'}"),
    "files_of_the_host": (".dockerenv dev etc job proc run sys tmp usr", "dev etc job proc run sys tmp usr var"),
    "settings_of_the_host": ("hostname mtab resolv.conf", "hostname mtab"),
    "devices_of_the_host": ("{'mqueue'}",),
    "link_a_file_of_the_host": ("ENOENT",),
}


@pytest.fixture(scope="module")
def found(ground: Ground, python_image: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    home = tmp_path_factory.mktemp("attacked")
    program = [sys.executable, str(PROGRAMS / "attacked_container_node.py"), str(home), ground.socket, python_image]
    done = subprocess.run(program, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout)
    return result


NO_CGROUPS: Final = ("raise_a_limit", "find_its_own_cgroup")
"""What may be seen where an engine limits nothing, for which it is not offered."""


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_sees_no_more_than_it_may(found: dict[str, Any], ground: Ground, attack: str) -> None:
    _, allowed = ATTACKS[attack]
    if attack in NO_CGROUPS and not ground.facts.has_cgroups:
        pytest.skip("this engine limits nothing, and is not offered for that")
    seen = found["seen"][attack]
    if attack == "is_root":
        user, group, capabilities = seen.split()
        assert (user, capabilities) == (group, "none")
        assert int(user) > 1000
    elif attack == "find_its_own_cgroup":
        assert seen == "/" or "libpod" in seen, "podman 4 gives no cgroup namespace by this API"
    else:
        assert seen in (*allowed, *OTHERWISE.get(attack, ()))


def test_of_what_a_job_leaves_only_its_regular_files_come_home(found: dict[str, Any]) -> None:
    assert found["outputs"] == {"out.file": len("harmless"), "out.hard": len("harmless")}


def test_no_job_is_the_hosts_root_and_no_two_of_roots_node_are_one_user(found: dict[str, Any]) -> None:
    users = [set(ids) for ids in found["users"]]
    assert len(users) == 2
    assert {"0"} not in users
    if os.geteuid() == 0:
        assert users[0] != users[1]
    else:
        assert users == [{str(os.geteuid())}] * 2
