#!/usr/bin/env bash
# On a machine with an NVIDIA GPU, with an artel that was built for it (ARTEL):
#   - artel doctor --gpu: every comparison with the CPU passes
#   - the recipe of medquad.sh on the GPU, three seeds: nDCG@10 after training within .004 of what the CPU comes to, before it within .002 (bf16 against f32)
#   - the same on two workers that share the GPU, whose NCCL takes them for two machines (NCCL_HOSTID) and goes over sockets: as one worker
#   - one of them is killed on its way: the other ends with an error in time, and run again both go on from the checkpoint
# Takes under a minute on an H200. Settings: SEEDS="42 43 44", and those of lib.sh (ARTEL_PEER is any Python here, ARTEL_MINILM the model).
set -euo pipefail
source "$(dirname "$0")/lib.sh"
seeds=${SEEDS:-42 43 44}
export DEVICE=cuda NCCL_DEBUG=WARN NCCL_SOCKET_IFNAME=lo NCCL_IB_DISABLE=1

"$artel" doctor --gpu | tee "$work/doctor"
grep -q '^check' "$work/doctor"

for seed in $seeds; do
  echo "seed $seed" >&2
  spec "medquad-$seed" "$work/store-$seed" 2048 "$seed" > "$work/$seed.toml"
  "$artel" run "$work/$seed.toml" --json > "$work/$seed.jsonl"
done

# together SPEC EVENTS: a coordinator and two workers on one GPU; the exit codes in codes
pids=()
trap 'kill -9 "${pids[@]}" 2> /dev/null || true; [ -n "${WORK:-}" ] || rm -rf "$work"' EXIT
together() {
  local port=$((20000 + RANDOM % 20000)) pid
  pids=()
  : > "$2"
  "$artel" coordinator --listen "127.0.0.1:$port" --json "$1" > "$2" & pids+=($!)
  for rank in 0 1; do
    NCCL_HOSTID=machine-$rank "$artel" worker --coordinator "http://127.0.0.1:$port" --name "rank-$rank" & pids+=($!)
  done
  if [ -n "${KILL_AT:-}" ]; then
    until grep -q "\"event\":\"step\",\"step\":$KILL_AT," "$2"; do
      kill -0 "${pids[0]}" 2> /dev/null || { echo "the run ended before step $KILL_AT" >&2; exit 1; }
      sleep 0.02
    done
    kill -9 "${pids[2]}"
    begun=$SECONDS
  fi
  codes=()
  for pid in "${pids[@]}"; do local code=0; wait "$pid" || code=$?; codes+=("$code"); done
  echo "coordinator and workers ended with ${codes[*]}" >&2
}

first=${seeds%% *}
echo "two workers on one GPU" >&2
WORKERS=2 spec medquad-two "$work/store-two" 2048 "$first" | sed 's/^save_strategy = .*/save_strategy = "steps"\nsave_steps = 8/' > "$work/two.toml"
rm -rf "$work/store-two"
KILL_AT=20 together "$work/two.toml" "$work/killed.jsonl"
[ $((SECONDS - begun)) -lt 60 ] || { echo "a lost rank was noticed after $((SECONDS - begun)) s" >&2; exit 1; }
[ "${codes[0]}" -ne 0 ] || { echo "the run ended well though a worker was killed" >&2; exit 1; }
together "$work/two.toml" "$work/again.jsonl"
step=$(grep -m 1 -o '"event":"step","step":[0-9]*' "$work/again.jsonl" | grep -o '[0-9]*$')
[ "$step" -ge 9 ] || { echo "run again, it began with step $step and not from a checkpoint" >&2; exit 1; }
[ "${codes[*]}" = "0 0 0" ] || { echo "run again, it failed" >&2; exit 1; }

reports=()
for seed in $seeds; do reports+=("$seed=$work/store-$seed/report.json"); done
"$python" "$root/tests/slow/gpu.py" "${reports[@]}" "$first=$work/store-two/report.json"
