// Follows the event stream and patches the rows that the server rendered, in
// place. It writes the same texts as page.go.
"use strict";

const remembered = 60, height = 20;
const $ = (selector, from = document) => from.querySelector(selector);
const histories = new Map(); // by row: what the stream sends piece by piece

// The texts, as page.go has them.
const count = n => Math.round(n).toString().replace(/\B(?=(\d{3})+$)/g, ",");
const rate = v => v > 0 && v < 9.95 ? v.toFixed(1) : count(v);
const ms = v => v === 0 ? "–" : v < 0.995 ? v.toFixed(2) : v < 99.95 ? v.toFixed(1) : count(v);
const errors = t => t.errors === 0 ? "0" : `${count(t.errors)} (${t.error_percent} %)`;
const two = n => String(n).padStart(2, "0");
function seconds(v) {
  const n = Math.floor(v);
  if (v < 0) return "never";
  if (v < 9.95) return v.toFixed(1) + " s";
  if (n < 60) return `${n} s`;
  if (n < 3600) return `${Math.floor(n / 60)} min ${two(n % 60)} s`;
  if (n < 86400) return `${Math.floor(n / 3600)} h ${two(Math.floor(n / 60) % 60)} min`;
  return `${Math.floor(n / 86400)} d ${two(Math.floor(n / 3600) % 24)} h`;
}

// Nothing is touched that stays as it is: selections and focus survive.
function text(el, value) {
  if (el.textContent !== value) el.textContent = value;
}
function attr(el, name, value) {
  if (value === null) el.removeAttribute(name);
  else if (el.getAttribute(name) !== value) el.setAttribute(name, value);
}
function element(name, value, properties = {}) {
  const el = Object.assign(document.createElement(name), properties);
  el.append(...[value].flat());
  return el;
}

// spark draws into an svg of page.go's function of that name.
function spark(svg, values, errors = [], top = 0) {
  top = top || Math.max(...values, 0);
  const y = v => (top > 0 ? height - (height - 2) * Math.min(1, v / top) : height).toFixed(1);
  const from = remembered - values.length;
  const line = values.map((v, i) => `L${from + i} ${y(v)}`).join("");
  attr($(".line", svg), "d", line && "M" + line.slice(1));
  attr($(".area", svg), "d", line && `M${from} ${height}${line}V${height}Z`);
  attr($(".marks", svg), "d", errors.map((v, i) => v > 0 ? `M${remembered - errors.length + i} ${height}v-5` : "").join(""));
}

// remember keeps a minute of what came for a row.
function remember(key, news, full) {
  let known = histories.get(key);
  if (full || !known) histories.set(key, known = {});
  for (const [name, values] of Object.entries(news)) {
    known[name] = (known[name] ?? []).concat(values).slice(-remembered);
  }
  return known;
}

// numbers patches the cells that service and endpoint have in common.
function numbers(fields, t) {
  text(fields.rate, rate(t.rps));
  text(fields.p50, ms(t.p50_ms));
  text(fields.p99, ms(t.p99_ms));
  text(fields.errors, errors(t));
  attr(fields.errors, "data-errors", t.errors ? "" : null);
  text(fields.inflight, String(t.in_flight));
}

const fieldsOf = tr => Object.fromEntries([...tr.querySelectorAll("[data-f]")].map(el => [el.dataset.f, el]));

// patch makes the elements behind anchor stand for items: known ones stay, new
// ones are clones of a template, those of no item go.
function patch(anchor, items, keyOf, template, update) {
  const known = new Map();
  for (let el = anchor.nextElementSibling; el; el = el.nextElementSibling) known.set(el.dataset.key, el);
  let before = anchor;
  for (const item of items) {
    const key = keyOf(item);
    let el = known.get(key);
    known.delete(key);
    if (!el) {
      el = template.content.firstElementChild.cloneNode(true);
      el.dataset.key = key;
      el.classList.add("new");
    }
    if (before.nextElementSibling !== el) before.after(el);
    update(el, item);
    before = el;
  }
  for (const el of known.values()) el.remove();
}

function showService(tbody, svc, full) {
  const head = tbody.firstElementChild, fields = fieldsOf(head);
  attr(head, "data-state", svc.state);
  text(fields.name, svc.name);
  fields.unexposed.hidden = svc.exposed;
  if (fields.routes.textContent.trim() !== svc.routes.join(" ")) {
    fields.routes.replaceChildren(...svc.routes.flatMap(r => [element("code", r), " "]));
  }
  text(fields.state, svc.summary);
  attr(fields.state, "data-state", svc.state);
  numbers(fields, svc);
  const history = remember(svc.name, svc.history, full);
  spark($(".spark", head), history.rps, history.eps);

  const keyOf = e => `${e.id} ${e.addr}`;
  const rows = new Map(svc.endpoints.map(e => [keyOf(e), remember(`${svc.name} ${keyOf(e)}`, e.history, full)]));
  const top = Math.max(0, ...[...rows.values()].flatMap(h => h.rps));
  patch(head, svc.endpoints, keyOf, $("#new-endpoint"), (tr, e) => {
    const fields = fieldsOf(tr), history = rows.get(keyOf(e)), share = Math.round(100 * e.share);
    attr(tr, "data-state", e.state);
    text(fields.name, e.id);
    text(fields.addr, e.id === e.addr ? "" : e.addr);
    text(fields.state, e.state);
    attr(fields.state, "data-state", e.state);
    text(fields.reason, e.reason ?? "");
    text(fields.share, `${share} %`);
    attr($(".fill", tr), "width", String(share));
    numbers(fields, e);
    spark($(".spark", tr), history.rps, history.eps, top);
  });
}

