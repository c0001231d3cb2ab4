// The sections of the page: documents of the API in, elements out. Nothing is asked here.
import { count, difference, el, micros, pill, rate, span, spark, table } from "./parts.js";

const MANNERS = { ready: "good", connected: "good", drain: "warn", ejected: "warn", suspect: "warn" };

/** Whether two versions are the same, by their text. */
const same = (one, other) => Boolean(one && other) && one.text === other.text;

/** Everything that is not as it should be, in words. */
export function problems(told) {
  const found = [];
  const { nodes, info, cores, trouble } = told;
  const own = nodes?.this;
  found.push(...Object.values(trouble ?? {}));
  if (own) {
    const { source, dataplane, refused } = own;
    if (!["connected", "reading a standby"].includes(source.state)) found.push(`the source is ${source.state}${source.last_error ? `: ${source.last_error}` : ""}`);
    if (dataplane.state !== "connected") found.push(`the data plane is ${dataplane.state}${dataplane.last_error ? `: ${dataplane.last_error}` : ""}`);
    for (const refusal of [refused, dataplane.refused].filter(Boolean)) {
      for (const fault of refusal.faults) found.push(`revision ${refusal.revision} is refused: ${fault.kind}/${fault.id}${fault.pointer ? ` at ${fault.pointer}` : ""}: ${fault.reason}`);
    }
  }
  if (info?.draining) found.push("the data plane is draining");
  if (info?.disk_error) found.push(`the data plane cannot keep its snapshot: ${info.disk_error}`);
  for (const core of cores ?? []) {
    if (core.dead) found.push(`core ${core.core} is dead; restart the data plane`);
    else if (core.stuck_ms > 0) found.push(`core ${core.core} is stuck for ${core.stuck_ms} ms`);
    else if (own?.version && core.version && !same(core.version, own.version)) found.push(`core ${core.core} serves revision ${core.version.revision}, the control plane has ${own.version.revision}`);
  }
  for (const node of nodes?.list ?? []) {
    if (!node.alive) found.push(`node ${node.node} is silent`);
    else if (node.refusing) found.push(`node ${node.node} refuses: ${node.refusal}`);
  }
  return [...new Set(found)];
}

export function tiles({ rates, history, latency, info, counters, snapshot, nodes }) {
  const tile = (title, figure, unit, ...notes) => el("div", { class: "tile" }, el("h2", {}, title), el("p", { class: "figure" }, figure, unit ? el("small", {}, ` ${unit}`) : null), ...notes.map((note) => (note instanceof Node ? note : el("p", { class: "note" }, note))));
  const windows = Object.values(latency ?? {}).filter((window) => window && typeof window === "object").sort((one, other) => one.seconds - other.seconds);
  const request = windows[0]?.request;
  const quiet = !request || request.count === 0;
  const busy = counters?.reduce((sum, core) => sum + core.busy, 0);
  const nodes_alive = (nodes?.list ?? []).filter((node) => node.alive).length;
  const stages = snapshot?.stages_us;
  return [
    tile("Requests", rate(rates?.requests), "/s", spark(history, `requests a second, at present ${rate(rates?.requests)}`)),
    tile("Errors", rate(rates?.server_errors), "5xx/s", `4xx ${rate(rates?.client_errors)}/s · retries ${rate(rates?.retries)}/s`),
    tile("Latency p50", quiet ? "–" : micros(request.p50_us), "", quiet ? (latency ? "no requests lately" : "this data plane does not tell it") : `p90 ${micros(request.p90_us)} · p99 ${micros(request.p99_us)} · p99.9 ${micros(request.p999_us)}`),
    tile("Connections", count(info?.connections), "", `${count(busy)} with a request in hand`),
    tile("Revision", count(info?.version?.revision), "", `${count(snapshot?.routes)} routes · ${span(snapshot?.applied_ms_ago)} ago${stages ? ` · on all cores in ${micros(stages.last_core)}` : ""}`),
    tile("Nodes", nodes?.list?.length ? `${nodes_alive}/${nodes.list.length}` : "1", "", nodes?.list?.length ? "that tell how they are" : "this one; the source knows no others"),
  ];
}

export function fleet({ nodes }) {
  const list = nodes?.list ?? [];
  const own = nodes?.this;
  if (list.length === 0) {
    if (!own) return el("p", { class: "quiet" }, "not known yet");
    const rows = [{ node: own.node, alive: true, dataplane: own.dataplane.state, revision: own.dataplane.version?.revision, build: own.build, refusing: Boolean(own.refused || own.dataplane.refused) }];
    return fleet_table(rows, own);
  }
  return fleet_table(list, own);
}

function fleet_table(rows, own) {
  const newest = Math.max(...rows.map((row) => row.revision ?? 0));
  const state = (row) => {
    if (!row.alive) return pill("silent", "bad");
    if (row.refusing) return pill("refuses", "bad");
    if (row.dataplane !== "connected") return pill("data plane away", "bad");
    return (row.revision ?? 0) < newest ? pill("behind", "warn") : pill("in step", "good");
  };
  return table("Nodes", [
    ["Node", (row) => `${row.node}${row.node === own?.node ? " (this)" : ""}`],
    ["State", state],
    ["Revision", (row) => row.revision ?? "–", "number"],
    ["Since", (row) => (row.serving_since ? span(Date.now() - Date.parse(row.serving_since)) : "–")],
    ["Release", (row) => row.dataplane_build ?? row.build ?? "–"],
  ], rows);
}

