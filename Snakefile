# The sweeps: many runs of one notebook with other parameters, each done once.
#
#   snakemake --cores 2                                     lists what there is to run
#   snakemake --cores 2 table_ii --config preset=demo       a sweep, a run by its name, or `all`
#
# Which runs are executed. Not Snakemake's times and records decide, for a clone has new times and
# no records, but what each results file says it was made from (kpnb.run.sweeps): parameters,
# code, data, versions.
#   - A target asks for those of its runs only that are not fresh. So results that are committed
#     and fresh are left alone, though their executed copies are not committed.
#   - A run that is asked for has a request file as its input, which is newer than its outputs as
#     long as it is not fresh. So stale or damaged results are made again whatever Snakemake knows.
#   - Parameters and fingerprint stand under `params:` too, where a change of them is seen and
#     reported as the reason.
#
# Presets are apart: results go to book/results/<preset>/cells, and those of one never count for
# another. The default is the demo, whose results git ignores; `preset=study` writes the committed
# ones. What presets have in common is shared through the store, as among notebooks.
#
# Other settings of --config: sweeps=FOLDER, notebooks=FOLDER. KPNB_RESULTS and KPNB_STORE as ever.

import os
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.utils import min_version

min_version("9.0")
# The checkout's own kpnb, here and in every job, on whatever machine this file is read.
sys.path.insert(0, workflow.basedir)
paths = [workflow.basedir, os.environ.get("PYTHONPATH", "")]
os.environ["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
if "KPNB_RESULTS" in os.environ:  # kernels run in another folder
    os.environ["KPNB_RESULTS"] = os.path.abspath(os.environ["KPNB_RESULTS"])

from kpnb.errors import KpnbError
from kpnb.metrics.results import CELLS, results_root
from kpnb.run import sweeps
from kpnb.run.sweeps import Sweeps
from kpnb.study.presets.own_model import PRESET_NAMES

PYTHON = sys.executable  # the one that reads this file, which on a cluster the node's does too
PRESET = config.get("preset", "demo")
EXECUTED = Path("executed") / "sweeps"
SWEEPS = Sweeps(
    Path(config.get("sweeps", Sweeps.folder)),
    Path(config.get("notebooks", Sweeps.notebooks)),
    EXECUTED,
)

try:
    TARGETS = SWEEPS.targets(PRESET)
except KpnbError as mistake:
    raise WorkflowError(str(mistake))
if PRESET not in PRESET_NAMES:
    raise WorkflowError(f"preset is {PRESET!r}: it must be one of {', '.join(PRESET_NAMES)}.")


def to_run(target, runs):
    """Results files of a target's runs that are not fresh."""
    print(sweeps.summary(SWEEPS, target, runs, PRESET), file=sys.stderr)
    unfinished = [run for run in runs if SWEEPS.state(run, PRESET) != sweeps.FRESH]
    return [sweeps.relative(SWEEPS.results_file(run, PRESET)) for run in unfinished]


rule sweeps:
    default_target: True
    localrule: True
    shell:
        "{PYTHON:q} -m kpnb.run.sweeps"


for target, runs in TARGETS.items():

    rule:
        name:
            target
        localrule: True
        input:
            lambda wildcards, target=target, runs=runs: to_run(target, runs),


# What other presets have ends with a sentence that says which; Snakemake's own blames a rule.
for target in sorted({*SWEEPS.by_name, *SWEEPS.sweep_of} - {*TARGETS}):

    rule:
        name:
            target
        localrule: True
        shell:
            "{PYTHON:q} -m kpnb.run.sweeps {rule} --preset {PRESET} --sweeps {SWEEPS.folder:q}"


# The one kind of run there is: a notebook executed with parameters.
# `update` keeps results that are to be replaced until the run has ended well, and brings them back
# if it fails: they may be the committed ones. A failed copy is <run>.failed.ipynb beside the log;
# it is not declared, for Snakemake deletes the declared outputs of a failed job.
# A GPU is left to profiles (`set-resources: {cell: {gpu: 1}}` with `resources: {gpu: 1}` keeps
# GPU jobs apart), as are more memory and time for networks at full size. Those for Slurm and
# Kubernetes are in profiles/.
rule cell:
    input:
        request=lambda w: str(SWEEPS.request(w.run, w.preset)),
    output:
        results=update(f"{sweeps.relative(results_root())}/{{preset}}/{CELLS}/{{run}}.json"),
        executed=f"{EXECUTED}/{{preset}}/{{run}}.ipynb",
    params:
        parameters=lambda w: SWEEPS.plan(w.run, w.preset).resolved.model_dump(mode="json"),
        fingerprint=lambda w: SWEEPS.plan(w.run, w.preset).fingerprint,
        command=lambda w: sweeps.command(w.run, w.preset, SWEEPS),
        check=lambda w: sweeps.check_command(w.run, w.preset, SWEEPS),
        # Where the run writes. Without a shared file system (Kubernetes) outputs are other files,
        # which Snakemake copies home.
        results=lambda w: sweeps.relative(SWEEPS.results_file(w.run, w.preset)),
        executed=lambda w: sweeps.relative(SWEEPS.executed_copy(w.run, w.preset)),
    log:
        f"{EXECUTED}/{{preset}}/{{run}}.log",
    wildcard_constraints:
        preset="|".join(PRESET_NAMES),
        run="[a-z][a-z0-9_]*",
    threads: 1
    resources:
        mem_mb=4000,
        runtime=480,
    shell:
        "export OMP_NUM_THREADS={threads}; "
        "({PYTHON:q} {params.command:q} && {PYTHON:q} {params.check:q}"
        " && {{ test {params.results:q} -ef {output.results:q}"
        " || cp {params.results:q} {output.results:q}; }}"
        " && {{ test {params.executed:q} -ef {output.executed:q}"
        " || cp {params.executed:q} {output.executed:q}; }}) > {log:q} 2>&1"