// list replaces the children of el when what they say has changed.
function list(el, children) {
  const fresh = element("div", children);
  if (fresh.innerHTML !== el.innerHTML.trim()) el.replaceChildren(...fresh.childNodes);
}

function showHead(status) {
  document.title = `${status.ready ? "" : "▲ "}${rate(status.total.rps)} req/s · muster ${status.host}`;
  text($("#uptime"), seconds((new Date(status.at) - new Date(status.started)) / 1000));
  text($("#ready"), status.ready ? "ready" : `not ready: ${status.not_ready}`);
  attr($("#ready"), "data-state", status.ready ? "up" : "failing");
  const store = status.store;
  if (store) {
    text($("#store"), `store ${store.url ?? ""} · ` + (!store.ready ? "no answer yet"
      : `revision ${store.revision} · ${store.stale ? "stale, " : ""}last sign of life ${seconds(store.age_s)} ago`));
    attr($("#store"), "data-state", store.ready && !store.stale ? "up" : "failing");
  }
}

function showTotal(total, full) {
  const history = remember("", total.history, full);
  text($("#total-rate"), rate(total.rps));
  $("#total-ms").replaceChildren(`${ms(total.p50_ms)} `, element("i", "/"), ` ${ms(total.p99_ms)}`);
  text($("#total-errors"), errors(total));
  attr($("#card-errors"), "data-errors", total.errors ? "" : null);
  text($("#total-inflight"), String(total.in_flight));
  const charts = document.querySelectorAll(".card .spark");
  [history.rps, history.p99_ms, history.eps, history.in_flight].forEach((values, i) => spark(charts[i], values ?? []));
}

function show(status, full) {
  if (full) histories.clear();
  document.body.classList.remove("lost");
  showHead(status);
  showTotal(status.total, full);
  list($("#notes"), status.notes.map(n => {
    const li = element("li", [element("b", n.level.toLowerCase()), " ", element("span", n.service ? [element("strong", n.service), " " + n.text] : n.text)]);
    li.dataset.level = n.level.toLowerCase();
    return li;
  }));
  patch($("#services thead"), status.services, s => s.name, $("#new-service"), (tbody, svc) => showService(tbody, svc, full));
  $("#none").hidden = status.services.length > 0;
  $("#omitted").hidden = !status.omitted;
  text($("#omitted span"), String(status.omitted ?? 0));
  const row = (head, ...cells) => element("tr", [element("th", head, {scope: "row"}), ...cells.map(c => element("td", c))]);
  const nothing = (span, why) => [element("tr", element("td", why, {colSpan: span, className: "empty"}))];
  list($("#routes tbody"), status.routes.length === 0 ? nothing(4, "No route: every request gets 404.")
    : status.routes.map(r => row(element("code", r.match), r.service, r.source, (r.shadows ?? []).join(", ") || "–")));
  const refused = Object.entries(status.refused ?? {});
  list($("#refused tbody"), refused.length === 0 ? nothing(2, "none") : refused.map(([code, n]) => row(code, count(n))));
  text($("#listeners"), status.listeners.join(", ") || "nothing");
  filter();
}

// filter hides what does not hold the text of the field.
function filter() {
  const want = $("#filter").value.trim().toLowerCase();
  for (const tbody of document.querySelectorAll("#services tbody")) {
    const whole = $(".service", tbody).textContent.toLowerCase().includes(want);
    let any = whole;
    for (const tr of tbody.querySelectorAll(".endpoint")) {
      tr.hidden = !whole && !tr.textContent.toLowerCase().includes(want);
      any ||= !tr.hidden;
    }
    tbody.hidden = !any;
  }
}

$("#filter").hidden = false;
$("#filter").addEventListener("input", filter);
document.addEventListener("keydown", e => {
  if (e.key === "/" && e.target !== $("#filter")) {
    e.preventDefault();
    $("#filter").focus();
  }
});

const stream = new EventSource("api/v1/stream");
stream.addEventListener("full", e => show(JSON.parse(e.data), true));
stream.addEventListener("tick", e => show(JSON.parse(e.data), false));
stream.addEventListener("error", () => {
  document.body.classList.add("lost"); // EventSource tries again by itself
  text($("#ready"), "connection lost, trying again");
  attr($("#ready"), "data-state", "failing");
});
