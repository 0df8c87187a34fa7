// The page of a node: it listens to /api/events, asks for what is new, and shows it.

import { $, ask, clean, count, el, error, fill, metric, peerName, short, span, when } from "./dom.js";
import { beyond, drawProgress } from "./charts.js";
import { showExperiment } from "./experiment.js";

// So many of the latest experiments are kept; the rest is in waggle log.
const MOST_ROWS = 20000;
// Rows of the table that are shown at first, and with each press of the button.
const PAGE_ROWS = 50;
// While records pour in, all is drawn this often.
const DRAW_MS = 1000;

const state = { status: null, rows: [], places: new Map(), next: 0, count: 0, course: { steps: [], standings: {} }, tier: "", shown: PAGE_ROWS };
const say = (words) => { $("told").textContent = clean(words); };

// ---- what is new

let busy = false, missed = false;

async function refresh() {
  if (busy) { missed = true; return; }
  busy = true;
  try {
    do {
      missed = false;
      await take();
      const [course] = await Promise.all([ask(`/api/course?tier=${encodeURIComponent(state.tier)}`), shownView()]);
      state.course = course;
      draw();
      if (missed) await new Promise((done) => setTimeout(done, DRAW_MS));
    } while (missed);
  } catch (error) {
    say(`the node does not answer: ${error.message}`);
  } finally {
    busy = false;
  }
}

async function take() {
  for (;;) {
    const found = await ask(`/api/experiments?after=${state.next}`);
    for (const row of found.rows) {
      row.place = ++state.count;
      row.words = `${row.summary} ${row.commit} ${row.peer}`.toLowerCase();
      state.places.set(row.id, row.place);
      state.rows.push(row);
    }
    state.next = found.next;
    if (found.next >= found.records) break;
  }
  for (const row of state.rows.splice(0, Math.max(0, state.rows.length - MOST_ROWS))) state.places.delete(row.id);
}

function listen() {
  const events = new EventSource("/api/events");
  let records = -1;
  events.addEventListener("status", (event) => {
    state.status = JSON.parse(event.data);
    $("link").textContent = "";
    document.title = `${metric(state.status.global_best?.metric)} · ${clean(state.status.program)} · waggledance`;
    showStatus();
    if (state.status.records !== records) {
      records = state.status.records;
      refresh();
    }
  });
  events.addEventListener("error", () => {
    $("link").textContent = "The node does not answer; this page tries again by itself.";
    $("link").className = "bad";
  });
}

// ---- the progress view

function best(name, found, about, kind = "") {
  const value = found ? metric(found.metric) : "none yet";
  const sure = found && found.error ? `± ${error(1.96 * found.error)}, ${count(found.runs, "run")}` : about;
  return el("div", { class: kind }, el("dt", {}, name), el("dd", {}, value, el("small", {}, sure)));
}

const figure = (name, value, about = "") => el("div", {}, el("dt", {}, name), el("dd", {}, value, about ? el("small", {}, about) : null));

function showStatus() {
  const now = state.status;
  $("what").textContent = `${clean(now.program)} · swarm ${now.swarm_id.slice(0, 12)} · ${clean(now.tier)} · sandbox ${clean(now.sandbox)}`;
  const counts = now.experiments, nodes = Object.values(now.nodes).reduce((a, b) => a + b, 0);
  fill($("headlines"),
    best(`Global best ${clean(now.metric.name)}`, now.global_best, `${now.metric.goal}, ${clean(now.metric.unit)}`, "best"),
    best("Proven", now.proven[now.tier], "by confirmations alone"),
    figure("Experiments", String(counts.total), `${counts.own} of them mine`),
    figure("Accepted", String(counts.accepted), `${counts.promising} promising`),
    figure("Nodes", String(nodes), `${now.peers.length} connected`),
    figure("Best since", now.global_best ? span((Date.now() - now.global_best.created_ms) / 1000) : "–"));
  showRunning(now);
  showReviews(now);
  showTiers(now);
  $("operate").hidden = false;
  $("pause").textContent = now.paused ? "Resume" : "Pause";
  $("pause").disabled = Boolean(now.stopped);
}

function showRunning(now) {
  const items = now.current.map((one) => el("p", {},
    el("progress", { max: "1", value: String(Math.min(1, one.fraction)), "aria-label": "part of the budget used" }), " ",
    `${one.origin} of ${short(one.commit)}: ${one.phase}${one.loss === null ? "" : `, loss ${metric(one.loss)}`} `,
    el("span", { class: "quiet" }, clean(one.summary))));
  const nothing = now.stopped ? `No further experiments: ${now.stopped}.` : now.paused ? "Paused: no new experiment begins." : "Nothing at this moment.";
  fill($("running"), ...(items.length ? items : [el("p", { class: "quiet" }, clean(nothing))]),
    ...(items.length && now.paused ? [el("p", { class: "quiet" }, "Paused: no further one begins.")] : []),
    el("p", { class: "quiet", id: "idle" }, idleText(now.idle)));
}

