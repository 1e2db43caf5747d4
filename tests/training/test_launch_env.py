"""How a process learns that it is one of several."""

from __future__ import annotations

import pytest

from genevae.training.launch_env import Launch, first_host, launched

BATCH = {"SLURM_JOB_ID": "41", "SLURM_NTASKS": "4", "SLURM_PROCID": "0", "SLURM_NODELIST": "n[1-2]"}
"""Of a batch script, before `srun`."""
STEP = {**BATCH, "SLURM_PROCID": "3", "SLURM_LOCALID": "1", "SLURM_STEP_NODELIST": "n[1-2]", "SLURM_STEP_ID": "2"}
TORCHRUN = {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "MASTER_ADDR": "n1", "MASTER_PORT": "29500"}


@pytest.mark.parametrize("environment", [{}, {"WORLD_SIZE": "2"}, BATCH], ids=["shell", "half", "batch script"])
def test_a_process_by_itself_is_alone(environment):
    assert launched(environment) == Launch()
    assert launched(environment).is_first


def test_torchrun_says_who_is_who():
    assert launched(TORCHRUN) == Launch(5, 8, 1, "env://")
    assert not launched(TORCHRUN).is_first


def test_srun_says_who_is_who_and_the_first_machine_is_where_they_meet():
    found = launched(STEP)
    assert (found.rank, found.n_ranks, found.local_rank) == (3, 4, 1)
    assert found.meeting.startswith("tcp://n1:")


def test_all_tasks_of_a_step_meet_at_one_place_and_other_jobs_and_steps_at_others():
    places = {launched({**STEP, "SLURM_PROCID": str(rank)}).meeting for rank in range(4)}
    assert len(places) == 1
    others = {launched({**STEP, name: "9"}).meeting for name in ("SLURM_JOB_ID", "SLURM_STEP_ID")}
    assert len(others | places) == 3


def test_a_place_to_meet_can_be_named():
    assert launched({**STEP, "MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "77"}).meeting == "tcp://10.0.0.1:77"


def test_a_step_may_have_fewer_tasks_than_its_job():
    assert launched({**STEP, "SLURM_STEP_NUM_TASKS": "2"}).n_ranks == 2


def test_torchrun_below_srun_has_the_last_word():
    assert launched({**STEP, **TORCHRUN}) == launched(TORCHRUN)


@pytest.mark.parametrize("name", ["TORCHELASTIC_RESTART_COUNT", "SLURM_RESTART_COUNT"])
def test_a_job_that_was_started_again_knows_it(name):
    assert launched({name: "2"}).restarts == launched({**TORCHRUN, name: "2"}).restarts == 2


@pytest.mark.parametrize(
    ("nodes", "first"),
    [
        ("gpu7", "gpu7"),
        ("gpu7,gpu8", "gpu7"),
        ("gpu[003-005,9],cpu1", "gpu003"),
        ("gpu[12],x[1-2]", "gpu12"),
        ("n[4,6-7]", "n4"),
        ("rack[1,4]-n[02-07]x", "rack1-n02x"),
        ("c1-n[1-2].cluster.org", "c1-n1.cluster.org"),
    ],
)
def test_the_first_machine_is_read_from_the_shorthand(nodes, first):
    assert first_host(nodes) == first
