"""Tests of the suite that know nothing of users, once more as an ordinary user: `shared` is theirs.

Not here: what limits by cgroups, and what has files of root's (a user's own are tested in
test_rootless_*).
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.cli import BUSYBOX
from support.person import TheirTiffin, person
from test_process import (  # noqa: F401
    test_capabilities,
    test_entrypoint_and_command,
    test_labels_and_annotations,
    test_no_new_privileges,
    test_read_only_root_with_a_tmpfs,
    test_seccomp_is_on_unless_it_is_switched_off,
    test_secrets_of_the_kernel_are_masked,
)
from test_streams import (  # noqa: F401
    test_a_terminal_has_the_size_of_ours_and_follows_it,
    test_detach_keys_leave_it_running_and_attach_comes_back,
    test_exec_with_a_terminal,
    test_exit_code_is_the_commands,
    test_exit_codes_of_exec,
    test_kill_sends_any_signal_and_kills_all,
    test_logs_follow_until_the_end,
    test_output_of_exec_and_its_stdin,
    test_signals_to_run_are_passed_on,
    test_stop_asks_first,
)


@pytest.fixture(scope="module")
def shared() -> Iterator[TheirTiffin]:
    with person() as who:
        made = TheirTiffin.of(who)
        made("pull", BUSYBOX)
        yield made
        made.close()
