#!/usr/bin/env bash
# One run on several nodes, with engines on all their GPUs: Ray deals the items, and those of a lost node go to others.
#
#   sbatch --nodes=4 examples/slurm_ray.sh gsm8k --model allenai/tulu-2-dpo-70b --backend vllm --tensor-parallel 4 --output /shared/results
#
# All nodes need tulu-eval with the extra ray, and its environment on their PATH; the first one writes the results. A job that was
# killed or preempted goes on where it stopped. Whoever knows a cluster's token can run programs in it, so each job makes its own.

#SBATCH --job-name=tulu-eval-ray
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=32
#SBATCH --mem=0
#SBATCH --time=04:00:00
#SBATCH --requeue
#SBATCH --open-mode=append

set -euo pipefail

export SRUN_CPUS_PER_TASK="$SLURM_CPUS_PER_TASK" # since Slurm 22.05 srun does not take it over by itself
mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
export ADDRESS="${nodes[0]}:$((20000 + SLURM_JOB_ID % 10000))"
export RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0
RAY_AUTH_TOKEN=$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')
export RAY_AUTH_TOKEN

# On each node, until the job ends: the first one has the head.
srun bash -c '
  offer=(--block --num-cpus "$SLURM_CPUS_PER_TASK" --num-gpus "${SLURM_GPUS_ON_NODE:-0}")
  if [ "$SLURM_PROCID" = 0 ]; then
    exec ray start --head --port "${ADDRESS#*:}" --include-dashboard false --temp-dir "/tmp/ray-$SLURM_JOB_ID" "${offer[@]}"
  fi
  until ray health-check --address "$ADDRESS" 2> /dev/null; do sleep 1; done
  exec ray start --address "$ADDRESS" "${offer[@]}"
' > /dev/null &
cluster=$!
trap 'kill "$cluster" || true; wait "$cluster" || true; rm -rf "/tmp/ray-$SLURM_JOB_ID"' EXIT

if ! timeout 600 python -c '
import os, sys, time
import ray

while True:
    try:
        ray.init(os.environ["ADDRESS"], log_to_driver=False, logging_level="ERROR")
        break
    except ConnectionError:
        time.sleep(1)
while sum(node["Alive"] for node in ray.nodes()) < int(sys.argv[1]):
    time.sleep(1)
' "$SLURM_JOB_NUM_NODES"; then
  echo "the nodes did not make a Ray cluster at $ADDRESS within 10 minutes" >&2
  exit 1
fi

tulu-eval run "$@" --cluster "$ADDRESS"
