#!/usr/bin/env bash
# Training on one node or several. Neither a time limit nor a lost node costs more than the steps since the last checkpoint.
#
#   sbatch --nodes=4 examples/slurm_train.sh ppo --recipe easylm --rollouts vllm --output /shared/ppo-8b
#
# Ten minutes before the limit (--signal) training ends after the step with a checkpoint, and the job goes back into the queue
# until training is finished. torchrun starts a rank that died again (--max-restarts), Slurm the job whose node was lost or that
# was preempted (--requeue). Give more than ten minutes if a step takes longer. All nodes must see the folder of --output.

#SBATCH --job-name=tulu-eval-train
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=32
#SBATCH --mem=0
#SBATCH --time=24:00:00
#SBATCH --signal=B:USR1@600
#SBATCH --requeue
#SBATCH --open-mode=append

set -euo pipefail

export SRUN_CPUS_PER_TASK="$SLURM_CPUS_PER_TASK" # since Slurm 22.05 srun does not take it over by itself
mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
launch=(torchrun --nnodes "$SLURM_JOB_NUM_NODES" --nproc-per-node "$SLURM_GPUS_ON_NODE" --max-restarts 3)
launch+=(--rdzv-backend c10d --rdzv-endpoint "${nodes[0]}:$((20000 + SLURM_JOB_ID % 10000))")
launch+=(--rdzv-id "$SLURM_JOB_ID-${SLURM_RESTART_COUNT:-0}")

# SIGUSR1 asks the ranks to end. It gets to all processes of the step, and torchrun would die of it, so it starts with it ignored.
# A rank that is still starting ignores it too, so it is sent until the step has ended.
said=$(mktemp)
srun --kill-on-bad-exit=1 bash -c 'trap "" USR1; exec "$@"' - "${launch[@]}" -m tulu_eval train "$@" --json > "$said" &
step=$!
trap 'while kill -0 "$step"; do scancel --signal=USR1 "$SLURM_JOB_ID.0"; sleep 10; done 2> /dev/null' USR1
wait "$step" || wait "$step" # the first one ends where the signal comes
cat "$said"
if ! grep -q '"finished": true' "$said"; then
  rm "$said"
  scontrol requeue "$SLURM_JOB_ID"
fi
rm -f "$said"
