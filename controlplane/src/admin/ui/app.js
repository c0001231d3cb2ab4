// Asks the API with the key of this tab, keeps what it told, and has the sections drawn.
import { el, fill } from "./parts.js";
import * as views from "./views.js";

const KEY = "ringway.key";
const EVERY_MS = 2000;
/** The fleet and the history change less often. */
const SLOW_EVERY = 3;
const ANSWER_MS = 8000;
const HISTORY = 90;
const TYPING_MS = 250;

const at = (id) => document.getElementById(id);
const told = { history: [], trouble: {} };
let before = null;
let turn = 0;
let paused = false;
let timer = null;
let routes_of = null;
let running = false;

class Refused extends Error {
  constructor(status, text) {
    super(text);
    this.status = status;
  }
}

async function ask(path) {
  const key = sessionStorage.getItem(KEY);
  const answer = await fetch(path, { headers: { "X-API-KEY": key ?? "" }, credentials: "omit", cache: "no-store", signal: AbortSignal.timeout(ANSWER_MS) });
  const document = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Refused(answer.status, answer.status === 401 ? "The Admin API does not know this key." : document.error_msg ?? `the Admin API answers ${answer.status}`);
  return document;
}

/** Keeps the answer, or what is wrong; a data plane of another release may lack what is `optional`. */
async function note(name, path, optional = false) {
  try {
    told[name] = await ask(path);
    delete told.trouble[name];
  } catch (error) {
    if (error.status === 401) throw error;
    told[name] = null;
    if (optional) return;
    told.trouble[name] = error instanceof Refused ? error.message : `the control plane does not answer (${error.message})`;
  }
}

function rates() {
  const now = told.counters;
  const then = before?.counters;
  const same = now && then && before.pid === told.info?.pid && now[0]?.at_ms > then[0]?.at_ms;
  if (same) {
    const passed = (now[0].at_ms - then[0].at_ms) / 1000;
    const each = (one, other) => (other === undefined || one < other ? null : (one - other) / passed);
    const sum = (list, name) => list.reduce((total, core) => total + core[name], 0);
    const whole = (name) => each(sum(now, name), sum(then, name));
    told.rates = { requests: whole("requests"), client_errors: whole("responses_4xx"), server_errors: whole("responses_5xx"), retries: whole("upstream_retries") };
    told.core_rates = now.map((core, index) => each(core.requests, then[index]?.requests));
    told.node_rates = {};
    for (const [name, node] of Object.entries(nodes())) told.node_rates[name] = { requests: each(node.requests, before.nodes[name]?.requests) };
    told.history.push(told.rates.requests ?? 0);
    told.history.splice(0, Math.max(0, told.history.length - HISTORY));
  } else if (before === null || told.info?.pid !== before.pid) {
    told.rates = told.core_rates = told.node_rates = null;
  }
  if (now) before = { counters: now, pid: told.info?.pid, nodes: nodes() };
}

function nodes() {
  return Object.fromEntries((told.upstreams ?? []).flatMap((upstream) => upstream.nodes.map((node) => [`${upstream.key} ${node.address}`, node])));
}

async function refresh() {
  const plane = "/v1/dataplane/";
  const asked = [note("info", `${plane}info`), note("snapshot", `${plane}snapshot`, true), note("cores", `${plane}cores`), note("counters", `${plane}counters`, true), note("latency", `${plane}latency`, true), note("upstreams", `${plane}upstreams`, true)];
  if (turn % SLOW_EVERY === 0) asked.push(note("nodes", "/v1/nodes"), changes());
  turn += 1;
  const ended = await Promise.allSettled(asked);
  const failed = ended.find((one) => one.status === "rejected");
  if (failed) throw failed.reason;
  rates();
  draw();
  const revision = told.info?.version?.text;
  if (revision !== routes_of) {
    routes_of = revision;
    await search();
  }
}

