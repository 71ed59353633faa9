"""Planted bugs: each breaks a promise, and a test or a story of worlds must notice it.

``python -m tests.worlds.mutants`` plants one after the other in a copy of the package, runs what should kill
it, and names those that survive; ``python -m tests.worlds.mutants pagination`` only those of such a file.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).parents[2]
WORLDS: Final = 300
"""Worlds of a story that must notice a planted bug."""


class Mutant(NamedTuple):
    """A planted bug."""

    file: str  # in primepods/
    old: str  # a text that the file has exactly once
    new: str  # what replaces it
    breaks: str  # what it does wrong
    killers: str  # ids of tests, or `story NAME`, one a line; each alone notices it

    @property
    def path(self) -> Path:
        """The file to change, in the repository."""
        return ROOT / "primepods" / self.file

    def plant(self, folder: Path) -> None:
        """Change the file in a copy of the repository."""
        text = (folder / "primepods" / self.file).read_text()
        (folder / "primepods" / self.file).write_text(text.replace(self.old, self.new))


MUTANTS: Final = (
    Mutant(
        "resources/_deletion.py",
        "            if attempt and not await self._pause_before_retry(attempt, ends_at):\n",
        "            if attempt and not await self._pause_before_retry(attempt, None):\n",
        "The deletion is repeated beyond its deadline.",
        "tests/wire/test_deletion.py::test_the_deadline_bounds_all_of_it",
    ),
    Mutant(
        "leasing/pods_api.py",
        "_MAX_DIFFERENCE: Final = 4 * 3600.0",
        "_MAX_DIFFERENCE: Final = 400 * 3600.0",
        "A proxy's wrong time makes pods expire.",
        "tests/renting/test_sweep.py::test_a_wrong_date_makes_no_pod_old[[9, 9, 9]-False]",
    ),
    Mutant(
        "_utils/unique_names.py",
        "    return _EXPIRY_EPOCH + 60.0 * minutes\n",
        "    return _EXPIRY_EPOCH + minutes\n",
        "An expiry is read in the wrong unit, so that sweeps delete pods in use.",
        "tests/renting/test_unique_names.py::test_a_name_says_what_it_was_made_of",
    ),
    Mutant(
        "_utils/unique_names.py",
        "    return full.startswith(seen) and seen.startswith(needed)\n",
        "    return full.startswith(seen)\n",
        "Somebody else's pod, whose name is a prefix of a unique name, is taken for one's own.",
        "tests/renting/test_unique_names.py::test_a_server_may_respell_and_cut_it",
    ),
    Mutant(
        "_http/transient.py",
        "        return not is_json\n",
        "        return True\n",
        "A rejected key is sent again and again.",
        "tests/wire/test_calls.py::test_what_is_final_is_raised_at_once[401-GET]",
    ),
    Mutant(
        "_http/executor.py",
        "        call.maybe_acted = call.maybe_acted or (maybe_received and not is_rate_limit)\n",
        "        call.maybe_acted = call.maybe_acted or maybe_received\n",
        "After a 429, a 404 to a DELETE is a success, though nothing was deleted.",
        "tests/wire/test_deletion.py::test_who_says_429_has_done_nothing",
    ),
    Mutant(
        "leasing/_rental.py",
        "_HURRIED_TIMEOUT: Final = 10.0",
        "_HURRIED_TIMEOUT: Final = 100.0",
        "An interrupted release waits for minutes.",
        "tests/renting/test_lease_rules.py::test_an_interrupted_release_has_no_more_than_its_limit[30-0.1-600-11-1]",
    ),
    Mutant(
        "leasing/_rental.py",
        "is_ours = is_same_name(self.name, name)\n",
        "is_ours = True\n",
        "A lease uses and deletes the pod of another.",
        "tests/renting/test_identity.py::test_the_id_of_another_pod_is_neither_used_nor_deleted[True-404]",
    ),
    Mutant(
        "leasing/_rental.py",
        """        except PrimePodsError:
            return (
                f"its order is""",
        """        except PrimePodsError:
            self.state = OrderState.OURS
            _ = (
                f"its order is""",
        "A lease deletes a pod that nothing has shown with its name.",
        "tests/renting/test_identity.py::test_an_id_that_nothing_shows_is_neither_used_nor_deleted[False-missing]",
    ),
    Mutant(
        "leasing/_rental.py",
        "self._identify(max(ends_at, self._clock.time() + LIST_TIMEOUT))",
        "self._identify(self._clock.time() + 1.0)",
        "A lease gives up a pod that a replica hides for some seconds.",
        "tests/renting/test_identity.py::test_a_pod_that_is_hidden_for_a_while_is_used_and_deleted[True-missing]",
    ),
    Mutant(
        "leasing/sweeper.py",
        "if orphan.is_listed or orphan.file is None or await self._exists(pod_id, orphan.file.record):\n",
        "if True:\n",
        "A sweep deletes the pod with a recorded id, whatever its name.",
        "tests/renting/test_identity.py::test_an_id_that_nothing_shows_is_neither_used_nor_deleted[True-missing]\n"
        "tests/renting/test_sweep.py::test_a_list_that_fails_deletes_no_pod_of_another",
    ),
    Mutant(
        "leasing/sweeper.py",
        """        listed = await self._read_list() if self._claimed else []
        orphans""",
        """        # the list that was read before
        orphans""",
        "A sweep lists before locking, and misses what a lease orders before its process ends.",
        "tests/renting/test_sweep.py::test_the_pods_of_a_process_that_ends_while_a_sweep_lists_are_deleted[2]",
    ),
    Mutant(
        "remote/ssh_options.py",
        "            env=environment_without_key(),\n",
        "",
        "The ssh that is asked for its keys has the API key in its environment.",
        "tests/remote/test_openssh.py::test_a_wrong_key_is_told_with_what_ssh_said_and_which_was_tried",
    ),
    Mutant(
        "leasing/_rental.py",
        "await pods.wait_gone(pod_id, timeout=resend_after, interval=interval)",
        "pass",
        "A lease ends before its pods are gone.",
        "tests/renting/test_refused_orders.py::test_a_pod_that_appears_after_the_refusal_goes_with_the_lease",
    ),
    Mutant(
        "leasing/supervisor.py",
        "self.is_ending and not self._is_ordering)",
        "self.is_ending)",
        "The end of a lease cancels an order that was sent.",
        "tests/renting/test_lease.py::test_an_order_that_was_sent_is_finished_first",
    ),
    Mutant(
        "leasing/ledger.py",
        "                self._is_own = False\n",
        "",
        "The file of an interrupted lease is written after its removal.",
        "tests/renting/test_ledger.py::test_a_removed_file_is_not_written",
    ),
    Mutant(
        "_utils/files.py",
        "    os.fsync(descriptor)\n\n\ndef replace",
        "\n\ndef replace",
        "The content of a file is not synced, and a power cut makes a pod ownerless.",
        "story power_cut",
    ),
    Mutant(
        "leasing/ledger.py",
        "        sync_folder(folder)\n",
        "",
        "The name of a file is not synced, and a power cut makes a pod ownerless.",
        "story power_cut",
    ),
    Mutant(
        "leasing/_rental.py",
        "self._others |= {row.id for row in listed if is_same_name(self.name, row.name)} - {self.pod_id}",
        "pass",
        "The second pod of an order that was sent twice runs on.",
        "story twins",
    ),
    Mutant(
        "leasing/sweeper.py",
        "return all(any(_is_same",
        "return any(any(_is_same",
        "A sweep deletes a pod that nobody was shown.",
        "tests/renting/test_sweep.py::test_a_second_pod_that_nobody_has_seen_stays",
    ),
    Mutant(
        "runs/_work.py",
        "            self.outcome.results.reached_at = time.monotonic()\n",
        "",
        "A pod that cannot be reached for a minute after its command's end is deleted with the results.",
        "story endings",
    ),
    Mutant(
        "runs/_runner.py",
        "max(record.reconnect, MIN_LOGIN_TIMEOUT)",
        "MIN_LOGIN_TIMEOUT",
        "A pod that is out of reach when its run is taken over is deleted with the results.",
        "story endings",
    ),
    Mutant(
        "runs/_follow.py",
        "positions = [size - start for",
        "positions = [0 * (size - start) for",
        "What takes a run over reads its output from the beginning again.",
        "story jobs",
    ),
    Mutant(
        "remote/_job_reader.py",
        '        self._buffer, self._frame, self._printed = b"", ("stdout", 0), ""\n',
        "",
        "A connection that is cut within a piece of output mixes the next header into the output.",
        "story jobs",
    ),
    Mutant(
        "remote/_login.py",
        "await anyio.sleep(_REFUSED_INTERVAL if _is_refusal(said) else _RETRY_INTERVAL)\n",
        "break\n",
        "A pod is given back, with what runs on it, when the connection of its login check is cut.",
        "story jobs",
    ),
    Mutant(
        "runs/_agent_budget.py",
        '("", balance.spent + balance.reserved, amount,',
        '("", balance.spent, amount,',
        "Sessions of agents may reserve the whole budget each.",
        "story agents",
    ),
    Mutant(
        "runs/_agent_budget.py",
        "            run.abandon()\n",
        "            pass\n",
        "What was reserved for a run whose process was killed is never settled.",
        "story agents",
    ),
    Mutant(
        "leasing/pool.py",
        "if is_lost and job.attempts_left:",
        "if error is not None and job.attempts_left:",
        "An item that has failed by itself is tried again.",
        "tests/renting/test_pool.py::test_a_failure_of_the_work_is_its_items_result",
    ),
    Mutant(
        "leasing/pool.py",
        """            for other in self._members.values():
                other.check_budget()
""",
        "",
        "A pod that was soon lost makes a pool exceed its budget.",
        "tests/renting/test_pool.py::test_a_pod_that_is_soon_lost_brings_the_limit_of_the_others_closer",
    ),
    Mutant(
        "leasing/_rental.py",
        "self.is_kept = record.is_kept\n",
        "self.is_kept = False\n",
        "A kept pod is deleted by the process that takes its lease over.",
        "tests/renting/test_lease_rules.py::test_a_kept_pod_stays_after_a_take_over",
    ),
    Mutant(
        "leasing/supervisor.py",
        "        self.check_budget()  # the price may have changed\n",
        "",
        "A price that rises ends a lease up to a minute too late.",
        "tests/renting/test_lease_rules.py::test_a_price_that_rises_during_the_boot_ends_the_lease_at_once",
    ),
    Mutant(
        "leasing/supervisor.py",
        "self.options.watchdog is not None or (self._take_over is not None and self.options.login):",
        "self.options.watchdog is not None:",
        "The watchdog of a pod that was taken over and kept deletes it.",
        "tests/remote/test_watchdog.py::test_a_pod_that_is_taken_over_and_kept_has_no_watchdog_any_more",
    ),
    Mutant(
        "remote/scripts/job.sh",
        '{ [ ! -d /proc/self ] || primepods_has_token "$primepods_pid" ""; }',
        "true",
        "After a restart of its pod, a job runs for ever if another process has its number.",
        "tests/remote/test_scripts.py::test_a_process_with_the_number_of_a_job_is_not_the_job[dash]",
    ),
    Mutant(
        "remote/scripts/job.sh",
        "  trap '' HUP PIPE\n  primepods_home=",
        "  primepods_home=",
        "A connection that is cut during the start of a job breaks the start.",
        "tests/remote/test_scripts.py::test_a_job_starts_though_its_connection_is_lost[dash]",
    ),
    Mutant(
        "remote/scripts/job.sh",
        "    primepods_is_running || primepods_last=1\n    primepods_read_sizes\n",
        "    primepods_read_sizes\n    primepods_is_running || primepods_last=1\n",
        "The last output of a job is lost.",
        "tests/remote/test_scripts.py::test_output_of_the_last_moment_is_read[dash]",
    ),
    Mutant(
        "remote/scripts/job.sh",
        'primepods_has_token "$primepods_other" -x; then',
        'primepods_has_token "$primepods_other" ""; then',
        "A stopped job is shown as interrupted, because what records its exit code is killed.",
        "tests/remote/test_scripts.py::test_a_job_that_is_stopped_keeps_its_exit_code[dash]",
    ),
    Mutant(
        "remote/job.py",
        "str(round(grace * 10))",
        "str(round(grace))",
        "SIGKILL comes after a tenth of the grace, before a command has saved its work.",
        "tests/remote/test_jobs.py::test_a_stopped_command_has_its_grace",
    ),
    Mutant(
        "leasing/loss.py",
        ", may_answer=not status.has_ended)",
        ")",
        "What a failed pod could still send is not fetched.",
        "tests/cli/test_endings.py::test_a_pod_that_has_failed_may_still_send_what_it_has",
    ),
    Mutant(
        "runs/_run.py",
        "code = _ABANDONED if code is None else code",
        "code = code or _ABANDONED",
        "A run that has succeeded, and whose process died then, has exit code 130.",
        "tests/cli/test_runs.py::test_a_pod_that_a_run_has_left_is_counted_until_its_sweep[end1-0]",
    ),
    Mutant(
        "runs/_run.py",
        "ended_at is None or self.may_have_pod else",
        "ended_at is None else",
        "The cost of an ended run does not grow while its pod is billed.",
        "tests/cli/test_runs.py::test_prune_keeps_the_record_of_a_billed_pod",
    ),
    Mutant(
        "runs/_runner.py",
        "spent = record.spent + made.supervisor.budget.spent",
        "spent = made.supervisor.budget.spent",
        "A restart forgets the cost of the earlier pods, and may spend the limit again.",
        "tests/cli/test_runs.py::test_a_restart_counts_what_the_earlier_pods_have_cost",
    ),
    Mutant(
        "runs/_agent_budget.py",
        "settled = attrs.evolve(entry, spent=cost, at=now)",
        "settled = attrs.evolve(entry, spent=cost)",
        "The cost of a long run is not counted in the window in which it has ended.",
        "tests/cli/test_budget.py::test_limits_by_the_hour_and_in_a_window",
    ),
    Mutant(
        "cli/running/runs.py",
        'run.state == "ended" and not run.may_have_pod]',
        'run.state == "ended"]',
        "`runs --prune` deletes the record of a billed pod.",
        "tests/cli/test_runs.py::test_prune_keeps_the_record_of_a_billed_pod",
    ),
    Mutant(
        "cli/running/runs.py",
        "    if run.may_have_pod:\n        raise",
        "    if run.may_have_pod and not record.verdict:\n        raise",
        "`stop` succeeds although the pod may be billed.",
        "tests/cli/test_runs.py::test_prune_keeps_the_record_of_a_billed_pod",
    ),
    Mutant(
        "remote/forward.py",
        'f"{_LOOPBACK}:{local_port}:{shown}:{port}"]',
        'f"*:{local_port}:{shown}:{port}"]',
        "A forwarded port of a pod is open to the network.",
        "tests/remote/test_forward.py::test_a_port_of_the_pod_is_one_of_this_machine[openssh]",
    ),
    Mutant(
        "resources/disks.py",
        "has_ended = pod_id not in rows and pod_id in ended_ids",
        "has_ended = pod_id not in rows",
        "The deletion of a disk in use is requested after a status response without its pod.",
        "tests/resources/test_disks.py::test_a_disk_in_use_is_not_deleted",
    ),
    Mutant(
        "resources/disks.py",
        'shown, trouble, seen_at = str(disk), "", self._clock.time()',
        'shown, trouble = str(disk), ""',
        "A single 404 after a minute ends the wait for a disk that exists, and is billed.",
        "tests/resources/test_disks.py::test_waiting_ends",
    ),
    Mutant(
        "resources/_max_hourly.py",
        "if pod.name == name and pod.current_price_hr > 0}",
        "if pod.name == name}",
        "A new pod whose price is still 0 does not count, and the hourly limit is exceeded.",
        "tests/renting/test_max_hourly.py::test_a_pod_without_a_price[0]",
    ),
    Mutant(
        "resources/_max_hourly.py",
        "_ids(pods, order.name) - taken.union(order.known):",
        "_ids(pods, order.name) - set(order.known):",
        "A listed pod counts for two orders of its name, and the hourly limit is exceeded.",
        "tests/renting/test_max_hourly.py::test_a_listed_pod_is_that_of_one_order",
    ),
    Mutant(
        "resources/_max_hourly.py",
        "        began = self._now()\n        pods, error = await self._pods.list().collect()\n",
        "        pods, error = await self._pods.list().collect()\n        began = self._now()\n",
        "An order whose pod only a later list shows does not count, and the hourly limit is exceeded.",
        "tests/renting/test_max_hourly.py::test_an_order_counts_beside_an_older_list",
    ),
    Mutant(
        "resources/account.py",
        "            if not reader.rows.is_complete:\n",
        "            if False:\n",
        "A wallet without some of its entries is returned as a whole one.",
        "tests/resources/test_account.py::test_a_wallet_without_one_of_its_pages_is_an_error",
    ),
    Mutant(
        "cli/agents/_tools.py",
        "worst = price_hr * (hours + RELEASE_TIMEOUT / 3600)",
        "worst = price_hr * hours",
        "A slow deletion exceeds the budget of agents.",
        "tests/agents/test_looking.py::test_the_cheapest_offer_is_found_and_quoted",
    ),
    Mutant(
        "cli/agents/_tools.py",
        "if found is None or self._now() > found[0].valid_until:",
        "if found is None:",
        "An agent rents at a price that was quoted long ago.",
        "tests/agents/test_looking.py::test_a_quote_ends_after_ten_minutes",
    ),
    Mutant(
        "cli/agents/_tools.py",
        "(elicitation.form is None and elicitation.url is not None):",
        "elicitation.form is None:",
        "An agent rents without consent, because its host has an older way to say that it can ask.",
        "tests/agents/test_looking.py::test_the_user_is_asked[no form]",
    ),
    Mutant(
        "cli/agents/_tools.py",
        "return type(result).model_validate_json(self._scrub(result.model_dump_json()))",
        "return result",
        "An agent is shown the API key, if a pod prints it.",
        "tests/agents/test_looking.py::test_no_result_has_the_key",
    ),
    Mutant(
        "runs/_items.py",
        "if number not in self.results]",
        "]",
        "An item that has ended begins again when the process of its run has died.",
        "story each",
    ),
    Mutant(
        "runs/_each.py",
        "if error is not None and error.pod_id is not None:",
        "if error is not None:",
        "A run whose process died during an order never goes on.",
        "story each",
    ),
    Mutant(
        "runs/_run.py",
        "            file.flush()\n",
        "",
        "A power cut empties the record of a run.",
        "story each",
    ),
    Mutant(
        "cli/agents/_runs.py",
        "                is_stopping=True,\n",
        "",
        "A session that is killed before its reservation leaves a run that rents beside the budget.",
        "tests/agents/test_looking.py::test_a_session_that_dies_before_its_reservation_leaves_nothing_to_rent",
    ),
)


