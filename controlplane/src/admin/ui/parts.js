// Small parts of the page. Every text from outside becomes a text node here and nowhere markup.

/** An element; `attributes.on` are listeners, children are elements or texts. */
export function el(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "on") {
      for (const [event, listener] of Object.entries(value)) made.addEventListener(event, listener);
    } else if (value !== null && value !== undefined && value !== false) {
      made.setAttribute(name, value === true ? "" : String(value));
    }
  }
  made.append(...children.filter((child) => child !== null && child !== undefined).map((child) => (child instanceof Node ? child : String(child))));
  return made;
}

/** Puts children in place of what is there; what has the focus or is open stays so, by its `data-key`. */
export function fill(place, ...children) {
  const focused = place.contains(document.activeElement) ? document.activeElement.dataset.key : null;
  const open = new Set([...place.querySelectorAll("details[open][data-key]")].map((one) => one.dataset.key));
  place.replaceChildren(...children.filter((child) => child !== null && child !== undefined));
  for (const one of place.querySelectorAll("details[data-key]")) one.open = open.has(one.dataset.key);
  if (focused) [...place.querySelectorAll("[data-key]")].find((one) => one.dataset.key === focused)?.focus();
}

/** A table; a column is [title, cell of a row, kind], kind `number`, `code` or nothing. */
export function table(name, columns, rows) {
  if (rows.length === 0) return el("p", { class: "quiet" }, "none");
  const head = columns.map(([title, , kind]) => el("th", { scope: "col", class: kind }, title));
  const body = rows.map((row) => el("tr", {}, ...columns.map(([, cell, kind]) => el("td", { class: kind }, cell(row)))));
  return el("table", { "aria-label": name }, el("thead", {}, el("tr", {}, ...head)), el("tbody", {}, ...body));
}

/** A state as a word; colour only beside it. */
export function pill(word, manner) {
  return el("span", { class: `pill ${manner}` }, word);
}

/** A line over time. */
export function spark(values, label) {
  const svg = (tag, attributes, ...children) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, String(value));
    made.append(...children);
    return made;
  };
  const most = Math.max(1, ...values);
  const step = 100 / Math.max(1, values.length - 1);
  const points = values.map((value, at) => `${(at * step).toFixed(1)},${(29 - (value / most) * 27).toFixed(1)}`);
  const drawing = svg("svg", { viewBox: "0 0 100 30", preserveAspectRatio: "none", role: "img", "aria-label": label });
  if (values.length > 1) {
    drawing.append(svg("polygon", { class: "spark-area", points: `0,30 ${points.join(" ")} 100,30` }));
    drawing.append(svg("polyline", { class: "spark-line", points: points.join(" ") }));
  }
  return drawing;
}

export function count(number) {
  return number === null || number === undefined ? "–" : new Intl.NumberFormat("en-GB").format(number);
}

export function rate(number) {
  if (number === null || number === undefined) return "–";
  return number > 0 && number < 10 ? number.toFixed(1) : count(Math.round(number));
}

export function micros(us) {
  if (us === null || us === undefined) return "–";
  if (us < 1000) return `${us}\u00a0µs`;
  if (us < 1e6) return `${(us / 1e3).toPrecision(3)}\u00a0ms`;
  return `${(us / 1e6).toPrecision(3)}\u00a0s`;
}

export function span(ms) {
  if (ms === null || ms === undefined || Number.isNaN(ms)) return "–";
  const s = Math.max(0, Math.round(ms / 1000));
  if (s < 100) return `${s} s`;
  if (s < 6000) return `${Math.floor(s / 60)} min`;
  if (s < 172800) return `${Math.floor(s / 3600)} h`;
  return `${Math.floor(s / 86400)} d`;
}

/** What leads from one object to another, field by field: [pointer, before, after]; `undefined` where there is none. */
export function difference(before, after, at = "") {
  const is_object = (value) => value !== null && typeof value === "object" && !Array.isArray(value);
  if (is_object(before) && is_object(after)) {
    const names = [...new Set([...Object.keys(before), ...Object.keys(after)])].sort();
    return names.flatMap((name) => difference(before[name], after[name], `${at}/${name.replaceAll("~", "~0").replaceAll("/", "~1")}`));
  }
  return JSON.stringify(before) === JSON.stringify(after) ? [] : [[at, before, after]];
}