function idleText(shares) {
  const told = Object.entries(shares);
  const percent = (share) => `${(100 * share).toFixed(1)} %`;
  const causes = told.map(([cause, share]) => `${cause} ${percent(share)}`).join(", ");
  return `Idle ${percent(told.reduce((sum, [, share]) => sum + share, 0))} of the lanes' time${causes ? ` (${causes})` : ""}.`;
}

function showReviews(now) {
  $("reviews").hidden = !now.awaiting.length;
  fill($("awaiting"), ...now.awaiting.map((one) => {
    const run = state.rows.find((row) => row.commit === one.commit);
    const name = `${short(one.commit)} ${metric(one.metric)} ${clean(one.summary)}`;
    return el("li", {}, run ? el("a", { href: `#/experiment/${run.id}` }, name) : name);
  }));
}

function options(select, values, chosen) {
  const have = [...select.options].map((option) => option.value).filter(Boolean);
  if (JSON.stringify(have) === JSON.stringify(values)) return;
  const keep = select.options.length && !select.options[0].value ? [select.options[0]] : [];
  select.replaceChildren(...keep, ...values.map((value) => el("option", { value }, clean(value))));
  select.value = chosen;
}

function filtered() {
  const [words, status, origin, standing] = ["search", "status", "origin", "standing"].map((id) => $(id).value);
  const wanted = words.trim().toLowerCase();
  return state.rows.filter((row) =>
    (!wanted || row.words.includes(wanted)) && (!status || row.status === status) && (!origin || row.origin === origin) &&
    (!standing || state.course.standings[row.commit] === standing));
}

function draw() {
  const now = state.status;
  const tiers = [...new Set(state.rows.map((row) => row.tier))].sort();
  if (!state.tier && now) state.tier = tiers.includes(now.tier) ? now.tier : tiers[0] ?? "";
  options($("tier"), tiers, state.tier);
  options($("status"), [...new Set(state.rows.map((row) => row.status))].sort(), $("status").value);
  options($("origin"), [...new Set(state.rows.map((row) => row.origin))].sort(), $("origin").value);
  drawTable();
  if (now && !$("progress").hidden) {
    const rows = state.rows.filter((row) => row.tier === state.tier);
    const label = [clean(now.metric.name), clean(now.metric.unit) && `(${clean(now.metric.unit)})`].filter(Boolean).join(" ");
    drawProgress($("chart"), rows, state.course.steps, state.places, { label, goal: now.metric.goal, tier: state.tier }, pick);
    $("chart-says").textContent = caption(rows);
  }
}

function caption(rows) {
  const steps = state.course.steps, last = steps[steps.length - 1];
  const told = [`${count(rows.length, "experiment")} in this tier`];
  const far = beyond(rows, steps, state.status.metric.goal);
  if (far) told.push(`, ${far} of them worse than the picture shows`);
  if (!last) told.push("; none is accepted yet.");
  else if (steps.length === 1) told.push(`. The program as its author wrote it came to ${metric(last.value)}; nothing better is accepted yet.`);
  else told.push(`. The best went from ${metric(steps[0].value)} to ${metric(last.value)} in ${count(steps.length - 1, "step")}, the latest: ${clean(last.summary)}.`);
  told.push(" Drag to look closer, double-click a dot to open it.");
  return told.join("");
}

const pick = (place) => {
  const row = state.rows.find((one) => one.place === place);
  if (row) location.hash = `#/experiment/${row.id}`;
};

function drawTable() {
  const rows = filtered(), me = state.status?.peer_id;
  const some = rows.slice(-state.shown).reverse();
  fill($("rows"), ...some.map((row) => {
    const standing = state.course.standings[row.commit] ?? "";
    return el("tr", {},
      el("td", { class: "quiet" }, String(row.place)),
      el("td", { class: "summary" }, el("a", { href: `#/experiment/${row.id}` }, clean(row.summary) || short(row.commit))),
      el("td", { class: "number" }, metric(row.metric)), el("td", { class: standing }, standing),
      el("td", { class: ["scored", "stopped early"].includes(row.status) ? "" : "bad" }, clean(row.status)), el("td", {}, clean(row.origin)),
      el("td", { title: clean(row.peer) }, peerName(row.peer, me)), el("td", {}, when(row.created_ms)));
  }));
  $("count").textContent = `${rows.length} of ${state.rows.length} experiments, the latest first`;
  $("more").hidden = rows.length <= state.shown;
}

