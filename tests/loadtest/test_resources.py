"""What a stack takes of the machine is added up over its processes, and shared memory is counted once in the PSS."""

import os
import subprocess
import sys
from pathlib import Path

from loadtest.watch import resources_of
from rig.stack import processes
from rig.stack.processes import MARK
from testing.waiting import eventually


def test_processes_of_a_stack_are_added_up_and_no_others(tmp_path: Path) -> None:
    # Not this process's own child, whose processes are Locust's.
    script = "import subprocess; [subprocess.Popen(['sleep', '600'], start_new_session=True) for _ in range(2)]"
    environment = {"PATH": os.defpath, MARK: str(tmp_path)}
    subprocess.run([sys.executable, "-c", script], env=environment, check=True)
    try:
        found = eventually(lambda: each if (each := resources_of(str(tmp_path))).processes == 2 else None)
        assert found
        assert found.descriptors >= 2 * 3
        assert found.memory > 0
        if sys.platform == "linux":
            assert found.pss
    finally:
        processes.kill(list(processes.marked(str(tmp_path))))
