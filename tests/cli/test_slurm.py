"""Jobs for SLURM: what the queue is told, and what the script does, beside programs that stand in for the queue's."""

from __future__ import annotations

import os
import shlex
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from tests.training.processes import free_port

import genevae as gv
from genevae.cli import main
from genevae.cli.slurm import _callable

BASH = shutil.which("bash") or "bash"
DIRECTIVES = {
    "account", "array", "cpus-per-task", "gpus-per-node", "job-name", "mem", "nodes", "ntasks-per-node", "open-mode",
    "output", "partition", "requeue", "signal", "time",
}  # fmt: skip
"""Of sbatch's own options, those that a test here may need."""

SRUN = """#!/bin/bash
# As srun: leave out my own options, and start the rest.
while [[ "$1" == --* ]]; do echo "srun: $1" >&2; shift; done
if [ -n "$EXIT_WITH" ]; then exit "$EXIT_WITH"; fi
if [ "${SLURM_NTASKS:-1}" -gt 1 ]; then  # a task on each machine
    for ((rank = 0; rank < SLURM_NTASKS; rank++)); do
        SLURM_PROCID=$rank SLURM_LOCALID=0 SLURM_STEP_ID=0 SLURM_STEP_NODELIST=localhost "$@" &
    done
    if [ -n "$KILL_WHEN" ]; then
        while [ ! -e "$KILL_WHEN" ]; do sleep 0.05; done
        kill -KILL $!
    fi
    status=0
    for task in $(jobs -p); do wait "$task" || status=$?; done
    exit $status
fi
if [ -z "$WARN_WHEN" ]; then exec "$@"; fi
"$@" &
while [ ! -e "$WARN_WHEN" ]; do sleep 0.05; done
kill -USR1 $!
wait $!
"""
SBATCH = """#!/bin/bash
bash -n "$1" || exit 1
if grep -q refused "$1"; then echo "sbatch: error: invalid partition specified: refused" >&2; exit 1; fi
echo "Submitted batch job 7"
"""
SCONTROL = """#!/bin/bash
echo "$@" >> "$(dirname "$0")/scontrol.log"
"""