function draw() {
  const wrong = views.problems(told);
  at("node").textContent = told.nodes?.this?.node ?? told.info?.node ?? "";
  document.title = `${wrong.length ? "! " : ""}Ringway ${at("node").textContent}`;
  const state = at("state");
  state.textContent = wrong.length === 0 ? "in step" : "degraded";
  state.className = `pill ${wrong.length === 0 ? "good" : "bad"}`;
  const list = at("problems");
  list.hidden = wrong.length === 0;
  const lines = wrong.join("\n");
  // Only a change is read out.
  if (list.dataset.lines !== lines) {
    list.dataset.lines = lines;
    fill(list, ...wrong.map((one) => el("li", {}, one)));
  }
  fill(at("tiles"), ...views.tiles(told));
  fill(at("fleet"), views.fleet(told));
  fill(at("cores"), views.cores(told));
  fill(at("upstreams"), views.upstreams(told));
  at("clock").textContent = new Date().toLocaleTimeString();
}

async function changes() {
  try {
    const history = await ask("/v1/changes?limit=12");
    fill(at("changes"), ...views.changes(history.list));
  } catch (error) {
    if (error.status === 401) throw error;
    fill(at("changes"), el("p", { class: "quiet" }, error.message));
  }
}

async function search() {
  const wanted = at("search").value;
  try {
    const found = await ask(`/v1/dataplane/routes?limit=100&search=${encodeURIComponent(wanted)}`);
    if (wanted !== at("search").value) return;
    at("routes-count").textContent = found.matching > found.list.length ? `the first ${found.list.length} of ${found.matching} paths` : `${found.matching} of ${found.total} paths`;
    fill(at("routes"), views.routes(found, show));
  } catch (error) {
    fill(at("routes"), el("p", { class: "error" }, error.message));
  }
}

async function show(id) {
  at("object-title").textContent = `routes/${id}`;
  at("object-text").textContent = "…";
  at("object").showModal();
  try {
    const object = await ask(`/apisix/admin/routes/${encodeURIComponent(id)}`);
    at("object-text").textContent = JSON.stringify(object.value, null, 2);
  } catch (error) {
    at("object-text").textContent = error.message;
  }
}

async function explain(event) {
  event.preventDefault();
  const words = ["method", "host", "path", "from"].map((name) => `${name}=${encodeURIComponent(at(name).value.trim())}`);
  try {
    fill(at("explained"), ...views.explained(await ask(`/v1/dataplane/explain?${words.join("&")}`)));
  } catch (error) {
    fill(at("explained"), el("p", { class: "error" }, error.message));
  }
}

function gate(text = "") {
  clearTimeout(timer);
  sessionStorage.removeItem(KEY);
  for (const id of ["board", "pause", "forget"]) at(id).hidden = true;
  at("gate").hidden = false;
  at("gate-error").textContent = text;
  at("state").textContent = "";
  at("key").value = "";
  at("key").focus();
}

async function loop() {
  clearTimeout(timer);
  if (running) return;
  if (!paused && !document.hidden) {
    running = true;
    try {
      await refresh();
      for (const id of ["board", "pause", "forget"]) at(id).hidden = false;
      at("gate").hidden = true;
    } catch (error) {
      if (error.status === 401) {
        gate(error.message);
        return;
      }
      // A fault of this page; the next turn may go well.
      console.error(error);
    } finally {
      running = false;
    }
  }
  clearTimeout(timer);
  timer = setTimeout(loop, EVERY_MS);
}

function start() {
  at("gate").addEventListener("submit", (event) => {
    event.preventDefault();
    // A key goes into a header field: what is no character of one is a slip of pasting.
    sessionStorage.setItem(KEY, at("key").value.replaceAll(/[^\x21-\x7e]/g, ""));
    turn = 0;
    loop();
  });
  at("forget").addEventListener("click", () => gate());
  at("pause").addEventListener("click", () => {
    paused = !paused;
    at("pause").textContent = paused ? "Go on" : "Pause";
    at("pause").setAttribute("aria-pressed", String(paused));
    if (!paused) loop();
  });
  at("explain").addEventListener("submit", explain);
  at("object-close").addEventListener("click", () => at("object").close());
  let typing = null;
  at("search").addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(search, TYPING_MS);
  });
  document.addEventListener("visibilitychange", () => !document.hidden && sessionStorage.getItem(KEY) && loop());
  if (sessionStorage.getItem(KEY)) loop();
  else gate();
}

start();