def is_killed(mutant: Mutant, killer: str) -> bool:
    """Plant a bug in a copy of the repository, and return whether a test or a story fails there."""
    with tempfile.TemporaryDirectory(prefix="mutant-") as name:
        folder = Path(name)
        for part in ("primepods", "tests"):
            shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
        for part in ("pyproject.toml", "README.md"):
            shutil.copy(ROOT / part, folder)
        mutant.plant(folder)
        story = killer.removeprefix("story ")
        if story == killer:
            command = ["pytest", "-q", "-x", "-n0", "-p", "no:cacheprovider", "-m", "", killer]
        else:
            command = ["tests.worlds", "--story", story, "--worlds", str(WORLDS), "--seed", "0"]
        environment = os.environ | {"PYTHONPATH": name, "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(
            [sys.executable, "-m", *command], cwd=folder, env=environment, capture_output=True, check=False
        )
    # Of pytest's exit codes, only 1 says that tests have failed; 4, for example, that there is no such test.
    if done.returncode not in (0, 1):
        raise RuntimeError(f"{killer} could not be run: {done.stdout.decode()[-2000:]}{done.stderr.decode()}")
    return done.returncode == 1 and (story == killer or b"BrokenInvariantError" in done.stdout)


def main(part: str = "") -> int:
    """Plant the bugs in files whose paths contain a text; return 1 if one survives."""
    survivors = 0
    for mutant in MUTANTS:
        if part not in mutant.file:
            continue
        for killer in mutant.killers.splitlines():
            started = time.monotonic()
            verdict = "killed by" if is_killed(mutant, killer) else "SURVIVES"
            survivors += verdict == "SURVIVES"
            seconds = time.monotonic() - started
            sys.stdout.write(f"{mutant.file}: {mutant.breaks} {verdict} {killer} ({seconds:.1f} s)\n")
            sys.stdout.flush()
    sys.stdout.write(f"{survivors} survive\n")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2]))
