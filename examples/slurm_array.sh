#!/usr/bin/env bash
# One run in as many jobs as the array has tasks, each with a GPU of its own; results lie on a file system that all nodes see.
#
#   sbatch --array=1-7 examples/slurm_array.sh gsm8k --protocol full --model allenai/tulu-2-dpo-7b --output /shared/results
#
# and, when all have ended (--dependency=afterok:JOBID waits for that):
#
#   sbatch --dependency=afterok:JOBID --wrap "tulu-eval merge /shared/results/allenai__tulu-2-dpo-7b/gsm8k/full-*"
#
# A task that was killed or preempted goes on where it stopped. Slurm starts it again by itself (--requeue), or you do:
#
#   TULU_EVAL_SHARDS=7 sbatch --array=3 examples/slurm_array.sh ...

#SBATCH --job-name=tulu-eval
#SBATCH --ntasks=1
#SBATCH --gpus-per-task=1
#SBATCH --cpus-per-task=8
#SBATCH --mem=64G
#SBATCH --time=02:00:00
#SBATCH --requeue
#SBATCH --open-mode=append

set -euo pipefail

exec tulu-eval run "$@" --shard "${SLURM_ARRAY_TASK_ID:?start it with sbatch --array=1-N}/${TULU_EVAL_SHARDS:-$SLURM_ARRAY_TASK_MAX}"