def read_as_sbatch(text: str) -> tuple[dict[str, str], list[str]]:
    """Read a script as sbatch does: directives come first, are known, and have shell's quotes; then commands."""
    first, *lines = text.splitlines()
    assert first == "#!/bin/bash"
    at = next(number for number, line in enumerate(lines) if line and not line.startswith("#"))
    assert not any(line.startswith("#SBATCH") for line in lines[at:]), "a directive after a command is not read"
    found = {}
    for line in lines[:at]:
        if line.startswith("#SBATCH"):
            (option,) = shlex.split(line.removeprefix("#SBATCH "))
            name, _, value = option.removeprefix("--").partition("=")
            assert option.startswith("--")
            assert name in DIRECTIVES, f"sbatch knows no --{name}"
            found[name] = value
    return found, lines[at:]


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """A folder with a space in its name, and the queue's programs in front of all others."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name, content in (("srun", SRUN), ("sbatch", SBATCH), ("scontrol", SCONTROL)):
        (tools / name).write_text(content)
        (tools / name).chmod(stat.S_IRWXU)
    folder = tmp_path / "my work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    return folder


def shown(capsys, *words: str) -> str:
    main(["slurm", *words, "--dry-run"])
    return capsys.readouterr().out


def run(script: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    words = {"SLURM_CPUS_PER_TASK": "1", "SLURM_JOB_ID": "7", **environment}
    return subprocess.run([BASH, str(script)], env={**os.environ, **words}, capture_output=True, text=True, check=False)


def test_the_needs_of_a_job_are_sbatchs_options(place, capsys):
    needs, body = read_as_sbatch(
        shown(capsys, "fit", "cells.h5ad", "--out", "run", "--partition", "gpu", "--time", "2-12", "--memory", "64G",
              "--gpus", "4", "--nodes", "2", "--cpus", "8", "--directive", "account=my lab")
    )  # fmt: skip
    assert needs == {
        "job-name": "genevae-fit", "output": "genevae-fit-%j.log", "open-mode": "append", "partition": "gpu",
        "time": "2-12", "mem": "64G", "nodes": "2", "ntasks-per-node": "4", "cpus-per-task": "8",
        "gpus-per-node": "4", "requeue": "", "signal": "USR1@120", "account": "my lab",
    }  # fmt: skip
    assert any(line.startswith("srun --kill-on-bad-exit=1") for line in body)
    assert not list(place.iterdir())


def test_paths_with_spaces_and_words_with_quotes_arrive_whole(place, capsys):
    text = shown(capsys, "fit", "my cells.h5ad", "--out", "it's here", "--control", "drug=no drug; $HOME")
    line = next(line for line in text.splitlines() if line.startswith("srun"))
    words = shlex.split(line)
    assert words[2:6] == [sys.executable, "-m", "genevae", "fit"]
    assert words[6:] == [
        "my cells.h5ad", "--out", "it's here", "--control", "drug=no drug; $HOME", "--checkpoint-every", "15m"
    ]  # fmt: skip
    assert f"cd {shlex.quote(str(place))}" in text


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("embed run cells.h5ad --out z.h5ad", "genevae embed run cells.h5ad --out z.h5ad"),
        ("evaluate run cells.h5ad --out report", "genevae evaluate run cells.h5ad --out report"),
        ("hvg cells.h5ad --out genes.txt --n-genes 50", "genevae data hvg cells.h5ad --out genes.txt --n-genes 50"),
        ("pseudobulk cells.h5ad --out p.h5ad --by type", "genevae data pseudobulk cells.h5ad --out p.h5ad --by type"),
        ("data hvg cells.h5ad --out genes.txt", "genevae data hvg cells.h5ad --out genes.txt"),
        ("cluster run cells.h5ad --out c.csv", "genevae cluster run cells.h5ad --out c.csv"),
        (
            "effect run cells.h5ad --field drug --out e",
            "genevae effect run cells.h5ad --field drug --out e",
        ),
        ("dose-response run cells.h5ad --out d", "genevae dose-response run cells.h5ad --out d"),
        ("gene-embeddings run --out g.h5ad", "genevae gene-embeddings run --out g.h5ad"),
        ("download folder --organism Mus", "genevae data download folder --organism Mus"),
        ("demo --out d", "genevae demo --out d"),
        ("fit --resume run", "genevae fit --resume run"),
        ("fit x --out r --checkpoint-every 50", "genevae fit x --out r --checkpoint-every 50"),
    ],
)
def test_any_long_command_becomes_a_job(words, expected, place, capsys):
    text = shown(capsys, *words.split())
    assert next(line for line in text.splitlines() if line.startswith("srun")).endswith(expected)
    needs, _ = read_as_sbatch(text)
    assert ("signal" in needs) == words.startswith("fit")


def test_every_command_is_known(place, capsys):
    from genevae.cli import COMMANDS

    for name in COMMANDS.keys() - {"slurm", "data"}:
        assert name in _callable()
    with pytest.raises(SystemExit):
        main(["slurm", "slurm", "fit", "x", "--out", "r"])
    answer = capsys.readouterr().err
    assert all(name in answer for name in COMMANDS.keys() - {"slurm"})


@pytest.mark.parametrize("before", [(), ("--each", "seed=0,1", "--")])
def test_a_sweep_keeps_its_own_values(place, capsys, before):
    main(["slurm", "--dry-run", *before, "sweep", "x", "--out", "r", "--each", "n_latent=5,10"])
    text = capsys.readouterr().out
    line = next(line for line in text.splitlines() if line.startswith("srun"))
    assert "--each n_latent=5,10" in line
    assert ("array" in read_as_sbatch(text)[0]) == bool(before)


def test_an_environment_that_is_activated_first_is_the_one_that_runs(place):
    """Its genevae stands in for one that is installed there, and says how it was called."""
    scripts = place / "venv" / "bin"
    scripts.mkdir(parents=True)
    (scripts / "genevae").write_text('#!/bin/bash\necho "from the environment: $*"\n')
    (scripts / "genevae").chmod(stat.S_IRWXU)
    (scripts / "activate").write_text(f'export PATH="{scripts}:$PATH"\n')
    main(["slurm", "inspect", "my cells.h5ad", "--setup", "source venv/bin/activate"])
    done = run(place / "genevae-inspect.sbatch")
    assert done.stdout == "from the environment: inspect my cells.h5ad\n", done.stderr
    main(["slurm", "recipes", "--setup", "export HERE=1"])
    assert "contrastive" in run(place / "genevae-recipes.sbatch").stdout  # nothing else in the PATH: as without


def test_an_array_has_a_job_for_every_combination_each_in_its_own_place(place, capsys):
    words = ("fit", "x", "--out", "my run", "--each", "seed=0,1", "--each", "recipe=nb,zinb,poisson")
    text = shown(capsys, *words)
    needs, body = read_as_sbatch(text)
    assert needs["array"] == "0-5"
    assert needs["output"] == "genevae-fit-%A_%a.log"
    script = place / "array.sh"
    told = "\n".join(body).replace("srun --cpus", "printf '%s|' srun --cpus").replace("status=$?", "exit 0")
    script.write_text(told)
    found = [run(script, SLURM_ARRAY_TASK_ID=str(task)).stdout.split("|") for task in range(6)]
    outs = [words[words.index("--out") + 1] for words in found]
    assert outs == [f"my run-{seed}-{recipe}" for seed in (0, 1) for recipe in ("nb", "zinb", "poisson")]
    assert found[4][-5:-1] == ["--seed", "1", "--recipe", "zinb"]


def test_a_job_is_written_and_submitted(place, capsys):
    main(["slurm", "fit", "x", "--out", "r", "--script", "first try.sbatch", "--submit"])
    assert "Submitted batch job 7" in capsys.readouterr().out
    needs, _ = read_as_sbatch((place / "first try.sbatch").read_text())
    assert needs["job-name"] == "first try"


def test_a_script_is_not_overwritten_unless_asked(place, capsys):
    main(["slurm", "fit", "x", "--out", "r"])
    with pytest.raises(SystemExit):
        main(["slurm", "fit", "x", "--out", "other"])
    main(["slurm", "fit", "x", "--out", "other", "--replace"])
    assert "other" in (place / "genevae-fit.sbatch").read_text()


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("", "No command was given"),
        ("fti x --out r", "Did you mean 'fit'?"),
        ("fit x --out r --epoch 3", "Unknown option"),
        ("fit x --out r --epochs three", "epochs"),
        ("fit x --out r --time soon", "SLURM knows no time 'soon'"),
        ("fit x --out r --memory lots", "SLURM knows no memory 'lots'"),
        ("fit x --out r --nodes 0", "nodes must be 1 or more"),
        ("embed r x --out z.h5ad --gpus 2", "This command is one process"),
        ("fit x --out r --each seed=0,one", "seed"),
        ("fit x --out=r --each seed=0,1", "needs an output path"),
        ("fit x --out r --directive account", "does not say what to set"),
        ("fit x --out r --partition refused --submit", "invalid partition specified"),
    ],
)
def test_mistakes_are_found_before_the_queue(words, reason, place, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["slurm", *words.split()])
    assert ended.value.code == 2
    printed = capsys.readouterr()
    assert reason in " ".join((printed.err + printed.out).replace("│", " ").split())


def test_without_a_queue_the_script_is_kept_and_the_error_says_what_to_do(place, capsys, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(SystemExit):
        main(["slurm", "fit", "x", "--out", "r", "--submit"])
    assert "There is no sbatch here" in capsys.readouterr().err
    assert (place / "genevae-fit.sbatch").exists()


@pytest.mark.parametrize(("code", "requeued"), [(75, True), (1, False), (0, False)])
def test_only_a_fit_that_was_paused_queues_again(code, requeued, place):
    main(["slurm", "fit", "x", "--out", "r"])
    done = run(place / "genevae-fit.sbatch", EXIT_WITH=str(code))
    assert done.returncode == code
    log = place.parent / "bin" / "scontrol.log"
    assert (log.read_text() == "requeue 7\n") if requeued else not log.exists()


def test_the_script_trains(place, make_adata):
    make_adata(60).write_h5ad(place / "my cells.h5ad")
    main(["slurm", "fit", "my cells.h5ad", "--out", "my run", "--epochs", "1", "--device", "cpu", "--cpus", "1"])
    done = run(place / "genevae-fit.sbatch")
    assert done.returncode == 0, done.stderr
    assert "srun: --cpus-per-task=1" in done.stderr
    assert len(gv.load(place / "my run").history) == 1


@pytest.mark.slow
def test_a_fit_that_is_warned_queues_again_and_goes_on(place, make_adata):
    make_adata(200).write_h5ad(place / "cells.h5ad")
    words = ["--epochs", "40", "--batch-size", "8", "--device", "cpu", "--cpus", "1", "--checkpoint-every", "5"]
    main(["slurm", "fit", "cells.h5ad", "--out", "run", *words])
    warned = run(place / "genevae-fit.sbatch", WARN_WHEN=str(place / "run" / "start.json"))
    assert warned.returncode == 75, warned.stderr
    assert (place.parent / "bin" / "scontrol.log").read_text() == "requeue 7\n"
    done = run(place / "genevae-fit.sbatch", SLURM_RESTART_COUNT="1")
    assert done.returncode == 0, done.stderr
    assert gv.load(place / "run").facts["ended"]


@pytest.mark.slow
def test_a_fit_on_two_nodes_trains_and_goes_on_where_one_of_them_died(place, make_adata):
    make_adata(200).write_h5ad(place / "cells.h5ad")
    words = ["--epochs", "30", "--batch-size", "20", "--device", "cpu", "--cpus", "1", "--checkpoint-every", "5"]
    main(["slurm", "fit", "cells.h5ad", "--out", "run", "--nodes", "2", *words])
    nodes = {"SLURM_NTASKS": "2", "MASTER_PORT": free_port()}
    dead = run(place / "genevae-fit.sbatch", KILL_WHEN=str(place / "run" / "checkpoints"), **nodes)
    assert dead.returncode not in (0, 75), dead.stderr
    assert "Another process of this job has ended" in dead.stderr
    assert "--resume" in dead.stderr
    assert list((place / "run" / "checkpoints").iterdir())
    main(["slurm", "fit", "--resume", "run", "--nodes", "2", "--cpus", "1", "--script", "again.sbatch"])
    done = run(place / "again.sbatch", SLURM_NTASKS="2", MASTER_PORT=free_port())
    assert done.returncode == 0, done.stderr
    assert len(gv.load(place / "run").history) == 30
