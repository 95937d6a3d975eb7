#!/usr/bin/env bash
# Fails when generated files (src/rpc/gen, crds, charts/signet/crds, deploy, docs/reference, the tables of docs/policy) are not what their sources say. `npm run generate` mends that.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH="$PWD/node_modules/.bin:$PATH"

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# The plugin takes its options and folder from buf.gen.yaml; only where the files go differs.
sed "s|out: src/rpc/gen|out: $scratch/gen|" buf.gen.yaml >"$scratch/buf.gen.yaml"
buf generate --template "$scratch/buf.gen.yaml"
node bin/signet resources crds --directory "$scratch/crds" >/dev/null
node scripts/generate-docs.mjs "$scratch/reference"
node scripts/generate-fidelity.mjs "$scratch/policy"
node scripts/generate-deploy.mjs "$scratch"

failed=0
diff -r --unified=1 src/rpc/gen "$scratch/gen" || failed=1
diff -r --unified=1 --exclude='*.md' crds "$scratch/crds" || failed=1
diff -r --unified=1 charts/signet/crds "$scratch/charts/signet/crds" || failed=1
diff -r --unified=1 deploy "$scratch/deploy" || failed=1
diff -r --unified=1 docs/reference "$scratch/reference" || failed=1
for page in "$scratch"/policy/*.md; do
  diff --unified=1 "docs/policy/$(basename "$page")" "$page" || failed=1
done
if [ "$failed" != 0 ]; then
  echo 'generated files differ from their sources: run "npm run generate" and commit the result' >&2
  exit 1
fi
