#!/bin/sh
# What many objects cost through the Admin API: `ringway apply` of all in one transaction, then single writes that wait until they are
# served. Prints seconds and memory; measures a throw-away gateway with a private PostgreSQL on this machine.
# figures.sh EXECUTABLES [OBJECTS [WRITES]]
set -eu

executables=$(cd "$1" && pwd)
objects=${2:-100000}
writes=${3:-500}
dir=$(mktemp -d)
# PostgreSQL runs as another user where this one is root.
chmod 755 "$dir"
"$executables/ringway" up --dir "$dir/up" --no-demo --listen 127.0.0.1:0 --status 127.0.0.1:0 --admin-listen 127.0.0.1:0 \
    > "$dir/log" 2>&1 &
gateway=$!
trap 'kill $gateway 2>/dev/null || true; wait $gateway 2>/dev/null || true; rm -rf "$dir"' EXIT INT TERM
address=
while [ -z "$address" ]; do
    kill -0 $gateway || { cat "$dir/log" >&2; exit 1; }
    sleep 0.2
    address=$(sed -n 's/^listening admin //p' "$dir/up/log/controlplane.log" 2>/dev/null | tail -n 1)
done
until "$executables/ringway" status --dir "$dir/up" > /dev/null 2>&1; do sleep 0.2; done

# A hundred routes to one upstream, a thousand hosts.
awk -v objects="$objects" 'BEGIN {
    upstreams = int(objects / 100); routes = objects - upstreams
    printf "{\"upstreams\":["
    for (n = 0; n < upstreams; n++) printf "%s{\"id\":\"u%d\",\"nodes\":{\"127.0.0.1:1980\":1}}", n ? "," : "", n
    printf "],\"routes\":["
    for (n = 0; n < routes; n++) printf "%s{\"id\":\"r%d\",\"uri\":\"/p%d/*\",\"host\":\"h%d.example.com\",\"upstream_id\":\"u%d\"}", n ? "," : "", n, n, n % 1000, n % upstreams
    print "]}"
}' > "$dir/all.json"

memory() {
    for plane in dataplane controlplane; do
        pid=$(pgrep -f "^$executables/ringway-$plane .*$dir/up" | head -n 1)
        awk -v plane=$plane -v when="$1" '/^VmHWM|^VmRSS/ { print when, plane, $1, int($2 / 1024), "MiB" }' "/proc/$pid/status"
    done
}

memory before
begun=$(date +%s.%N)
"$executables/ringway" apply --dir "$dir/up" -f "$dir/all.json" --yes --wait 60s | tail -n 1
echo "apply of $objects objects, served by every core: $(echo "$(date +%s.%N) - $begun" | bc) s"
memory after
begun=$(date +%s.%N)
"$executables/ringway" diff --dir "$dir/up" -f "$dir/all.json" | tail -n 1
echo "diff of the same file: $(echo "$(date +%s.%N) - $begun" | bc) s"

key=$(cat "$dir/up/admin.key")
n=0
while [ $n -lt "$writes" ]; do
    curl -s -o "$dir/answer" -w '%{http_code} %{time_total}\n' -X PUT -H "X-API-KEY: $key" \
        "http://$address/apisix/admin/routes/r$((n * 7))?wait=10s" \
        -d "{\"uri\":\"/p$((n * 7))/*\",\"host\":\"h$(((n * 7) % 1000)).example.com\",\"desc\":\"$n\",\"upstream_id\":\"u1\"}"
    n=$((n + 1))
done > "$dir/times"
awk '$1 != 200 { bad++ } END { if (bad) print bad, "writes were not served everywhere in time" }' "$dir/times"
awk '{ print $2 * 1000 }' "$dir/times" | sort -n | awk '{ t[NR] = $1 } END {
    printf "a PUT until every core serves it, of %d: p50 %.1f ms, p99 %.1f ms, most %.1f ms\n", NR, t[int(NR * 0.5) + 1], t[int(NR * 0.99) + 1], t[NR] }'
memory "after writes"
