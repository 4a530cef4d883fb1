#!/usr/bin/env bash
# From nothing to a trained classifier: makes .venv, a set of drum sounds, their PCM store; trains, tests, predicts.
set -euo pipefail
source "$(dirname "$0")/environment.sh"
run=${1:-runs/drums}
if compgen -G "$run/checkpoints/*.ckpt" >/dev/null; then
    echo "$run holds a finished or begun run: name another folder, such as: bash tools/quickstart.sh $run-2" >&2
    exit 2
fi
say() { printf '\n\033[1m%s\033[0m\n' "$*"; }

say "1/5  python tools/make_drums.py data/drums"
python tools/make_drums.py data/drums
say "2/5  python tools/decode_to_hdf.py data/drums/drums.csv --out data/drums-16k --sample-rate 16000"
python tools/decode_to_hdf.py data/drums/drums.csv --out data/drums-16k --sample-rate 16000
say "3/5  audiocls fit --config conf/drums.yaml --run_dir $run"
audiocls fit --config conf/drums.yaml --run_dir "$run"
say "4/5  audiocls test --run_dir $run"
audiocls test --run_dir "$run"
say "5/5  audiocls predict --run_dir $run data/drums/cowbell"
audiocls predict --run_dir "$run" data/drums/cowbell --out "$run/cowbell.csv" | tail -n 6
say "Done. Figures: $run/figures   checkpoint: $run/checkpoints/best.ckpt   run's page: wandb sync $run/wandb/latest-run"