export function cores({ cores: rows, counters, core_rates }) {
  if (!rows) return el("p", { class: "quiet" }, "not known");
  const state = (core) => (core.dead ? pill("dead", "bad") : core.stuck_ms > 0 ? pill("stuck", "bad") : core.listening === false ? pill("not listening", "warn") : pill("turns", "good"));
  return table("Cores", [
    ["Core", (core) => core.core, "number"],
    ["Loop", state],
    ["Revision", (core) => core.version?.revision ?? "–", "number"],
    ["Requests/s", (core) => rate(core_rates?.[core.core]), "number"],
    ["Connections", (core) => count(core.connections), "number"],
    ["Busy", (core) => count(counters?.[core.core]?.busy), "number"],
  ], rows);
}

export function upstreams({ upstreams: list, node_rates }) {
  if (!list) return el("p", { class: "quiet" }, "not known");
  const rows = list.flatMap((upstream) => upstream.nodes.map((node) => ({ ...node, upstream })));
  const rates = (row) => node_rates?.[`${row.upstream.key} ${row.address}`];
  return table("Nodes of upstreams", [
    ["Upstream", (row) => row.upstream.key, "code"],
    ["Balancer", (row) => row.upstream.type],
    ["Node", (row) => row.address, "code"],
    ["State", (row) => pill(row.state, MANNERS[row.state] ?? "bad")],
    ["Weight", (row) => row.weight, "number"],
    ["Requests/s", (row) => rate(rates(row)?.requests), "number"],
    ["Failures", (row) => count(row.failures), "number"],
    ["Open", (row) => count(row.open_requests), "number"],
    ["Why", (row) => row.why ?? ""],
  ], rows);
}

export function routes(found, open) {
  const button = (row) => el("button", { type: "button", class: "link", "data-key": `route ${row.id}`, on: { click: () => open(row.id) } }, row.id);
  return table("Routes", [
    ["Route", button],
    ["Methods", (row) => (row.methods?.length ? row.methods.join(" ") : "any")],
    ["Host", (row) => row.host ?? "any", "code"],
    ["Path", (row) => row.uri, "code"],
    ["Priority", (row) => row.priority, "number"],
    ["Upstream", (row) => row.upstream ?? "–", "code"],
  ], found.list);
}

export function changes(list) {
  if (list.length === 0) return [el("p", { class: "quiet" }, "none yet")];
  return list.map((change) => {
    const op = change.before === null ? ["created", "good"] : change.after === null ? ["deleted", "bad"] : ["changed", "warn"];
    const at = new Date(change.at);
    const rows = change.before !== null && change.after !== null ? difference(change.before, change.after) : [["", change.before ?? undefined, change.after ?? undefined]];
    const lines = rows.map(([pointer, before, after]) => el("li", {}, pointer ? `${pointer}: ` : "", before === undefined ? null : el("del", {}, written(before)), before === undefined || after === undefined ? null : " → ", after === undefined ? null : el("ins", {}, written(after))));
    return el("details", { "data-key": `change ${change.seq}` },
      el("summary", {}, el("span", {}, `revision ${change.revision}`), pill(...op), el("code", {}, `${change.kind}/${change.id}`), el("span", { class: "quiet" }, `${change.actor}, `, el("time", { datetime: change.at, title: at.toLocaleString() }, `${span(Date.now() - at)} ago`))),
      lines.length ? el("ul", { class: "diff" }, ...lines) : el("p", { class: "quiet" }, "written as it was"));
  });
}

const written = (value) => (typeof value === "object" && value !== null ? JSON.stringify(value, null, 1).replaceAll(/\n\s*/g, " ") : JSON.stringify(value));

export function explained(answer) {
  const facts = [
    ["Route", answer.route ?? "none"],
    ["Pattern", answer.pattern],
    ["Parameters", Object.entries(answer.parameters ?? {}).map(([name, value]) => `${name}=${value}`).join(", ")],
    ["Service", answer.service],
    ["Upstream", answer.upstream?.key],
    ["Nodes", answer.upstream?.nodes?.map((node) => node.address).join(", ")],
    ["Plugins", Array.isArray(answer.plugins) ? answer.plugins.map((plugin) => plugin.name ?? plugin).join(", ") : null],
    ["Path sent", answer.sent_path],
    ["Answer", answer.answer],
  ].filter(([, value]) => value !== null && value !== undefined && value !== "");
  const steps = (answer.steps ?? []).map((step) => {
    if (step.host !== undefined) return el("li", {}, "host ", el("code", {}, step.host));
    if (step.left_out !== undefined) return el("li", { class: "quiet" }, `${step.left_out} more`);
    return el("li", {}, "route ", el("code", {}, step.route), ` (${step.uri}): `, step.outcome === "matches" ? pill("matches", "good") : step.outcome);
  });
  return [el("dl", {}, ...facts.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)])), el("ol", { class: "steps", "aria-label": "What was tried" }, ...steps)];
}