// ---- the other views

function showTiers(now) {
  const tiers = [...new Set([...Object.keys(now.incumbents), ...Object.keys(now.nodes)])].sort();
  fill($("tiers-rows"), ...tiers.map((tier) => el("tr", {},
    el("td", {}, clean(tier), tier === now.tier ? " (mine)" : ""), el("td", { class: "number" }, String(now.nodes[tier] ?? 0)),
    el("td", { class: "number" }, metric(now.incumbents[tier]?.metric)), el("td", { class: "number" }, metric(now.proven[tier]?.metric)),
    el("td", { class: "summary" }, clean(now.incumbents[tier]?.summary)))));
}

async function showNodes() {
  const nodes = await ask("/api/peers");
  fill($("nodes-rows"), ...nodes.map((one) => el("tr", {},
    el("td", {}, el("code", {}, clean(one.peer)), one.me ? " (me)" : ""), el("td", {}, clean(one.tier)),
    el("td", { class: "number" }, String(one.experiments)), el("td", { class: "number" }, String(one.records)),
    el("td", { class: "number" }, String(one.peers)), el("td", {}, one.me ? "–" : one.connected ? "yes" : "no"),
    el("td", {}, clean(one.version)))));
}

async function showLineage() {
  const { tier, candidates } = await ask(`/api/lineage?tier=${encodeURIComponent(state.tier)}`);
  $("lineage-tier").textContent = clean(tier);
  const below = Map.groupBy ? Map.groupBy(candidates, (one) => one.parent) : grouped(candidates);
  const item = (one) => {
    const run = state.rows.find((row) => row.commit === one.commit);
    const name = clean(one.summary) || short(one.commit);
    return el("li", { class: one.on_line ? "line" : "" }, el("span", { class: "item" },
      run ? el("a", { href: `#/experiment/${run.id}` }, name) : name, " ",
      el("span", { class: `value ${one.level}` }, `${metric(one.value)}${one.level ? `, ${one.level}` : ""}`),
      el("span", { class: "quiet" }, ` ${count(one.runs, "run")}${one.on_line ? ", on the way to the incumbent" : ""}`)),
    below.has(one.commit) ? list(below.get(one.commit)) : null);
  };
  // The way to the incumbent comes first, so that it can be read from the top.
  const list = (some) => el("ul", {}, ...[...some].sort((a, b) => b.on_line - a.on_line).map(item));
  fill($("tree"), below.has(null) ? list(below.get(null)) : el("p", { class: "quiet" }, "Nothing yet."));
}

function grouped(candidates) {
  const found = new Map();
  for (const one of candidates) found.set(one.parent, [...(found.get(one.parent) ?? []), one]);
  return found;
}

const VIEWS = { lineage: showLineage, nodes: showNodes };
const where = () => location.hash.slice(2).split("/");

async function shownView() {
  await VIEWS[where()[0]]?.();
}

async function route() {
  const [view, id] = where();
  const shown = view === "experiment" || VIEWS[view] ? view : "progress";
  for (const name of ["progress", "experiment", "lineage", "nodes"]) $(name).hidden = name !== shown;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.getAttribute("href") === (shown === "progress" ? "#/" : `#/${shown}`)) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  try {
    if (shown === "experiment" && state.status) await showExperiment(id, state.status, say);
    else if (shown === "progress") draw();
    else await VIEWS[shown]();
  } catch (error) {
    say(error.message);
  }
}

async function operate() {
  try {
    await ask(state.status.paused ? "/api/resume" : "/api/pause", {});
    say("");
  } catch (error) {
    const token = prompt(`${error.message}. The token is in the file "token" of the node's home:`);
    if (token) {
      sessionStorage.setItem("token", token.trim());
      await operate();
    }
  }
}

$("pause").addEventListener("click", operate);
$("more").addEventListener("click", () => { state.shown += PAGE_ROWS; drawTable(); });
for (const event of ["input", "change"]) {
  $("filters").addEventListener(event, () => { state.shown = PAGE_ROWS; drawTable(); });
}
$("filters").addEventListener("submit", (event) => event.preventDefault());
$("tier").addEventListener("change", () => { state.tier = $("tier").value; refresh(); });
addEventListener("hashchange", route);

state.status = await ask("/api/status").catch(() => null);
state.tier = state.status?.tier ?? "";
if (state.status) showStatus();
await route();
listen();
