#!/bin/sh
# Tries the Admin API against its own OpenAPI document with schemathesis, on a gateway of its own that is thrown away afterwards.
# Arguments go to schemathesis. pip fetches it into target/openapi once; EXECUTABLES names another folder than target/debug.
set -eu

root=$(cd "$(dirname "$0")/../.." && pwd)
executables=${EXECUTABLES:-$root/target/debug}
tools=$root/target/openapi
if [ ! -x "$tools/bin/schemathesis" ]; then
    python3 -m venv "$tools"
    "$tools/bin/pip" install --quiet schemathesis
fi

dir=$(mktemp -d)
"$executables/ringway" up --dir "$dir/up" --no-demo --listen 127.0.0.1:0 --status 127.0.0.1:0 --admin-listen 127.0.0.1:0 \
    > "$dir/log" 2>&1 &
gateway=$!
trap 'kill $gateway 2>/dev/null || true; wait $gateway 2>/dev/null || true; rm -rf "$dir"' EXIT INT TERM

# The control plane tells its port on standard output, which is its log.
address=
tries=0
while [ -z "$address" ]; do
    address=$(sed -n 's/^listening admin //p' "$dir/up/log/controlplane.log" 2>/dev/null | tail -n 1)
    tries=$((tries + 1))
    if [ "$tries" -gt 300 ] || ! kill -0 $gateway; then
        cat "$dir/log" >&2
        exit 1
    fi
    sleep 0.2
done

# It leaves a folder of its own where it runs.
cd "$dir"
# 5xx, statuses, content types and bodies that are not documented. What data is valid is the objects' own rules' to say.
"$tools/bin/schemathesis" run "http://$address/v1/openapi.json" \
    --header "X-API-KEY: $(cat "$dir/up/admin.key")" \
    --phases coverage,fuzzing --checks not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance \
    "$@"
